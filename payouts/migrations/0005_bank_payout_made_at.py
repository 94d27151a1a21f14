"""When Stripe made a payout to a bank: of two that carry the same money the later one counts."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("payouts", "0004_tax_basis")]
    operations = [
        migrations.AddField(
            model_name="bankpayout", name="made_at", field=models.DateTimeField(blank=True, null=True)
        )
    ]
