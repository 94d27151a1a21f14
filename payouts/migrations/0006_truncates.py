"""Nobody empties a table of payouts (sql/truncates.sql)."""

from pathlib import Path

from django.db import migrations

TRUNCATES = (Path(__file__).resolve().parent.parent / "sql" / "truncates.sql").read_text()


class Migration(migrations.Migration):
    dependencies = [("payouts", "0005_bank_payout_made_at")]
    operations = [migrations.RunSQL(TRUNCATES, migrations.RunSQL.noop)]
