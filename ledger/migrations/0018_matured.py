"""Accounts are found by their whole key, and what matured is read for many payables at once."""

from django.db import migrations

from ledger.sql import script


class Migration(migrations.Migration):
    dependencies = [("ledger", "0017_digests")]
    operations = [
        migrations.RunSQL("DROP FUNCTION IF EXISTS ledger_matured(text, text, text, text, date)"),
        *(migrations.RunSQL(script(name)) for name in ("posting", "privileges")),
    ]
