-- Permitted changes after a row is written: append-only rows, states that only go forward, credentials that stay.

-- Attributions: append-only.
REVOKE UPDATE, DELETE ON attribution_attribution FROM tributary_app;
CREATE OR REPLACE TRIGGER attribution_is_append_only BEFORE UPDATE OR DELETE ON attribution_attribution
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('rows are append-only; attribute again as a new revision');
CREATE OR REPLACE TRIGGER attribution_is_not_truncated BEFORE TRUNCATE ON attribution_attribution
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change('rows are append-only');

REVOKE UPDATE, DELETE ON attribution_generalshares FROM tributary_app;
CREATE OR REPLACE TRIGGER general_shares_are_append_only BEFORE UPDATE OR DELETE ON attribution_generalshares
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('general shares are kept; attributions refer to them');

-- Generations: the report stays; the state goes forward.
REVOKE DELETE ON attribution_generation FROM tributary_app;
CREATE OR REPLACE TRIGGER generation_is_kept BEFORE DELETE ON attribution_generation
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a reported generation is kept');
-- One exception: after the period of its service the text goes, once, and nothing else with it.
CREATE OR REPLACE FUNCTION attribution_keep_report() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
DECLARE
  free text[] := ARRAY['state', 'error'];
BEGIN
  IF OLD.texts_deleted_at IS NULL AND NEW.texts_deleted_at IS NOT NULL THEN
    IF OLD.state = 'received' OR NEW.prompt_text <> '' OR NEW.output_text <> '' OR NEW.token_ids IS NOT NULL
       OR NEW.prompt_token_ids IS NOT NULL THEN
      RAISE EXCEPTION 'a deleted text is gone wholly, and after its attribution'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'attribution_generation_is_append_only';
    END IF;
    free := free || ARRAY['prompt_text', 'output_text', 'token_ids', 'prompt_token_ids', 'texts_deleted_at'];
  END IF;
  IF to_jsonb(OLD) - free <> to_jsonb(NEW) - free THEN
    RAISE EXCEPTION 'attribution_generation: what was reported does not change; update is refused'
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'attribution_generation_is_append_only';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER generation_stays_as_reported BEFORE UPDATE ON attribution_generation FOR EACH ROW
  WHEN ((OLD.id, OLD.service_id, OLD.external_id, OLD.model_version_id, OLD.modality, OLD.prompt_text, OLD.output_text,
         OLD.output_sha256, OLD.token_ids, OLD.prompt_token_ids, OLD.features, OLD.features_index_id, OLD.occurred_at, OLD.received_at,
         OLD.gross, OLD.currency, OLD.request_sha256, OLD.request_parts, OLD.texts_deleted_at)
        IS DISTINCT FROM
        (NEW.id, NEW.service_id, NEW.external_id, NEW.model_version_id, NEW.modality, NEW.prompt_text, NEW.output_text,
         NEW.output_sha256, NEW.token_ids, NEW.prompt_token_ids, NEW.features, NEW.features_index_id, NEW.occurred_at, NEW.received_at,
         NEW.gross, NEW.currency, NEW.request_sha256, NEW.request_parts, NEW.texts_deleted_at))
  EXECUTE FUNCTION attribution_keep_report();

REVOKE UPDATE, DELETE ON attribution_generationpart FROM tributary_app;
CREATE OR REPLACE TRIGGER generation_part_is_append_only BEFORE UPDATE OR DELETE ON attribution_generationpart
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a reported output does not change');

-- Model versions and their training data.
CREATE OR REPLACE TRIGGER model_version_stays_as_registered BEFORE UPDATE ON attribution_modelversion FOR EACH ROW
  WHEN ((OLD.id, OLD.public_id, OLD.service_id, OLD.name, OLD.adapter, OLD.factory, OLD.config, OLD.purpose,
         OLD.base_model, OLD.licence, OLD.vocabulary, OLD.context, OLD.decoder, OLD.initial_sha256, OLD.training_started_at, OLD.trained_at, OLD.created_at)
        IS DISTINCT FROM
        (NEW.id, NEW.public_id, NEW.service_id, NEW.name, NEW.adapter, NEW.factory, NEW.config, NEW.purpose,
         NEW.base_model, NEW.licence, NEW.vocabulary, NEW.context, NEW.decoder, NEW.initial_sha256, NEW.training_started_at, NEW.trained_at, NEW.created_at)
        -- Features of a pushed model come later, once.
        OR (OLD.checkpoint_sha256 IS NOT NULL AND OLD.checkpoint_sha256 IS DISTINCT FROM NEW.checkpoint_sha256)
        OR (OLD.superseded_by_id IS NOT NULL AND OLD.superseded_by_id IS DISTINCT FROM NEW.superseded_by_id))
  EXECUTE FUNCTION rows_refuse_change('a model version is what it was registered as; register another');
REVOKE UPDATE, DELETE ON attribution_trainingmanifest, attribution_manifestwork, attribution_trainingitem
  FROM tributary_app;
CREATE OR REPLACE TRIGGER manifest_is_append_only BEFORE UPDATE OR DELETE ON attribution_trainingmanifest
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a manifest does not change');
CREATE OR REPLACE TRIGGER manifest_work_is_append_only BEFORE UPDATE OR DELETE ON attribution_manifestwork
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a manifest does not change');
CREATE OR REPLACE TRIGGER training_item_is_append_only BEFORE UPDATE OR DELETE ON attribution_trainingitem
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a manifest does not change');

