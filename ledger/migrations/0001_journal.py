"""The journal's tables, guards and functions: plain SQL, because of their partitions, triggers and privileges."""

from django.db import migrations

from ledger.sql import script


class Migration(migrations.Migration):
    initial = True
    dependencies = [("config", "0001_privileges")]
    operations = [
        migrations.RunSQL(script(name), migrations.RunSQL.noop) for name in ("schema", "chart", "guards", "posting")
    ]
