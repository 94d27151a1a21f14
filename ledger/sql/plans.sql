-- Plans become effective and then stand; what was refused, listed or distributed stays as it was written.

CREATE OR REPLACE FUNCTION ledger_check_plan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'proposed' THEN
      RAISE EXCEPTION 'A plan begins as a proposal.' USING ERRCODE = 'LG008';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.state || '>' || NEW.state NOT IN ('proposed>effective', 'proposed>rejected') THEN
    RAISE EXCEPTION 'Plan %: % does not become %; propose a new version.', OLD.id, OLD.state, NEW.state
      USING ERRCODE = 'LG008';
  END IF;
  IF to_jsonb(NEW) - ARRAY['state', 'decided_by_id', 'decided_at']
     <> to_jsonb(OLD) - ARRAY['state', 'decided_by_id', 'decided_at'] THEN
    RAISE EXCEPTION 'Plan % is fixed once proposed; propose a new version.', OLD.id USING ERRCODE = 'LG008';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER in_order BEFORE INSERT OR UPDATE ON ledger_royaltyplan FOR EACH ROW EXECUTE FUNCTION ledger_check_plan();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_royaltyplan
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

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
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_unaccrued
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_floordistribution
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
