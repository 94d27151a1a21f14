"""Digests of every posting under plans that a session makes once, accounts found by their whole key, and what matured
read for many payables at once."""

from django.db import migrations

from ledger.sql import script


class Migration(migrations.Migration):
    dependencies = [("ledger", "0016_advance_cancellations")]
    operations = [
        migrations.RunSQL("DROP FUNCTION IF EXISTS ledger_matured(text, text, text, text, date)"),
        *(migrations.RunSQL(script(name)) for name in ("posting", "privileges")),
    ]
