"""Make the journal's tables and its chart of accounts, by hand: SQL, because of their partitions and checks.

The models of these tables are unmanaged. This runs first, because tables of 0001_initial refer to them.
"""

from pathlib import Path

from django.db import migrations

JOURNAL = Path(__file__).with_suffix(".sql").read_text()


class Migration(migrations.Migration):
    dependencies = [("config", "0000_privileges"), ("people", "0001_initial")]
    operations = [migrations.RunSQL(JOURNAL, migrations.RunSQL.noop)]
