-- A dispute ends once, and what was said stays as it was written.

CREATE FUNCTION ledger_check_dispute() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state <> 'open' OR NEW.state = 'open' THEN
    RAISE EXCEPTION 'Dispute % is % and does not become %.', OLD.id, OLD.state, NEW.state USING ERRCODE = 'LG008';
  END IF;
  IF to_jsonb(NEW) - ARRAY['state', 'answer', 'answered_by_id', 'answered_at']
     <> to_jsonb(OLD) - ARRAY['state', 'answer', 'answered_by_id', 'answered_at'] THEN
    RAISE EXCEPTION 'What dispute % says stays as it was written.', OLD.id USING ERRCODE = 'LG008';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER ends_once BEFORE UPDATE ON ledger_receiptdispute FOR EACH ROW EXECUTE FUNCTION ledger_check_dispute();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_receiptdispute
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
