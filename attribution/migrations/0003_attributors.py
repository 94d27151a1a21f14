"""An index says which attributor makes its scores; that never changes."""

from django.db import migrations, models

TRIGGER = """
DROP TRIGGER index_stays_as_configured ON attribution_attributionindex;
CREATE TRIGGER index_stays_as_configured BEFORE UPDATE ON attribution_attributionindex FOR EACH ROW
  WHEN ((OLD.id, OLD.public_id, OLD.model_version_id, OLD.attributor, OLD.config, OLD.config_sha256, OLD.noise_z,
         OLD.created_at)
        IS DISTINCT FROM
        (NEW.id, NEW.public_id, NEW.model_version_id, NEW.attributor, NEW.config, NEW.config_sha256, NEW.noise_z,
         NEW.created_at))
  EXECUTE FUNCTION attribution_refuse('an index is what it was configured as; build another');
"""


class Migration(migrations.Migration):
    dependencies = [("attribution", "0002_rules")]
    operations = [
        migrations.AddField(
            model_name="attributionindex",
            name="attributor",
            field=models.CharField(
                choices=[
                    ("midpoint", "Influence by gradients"),
                    ("lexical", "Similarity of wording"),
                    ("hybrid", "Influence and similarity of wording"),
                    ("encoder", "Similarity of embeddings"),
                    ("pushed", "Features that the service reports"),
                ],
                default="midpoint",
                max_length=10,
            ),
        ),
        migrations.AddConstraint(
            model_name="attributionindex",
            constraint=models.CheckConstraint(
                condition=models.Q(("attributor__in", ["midpoint", "lexical", "hybrid", "encoder", "pushed"])),
                name="an_index_has_an_attributor_that_exists",
            ),
        ),
        migrations.RunSQL(TRIGGER, migrations.RunSQL.noop),
    ]
