"""Features that a service reports with a generation, for the index that takes them; neither ever changes."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

TRIGGER = """
DROP TRIGGER generation_stays_as_reported ON attribution_generation;
CREATE TRIGGER generation_stays_as_reported BEFORE UPDATE ON attribution_generation FOR EACH ROW
  WHEN ((OLD.id, OLD.service_id, OLD.external_id, OLD.model_version_id, OLD.modality, OLD.prompt_text, OLD.output_text,
         OLD.output_sha256, OLD.token_ids, OLD.features, OLD.features_index_id, OLD.occurred_at, OLD.received_at,
         OLD.gross, OLD.currency, OLD.request_sha256, OLD.request_parts)
        IS DISTINCT FROM
        (NEW.id, NEW.service_id, NEW.external_id, NEW.model_version_id, NEW.modality, NEW.prompt_text, NEW.output_text,
         NEW.output_sha256, NEW.token_ids, NEW.features, NEW.features_index_id, NEW.occurred_at, NEW.received_at,
         NEW.gross, NEW.currency, NEW.request_sha256, NEW.request_parts))
  EXECUTE FUNCTION attribution_refuse('what was reported does not change');
"""


class Migration(migrations.Migration):
    dependencies = [("attribution", "0004_builds_and_revisions")]
    operations = [
        migrations.AddField(
            model_name="attributionindex",
            name="feature_shape",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.IntegerField(), blank=True, null=True, size=2
            ),
        ),
        migrations.AddField(
            model_name="generation",
            name="features",
            field=models.BinaryField(blank=True, max_length=65536, null=True),
        ),
        migrations.AddField(
            model_name="generation",
            name="features_index",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="attribution.attributionindex",
            ),
        ),
        migrations.AlterField(
            model_name="servicekey",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    choices=[
                        ("generations:write", "Generations Write"),
                        ("generations:read", "Generations Read"),
                        ("models:write", "Models Write"),
                        ("features:write", "Features Write"),
                    ],
                    max_length=24,
                ),
                size=None,
            ),
        ),
        migrations.AddConstraint(
            model_name="generation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("features__isnull", True), ("features_index__isnull", True)),
                    models.Q(("features__isnull", False), ("features_index__isnull", False)),
                    _connector="OR",
                ),
                name="features_name_their_index",
            ),
        ),
        migrations.RunSQL(TRIGGER, migrations.RunSQL.noop),
    ]
