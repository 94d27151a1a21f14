"""State machines of plans, pools and restatements; parts of a pool and voids are written once."""

from django.db import migrations

from ledger.sql import script


class Migration(migrations.Migration):
    dependencies = [("ledger", "0009_plans")]
    operations = [migrations.RunSQL(script(name), migrations.RunSQL.noop) for name in ("plans", "pools")]
