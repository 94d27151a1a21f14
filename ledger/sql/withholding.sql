-- Rates are fixed once proposed, and approved for days to come only: earlier withholdings stay explained.

CREATE OR REPLACE FUNCTION ledger_check_rate() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF NEW.state = 'approved' AND EXISTS (
      SELECT FROM ledger_withholdingrate r WHERE r.state = 'approved' AND r.effective_from >= NEW.effective_from
         AND (r.jurisdiction, r.country, r.form) = (NEW.jurisdiction, NEW.country, NEW.form)) THEN
    RAISE EXCEPTION 'A rate that begins on % or later is approved already.', NEW.effective_from
      USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER in_order BEFORE UPDATE ON ledger_withholdingrate
  FOR EACH ROW EXECUTE FUNCTION ledger_check_rate();
CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON ledger_withholdingrate
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_withholdingrate
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
