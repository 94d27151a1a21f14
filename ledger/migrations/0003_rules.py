"""State machines of plans and refusals, and what the application role may do."""

from django.db import migrations

from ledger.sql import script


class Migration(migrations.Migration):
    dependencies = [("ledger", "0002_models")]
    operations = [migrations.RunSQL(script(name), migrations.RunSQL.noop) for name in ("plans", "privileges")]
