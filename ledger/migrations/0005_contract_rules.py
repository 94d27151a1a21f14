"""Terms of contracts: proposed, adopted by somebody else, then fixed."""

from django.db import migrations

from ledger.sql import script


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_contracts")]
    operations = [migrations.RunSQL(script("contracts"), migrations.RunSQL.noop)]
