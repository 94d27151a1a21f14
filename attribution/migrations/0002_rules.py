"""What may change after it is written, and how: append-only rows, states that only go forward, credentials that stay."""

from django.db import migrations

RULES = """
CREATE FUNCTION attribution_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION '%: %', TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'restrict_violation';
END $$;

-- TG_ARGV: every allowed step, as 'from>to'.
CREATE FUNCTION attribution_refuse_step() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  IF NOT (OLD.state || '>' || NEW.state) = ANY (TG_ARGV) THEN
    RAISE EXCEPTION '%: no step leads from % to %', TG_TABLE_NAME, OLD.state, NEW.state
      USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NEW;
END $$;

-- Attributions: append-only.
REVOKE UPDATE, DELETE ON attribution_attribution FROM tributary_app;
CREATE TRIGGER attribution_is_append_only BEFORE UPDATE OR DELETE ON attribution_attribution
  FOR EACH ROW EXECUTE FUNCTION attribution_refuse('rows are append-only; attribute again as a new revision');
CREATE TRIGGER attribution_is_not_truncated BEFORE TRUNCATE ON attribution_attribution
  FOR EACH STATEMENT EXECUTE FUNCTION attribution_refuse('rows are append-only');

-- Generations: what was reported stays; the state goes forward.
REVOKE DELETE ON attribution_generation FROM tributary_app;
CREATE TRIGGER generation_is_kept BEFORE DELETE ON attribution_generation
  FOR EACH ROW EXECUTE FUNCTION attribution_refuse('a reported generation is kept');
CREATE TRIGGER generation_stays_as_reported BEFORE UPDATE ON attribution_generation FOR EACH ROW
  WHEN ((OLD.id, OLD.service_id, OLD.external_id, OLD.model_version_id, OLD.modality, OLD.prompt_text, OLD.output_text,
         OLD.output_sha256, OLD.token_ids, OLD.occurred_at, OLD.received_at, OLD.gross, OLD.currency,
         OLD.request_sha256, OLD.request_parts)
        IS DISTINCT FROM
        (NEW.id, NEW.service_id, NEW.external_id, NEW.model_version_id, NEW.modality, NEW.prompt_text, NEW.output_text,
         NEW.output_sha256, NEW.token_ids, NEW.occurred_at, NEW.received_at, NEW.gross, NEW.currency,
         NEW.request_sha256, NEW.request_parts))
  EXECUTE FUNCTION attribution_refuse('what was reported does not change');
CREATE TRIGGER generation_begins_received BEFORE INSERT ON attribution_generation FOR EACH ROW
  WHEN (NEW.state <> 'received')
  EXECUTE FUNCTION attribution_refuse('a generation begins as received');
CREATE TRIGGER generation_state_steps BEFORE UPDATE OF state ON attribution_generation FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state)
  EXECUTE FUNCTION attribution_refuse_step(
    'received>attributed', 'received>unattributable', 'unattributable>attributed');

-- Model versions and what they were trained on.
CREATE TRIGGER model_version_stays_as_registered BEFORE UPDATE ON attribution_modelversion FOR EACH ROW
  WHEN ((OLD.id, OLD.public_id, OLD.service_id, OLD.name, OLD.adapter, OLD.factory, OLD.config, OLD.checkpoint_sha256,
         OLD.initial_sha256, OLD.trained_at, OLD.created_at)
        IS DISTINCT FROM
        (NEW.id, NEW.public_id, NEW.service_id, NEW.name, NEW.adapter, NEW.factory, NEW.config, NEW.checkpoint_sha256,
         NEW.initial_sha256, NEW.trained_at, NEW.created_at))
  EXECUTE FUNCTION attribution_refuse('a model version is what it was registered as; register another');
CREATE TRIGGER model_version_state_steps BEFORE UPDATE OF state ON attribution_modelversion FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state)
  EXECUTE FUNCTION attribution_refuse_step('registered>ready', 'registered>retired', 'ready>retired');
REVOKE UPDATE, DELETE ON attribution_trainingmanifest, attribution_manifestwork, attribution_trainingitem
  FROM tributary_app;
CREATE TRIGGER manifest_is_append_only BEFORE UPDATE OR DELETE ON attribution_trainingmanifest
  FOR EACH ROW EXECUTE FUNCTION attribution_refuse('a manifest does not change');
CREATE TRIGGER manifest_work_is_append_only BEFORE UPDATE OR DELETE ON attribution_manifestwork
  FOR EACH ROW EXECUTE FUNCTION attribution_refuse('a manifest does not change');
CREATE TRIGGER training_item_is_append_only BEFORE UPDATE OR DELETE ON attribution_trainingitem
  FOR EACH ROW EXECUTE FUNCTION attribution_refuse('a manifest does not change');

-- Indexes.
CREATE TRIGGER index_state_steps BEFORE UPDATE OF state ON attribution_attributionindex FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state)
  EXECUTE FUNCTION attribution_refuse_step(
    'building>built', 'building>retired', 'built>audited', 'built>failed', 'built>retired',
    'audited>failed', 'failed>audited', 'audited>retired', 'failed>retired');
CREATE TRIGGER index_stays_as_configured BEFORE UPDATE ON attribution_attributionindex FOR EACH ROW
  WHEN ((OLD.id, OLD.public_id, OLD.model_version_id, OLD.config, OLD.config_sha256, OLD.noise_z, OLD.created_at)
        IS DISTINCT FROM
        (NEW.id, NEW.public_id, NEW.model_version_id, NEW.config, NEW.config_sha256, NEW.noise_z, NEW.created_at))
  EXECUTE FUNCTION attribution_refuse('an index is what it was configured as; build another');

-- Service keys: the credential stays what was issued, and a revocation is final.
CREATE TRIGGER service_key_stays_as_issued BEFORE UPDATE ON attribution_servicekey FOR EACH ROW
  WHEN ((OLD.id, OLD.service_id, OLD.prefix, OLD.digest, OLD.scopes, OLD.created_at, OLD.replaces_id, OLD.issued_by_id)
        IS DISTINCT FROM
        (NEW.id, NEW.service_id, NEW.prefix, NEW.digest, NEW.scopes, NEW.created_at, NEW.replaces_id, NEW.issued_by_id))
  EXECUTE FUNCTION attribution_refuse('a key does not change; issue another');
CREATE TRIGGER service_key_revocation_is_final BEFORE UPDATE OF revoked_at ON attribution_servicekey FOR EACH ROW
  WHEN (OLD.revoked_at IS NOT NULL AND OLD.revoked_at IS DISTINCT FROM NEW.revoked_at)
  EXECUTE FUNCTION attribution_refuse('a revoked key stays revoked');
CREATE TRIGGER service_key_life_is_not_prolonged BEFORE UPDATE OF expires_at ON attribution_servicekey FOR EACH ROW
  WHEN (OLD.expires_at IS NOT NULL AND (NEW.expires_at IS NULL OR NEW.expires_at > OLD.expires_at))
  EXECUTE FUNCTION attribution_refuse('a key is not prolonged; rotate it');
REVOKE DELETE ON attribution_servicekey FROM tributary_app;
CREATE TRIGGER service_key_is_kept BEFORE DELETE ON attribution_servicekey
  FOR EACH ROW EXECUTE FUNCTION attribution_refuse('a key is revoked, not removed');
"""


class Migration(migrations.Migration):
    dependencies = [("attribution", "0001_initial")]
    operations = [migrations.RunSQL(RULES, migrations.RunSQL.noop)]
