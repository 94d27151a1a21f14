-- Plans are approved and then stand; refusals, lists and distributions stay as they were written.

CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON ledger_royaltyplan
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_royaltyplan
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

-- A plan of a model holds for a model of its own service.
CREATE OR REPLACE FUNCTION ledger_check_plan_scope() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  IF NEW.model_version_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM attribution_modelversion m WHERE m.id = NEW.model_version_id AND m.service_id = NEW.service_id) THEN
    RAISE EXCEPTION 'model version % is no model of service %', NEW.model_version_id, NEW.service_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'a_plan_of_a_model_names_its_own_service';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER scope_is_whole BEFORE INSERT ON ledger_royaltyplan
  FOR EACH ROW EXECUTE FUNCTION ledger_check_plan_scope();

-- A refusal may be withdrawn, once, and otherwise stands.
CREATE OR REPLACE FUNCTION ledger_check_refusal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.withdrawn_at IS NOT NULL OR NEW.withdrawn_at IS NULL
     OR to_jsonb(NEW) - 'withdrawn_at' <> to_jsonb(OLD) - 'withdrawn_at' THEN
    RAISE EXCEPTION 'A refusal can only be withdrawn.' USING ERRCODE = 'LG008';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER withdrawn BEFORE UPDATE ON ledger_refusal FOR EACH ROW EXECUTE FUNCTION ledger_check_refusal();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_refusal
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_unaccrued
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_floordistribution
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_floorcorrection
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
