"""The digests of every posting are computed under plans that a session makes once."""

from django.db import migrations

from ledger.sql import script


class Migration(migrations.Migration):
    dependencies = [("ledger", "0016_advance_cancellations")]
    operations = [migrations.RunSQL(script("posting"))]
