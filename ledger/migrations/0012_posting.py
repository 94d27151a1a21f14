"""Balances and accounts are read under a plan that a session makes once."""

from django.db import migrations

from ledger.sql import script


class Migration(migrations.Migration):
    dependencies = [("ledger", "0011_withholding")]
    operations = [
        migrations.RunSQL(script(name), migrations.RunSQL.noop) for name in ("posting", "privileges")
    ]
