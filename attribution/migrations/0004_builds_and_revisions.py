"""Builds that workers share, revisions of an index, and the works that left one."""

import attribution.models
import django.db.models.deletion
from django.db import migrations, models


RULES = """
REVOKE UPDATE, DELETE ON attribution_indexrevision FROM tributary_app;
CREATE TRIGGER index_revision_is_append_only BEFORE UPDATE OR DELETE ON attribution_indexrevision
  FOR EACH ROW EXECUTE FUNCTION attribution_refuse('a revision of an index is kept');
REVOKE DELETE ON attribution_workremoval FROM tributary_app;
CREATE TRIGGER work_removal_is_kept BEFORE DELETE ON attribution_workremoval
  FOR EACH ROW EXECUTE FUNCTION attribution_refuse('a removal is ended by a restoration');
CREATE TRIGGER work_removal_stays_as_decided BEFORE UPDATE ON attribution_workremoval FOR EACH ROW
  WHEN ((OLD.id, OLD.model_version_id, OLD.work_id, OLD.reason, OLD.removed_at)
        IS DISTINCT FROM (NEW.id, NEW.model_version_id, NEW.work_id, NEW.reason, NEW.removed_at)
        OR OLD.restored_at IS NOT NULL)
  EXECUTE FUNCTION attribution_refuse('a removal changes only by its end');
"""


class Migration(migrations.Migration):

    dependencies = [
        ('attribution', '0003_attributors'),
        ('contributors', '0002_staff_groups'),
    ]

    operations = [
        migrations.AddField(
            model_name='attribution',
            name='index_revision',
            field=models.IntegerField(default=1),
        ),
        migrations.AddField(
            model_name='attributionindex',
            name='condition',
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AddField(
            model_name='attributionindex',
            name='queued_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='attributionindex',
            name='revision',
            field=models.IntegerField(default=1),
        ),
        migrations.CreateModel(
            name='BuildStep',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.SmallIntegerField()),
                ('stage', models.CharField(max_length=20)),
                ('member', models.IntegerField(default=0)),
                ('part', models.IntegerField(default=0)),
                ('failures', models.IntegerField(default=0)),
                ('error', models.CharField(blank=True, max_length=500)),
                ('done_at', models.DateTimeField(blank=True, null=True)),
                ('index', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='steps', to='attribution.attributionindex')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('done_at__isnull', True)), fields=['index', 'position'], name='build_step_to_do')],
                'constraints': [models.UniqueConstraint(fields=('index', 'stage', 'member', 'part'), name='a_build_has_a_step_once')],
            },
        ),
        migrations.CreateModel(
            name='IndexRevision',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('revision', models.IntegerField()),
                ('sha256', models.BinaryField(max_length=32)),
                ('removed_work_ids', attribution.models.PlainArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
                ('added_work_ids', attribution.models.PlainArrayField(base_field=models.BigIntegerField(), default=list, size=None)),
                ('created_at', models.DateTimeField()),
                ('index', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='revisions', to='attribution.attributionindex')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('index', 'revision'), name='an_index_has_a_revision_once'), models.CheckConstraint(condition=models.Q(('revision__gt', 0)), name='index_revision_is_positive')],
            },
        ),
        migrations.CreateModel(
            name='WorkRemoval',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reason', models.CharField(choices=[('consent', 'Consent withdrawn'), ('unlearned', 'The model no longer draws on it'), ('claim', "Another holder's claim")], max_length=10)),
                ('removed_at', models.DateTimeField()),
                ('restored_at', models.DateTimeField(blank=True, null=True)),
                ('model_version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='removals', to='attribution.modelversion')),
                ('work', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='removals', to='contributors.work')),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('restored_at__isnull', True)), fields=('model_version', 'work'), name='a_work_is_removed_from_a_model_version_once'), models.CheckConstraint(condition=models.Q(('reason__in', ['consent', 'unlearned', 'claim'])), name='a_removal_has_a_reason'), models.CheckConstraint(condition=models.Q(('restored_at__isnull', True), ('restored_at__gte', models.F('removed_at')), _connector='OR'), name='a_removal_ends_after_it_begins')],
            },
        ),
        migrations.RunSQL(RULES, migrations.RunSQL.noop),
    ]
