-- Rates are fixed once proposed, and adopted for days to come only: what was withheld stays explained.

CREATE FUNCTION ledger_check_rate() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'proposed' THEN
      RAISE EXCEPTION 'A rate begins as a proposal.' USING ERRCODE = 'LG008';
    END IF;
    RETURN NEW;
  END IF;
  IF OLD.state || '>' || NEW.state NOT IN ('proposed>adopted', 'proposed>rejected')
     OR to_jsonb(NEW) - ARRAY['state', 'decided_by_id', 'decided_at']
        <> to_jsonb(OLD) - ARRAY['state', 'decided_by_id', 'decided_at'] THEN
    RAISE EXCEPTION 'Rate % is % and stands as it was proposed; propose another.', OLD.id, OLD.state
      USING ERRCODE = 'LG008';
  END IF;
  IF NEW.state = 'adopted' AND EXISTS (
      SELECT FROM ledger_withholdingrate r WHERE r.state = 'adopted' AND r.effective_from >= NEW.effective_from
         AND (r.jurisdiction, r.country, r.form) = (NEW.jurisdiction, NEW.country, NEW.form)) THEN
    RAISE EXCEPTION 'A rate that begins on % or later is adopted already.', NEW.effective_from
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER in_order BEFORE INSERT OR UPDATE ON ledger_withholdingrate
  FOR EACH ROW EXECUTE FUNCTION ledger_check_rate();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_withholdingrate
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
