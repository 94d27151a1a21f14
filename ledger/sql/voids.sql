-- Four eyes on voids by staff, for every connection. A void that names a member of staff stands at commit only with the
-- proposal of another, for the same generation and in the same words.

CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON ledger_voidproposal
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_voidproposal
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

CREATE OR REPLACE FUNCTION ledger_check_void() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM ledger_voidproposal p
                  WHERE p.generation_id = NEW.generation_id AND p.state = 'approved' AND p.proposed_by_id <> p.decided_by_id
                    AND (p.reason, p.detail, p.decided_by_id) = (NEW.reason, NEW.detail, NEW.voided_by_id)) THEN
    RAISE EXCEPTION 'The void of % was not proposed by one person and approved by another as it stands.',
      NEW.generation_id USING ERRCODE = 'check_violation', CONSTRAINT = 'a_void_by_staff_has_four_eyes';
  END IF;
  RETURN NULL;
END $$;
-- At commit: the void is written before its proposal says so. A service voids its own generations alone.
DROP TRIGGER IF EXISTS four_eyes ON ledger_void;
CREATE CONSTRAINT TRIGGER four_eyes AFTER INSERT ON ledger_void DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.voided_by_id IS NOT NULL) EXECUTE FUNCTION ledger_check_void();

-- The scope of a restatement, its reason and its proposer stand; only its decision and its progress are written.
CREATE OR REPLACE FUNCTION ledger_check_restated() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.generation_id IS DISTINCT FROM OLD.generation_id THEN
    RAISE EXCEPTION 'Restatement % stands for the generations that it was proposed for.', OLD.id
      USING ERRCODE = 'LG008';
  END IF;
  IF TG_OP = 'INSERT' AND NEW.generation_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM attribution_generation g JOIN attribution_attributionindex i ON i.model_version_id = g.model_version_id
       WHERE g.id = NEW.generation_id AND i.id = NEW.index_id) THEN
    RAISE EXCEPTION 'Generation % is of another model version than the index.', NEW.generation_id
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER of_its_index BEFORE INSERT OR UPDATE ON ledger_restatement
  FOR EACH ROW EXECUTE FUNCTION ledger_check_restated();

-- The application may not execute functions that only triggers call.
REVOKE ALL ON FUNCTION ledger_check_void(), ledger_check_restated()
  FROM PUBLIC, tributary_app;