-- Indexes.
CREATE OR REPLACE TRIGGER index_stays_as_configured BEFORE UPDATE ON attribution_attributionindex FOR EACH ROW
  WHEN ((OLD.id, OLD.public_id, OLD.model_version_id, OLD.attributor, OLD.config, OLD.config_sha256, OLD.noise_z,
         OLD.rule, OLD.created_at)
        IS DISTINCT FROM
        (NEW.id, NEW.public_id, NEW.model_version_id, NEW.attributor, NEW.config, NEW.config_sha256, NEW.noise_z,
         NEW.rule, NEW.created_at))
  EXECUTE FUNCTION rows_refuse_change('an index is what it was configured as; build another');

REVOKE UPDATE, DELETE ON attribution_indexrevision FROM tributary_app;
CREATE OR REPLACE TRIGGER index_revision_is_append_only BEFORE UPDATE OR DELETE ON attribution_indexrevision
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a revision of an index is kept');
REVOKE DELETE ON attribution_workremoval FROM tributary_app;
CREATE OR REPLACE TRIGGER work_removal_is_kept BEFORE DELETE ON attribution_workremoval
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a removal is ended by a restoration');
CREATE OR REPLACE TRIGGER work_removal_stays_as_decided BEFORE UPDATE ON attribution_workremoval FOR EACH ROW
  WHEN ((OLD.id, OLD.model_version_id, OLD.work_id, OLD.reason, OLD.removed_at)
        IS DISTINCT FROM (NEW.id, NEW.model_version_id, NEW.work_id, NEW.reason, NEW.removed_at)
        OR OLD.restored_at IS NOT NULL)
  EXECUTE FUNCTION rows_refuse_change('a removal changes only by its end');

-- Service keys: the issued credential stays, and a revocation is final.
CREATE OR REPLACE TRIGGER service_key_stays_as_issued BEFORE UPDATE ON attribution_servicekey FOR EACH ROW
  WHEN ((OLD.id, OLD.service_id, OLD.prefix, OLD.digest, OLD.scopes, OLD.created_at, OLD.replaces_id, OLD.issued_by_id)
        IS DISTINCT FROM
        (NEW.id, NEW.service_id, NEW.prefix, NEW.digest, NEW.scopes, NEW.created_at, NEW.replaces_id, NEW.issued_by_id))
  EXECUTE FUNCTION rows_refuse_change('a key does not change; issue another');
CREATE OR REPLACE TRIGGER service_key_revocation_is_final BEFORE UPDATE OF revoked_at ON attribution_servicekey FOR EACH ROW
  WHEN (OLD.revoked_at IS NOT NULL AND OLD.revoked_at IS DISTINCT FROM NEW.revoked_at)
  EXECUTE FUNCTION rows_refuse_change('a revoked key stays revoked');
CREATE OR REPLACE TRIGGER service_key_life_is_not_prolonged BEFORE UPDATE OF expires_at ON attribution_servicekey FOR EACH ROW
  WHEN (OLD.expires_at IS NOT NULL AND (NEW.expires_at IS NULL OR NEW.expires_at > OLD.expires_at))
  EXECUTE FUNCTION rows_refuse_change('a key is not prolonged; rotate it');
REVOKE DELETE ON attribution_servicekey FROM tributary_app;
CREATE OR REPLACE TRIGGER service_key_is_kept BEFORE DELETE ON attribution_servicekey
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a key is revoked, not removed');

-- Names of models: only their end is set, once; past generations keep their model version.
REVOKE DELETE ON attribution_modelname FROM tributary_app;
CREATE OR REPLACE TRIGGER model_name_is_kept BEFORE DELETE ON attribution_modelname
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a name of a model is ended, not removed');
CREATE OR REPLACE TRIGGER model_name_stays_as_recorded BEFORE UPDATE ON attribution_modelname FOR EACH ROW
  WHEN ((OLD.id, OLD.public_id, OLD.service_id, OLD.kind, OLD.pattern, OLD.model_version_id, OLD.begins_at,
         OLD.recorded_at, OLD.recorded_by_id)
        IS DISTINCT FROM
        (NEW.id, NEW.public_id, NEW.service_id, NEW.kind, NEW.pattern, NEW.model_version_id, NEW.begins_at,
         NEW.recorded_at, NEW.recorded_by_id)
        OR OLD.ends_at IS NOT NULL)
  EXECUTE FUNCTION rows_refuse_change('a name of a model changes only by its end');

-- Mandates and deliveries of works.
CREATE OR REPLACE TRIGGER mandate_stays_as_recorded BEFORE UPDATE ON attribution_mandate FOR EACH ROW
  WHEN ((OLD.id, OLD.public_id, OLD.service_id, OLD.organisation, OLD.uses, OLD.evidence, OLD.evidence_sha256,
         OLD.valid_from, OLD.valid_to, OLD.recorded_by_id, OLD.created_at)
        IS DISTINCT FROM
        (NEW.id, NEW.public_id, NEW.service_id, NEW.organisation, NEW.uses, NEW.evidence, NEW.evidence_sha256,
         NEW.valid_from, NEW.valid_to, NEW.recorded_by_id, NEW.created_at)
        OR (OLD.revoked_at IS NOT NULL AND OLD.revoked_at IS DISTINCT FROM NEW.revoked_at))
  EXECUTE FUNCTION rows_refuse_change('a mandate is only revoked; record another');
REVOKE UPDATE, DELETE ON attribution_workdelivery FROM tributary_app;
CREATE OR REPLACE TRIGGER work_delivery_is_append_only BEFORE UPDATE OR DELETE ON attribution_workdelivery
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('a delivery is kept as it was recorded');

-- A payment by the base pool is fixed once it is proposed.
CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON attribution_basepoolproposal
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON attribution_basepoolproposal
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
