"""A top-up that came back is booked back (sql/top_up_reversals.sql)."""

from pathlib import Path

from django.db import migrations, models

REVERSALS = (Path(__file__).resolve().parent.parent / "sql" / "top_up_reversals.sql").read_text()


class Migration(migrations.Migration):

    dependencies = [
        ('payouts', '0008_top_up_answers'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='topup',
            name='a_top_up_that_succeeded_is_booked',
        ),
        migrations.AddField(
            model_name='topup',
            name='reversal_entry',
            field=models.BigIntegerField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='topup',
            name='state',
            field=models.CharField(choices=[('requested', 'Requested'), ('succeeded', 'Succeeded'), ('failed', 'Failed'), ('reversed', 'Reversed')], default='requested', max_length=9),
        ),
        migrations.AddConstraint(
            model_name='topup',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state__in', ['succeeded', 'reversed']), _negated=True), models.Q(('entry__isnull', False), ('provider_topup_id__isnull', False)), _connector='OR'), name='a_top_up_that_succeeded_is_booked'),
        ),
        migrations.AddConstraint(
            model_name='topup',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('reversal_entry__isnull', False), ('state', 'reversed')), models.Q(models.Q(('state', 'reversed'), _negated=True), ('reversal_entry__isnull', True)), _connector='OR'), name='a_top_up_that_came_back_is_booked_back'),
        ),
        migrations.RunSQL(REVERSALS, migrations.RunSQL.noop),
    ]
