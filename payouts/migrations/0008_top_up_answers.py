"""How often a top-up was sent, when it is looked at next, and that Stripe's answer is written once (sql/top_ups.sql)."""

from pathlib import Path

from django.db import migrations, models

TOP_UPS = (Path(__file__).resolve().parent.parent / "sql" / "top_ups.sql").read_text()


class Migration(migrations.Migration):
    dependencies = [("payouts", "0007_tax_forms")]
    operations = [
        migrations.AddField(
            model_name="topup", name="next_look_at", field=models.DateTimeField(blank=True, null=True)
        ),
        migrations.AddField(model_name="topup", name="sends", field=models.IntegerField(default=1)),
        migrations.AddField(model_name="topup", name="sends_not_executed", field=models.IntegerField(default=0)),
        migrations.RunSQL(TOP_UPS, migrations.RunSQL.noop),
    ]
