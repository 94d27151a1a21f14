-- The recorded content of a closed month's export of credits stays, and only a closed month has one.

CREATE OR REPLACE FUNCTION ledger_check_export() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM ledger_period WHERE id = NEW.period_id AND state IN ('open', 'closing')) THEN
    RAISE EXCEPTION 'Period % is not closed yet: its credits are not all there.', NEW.period_id
      USING ERRCODE = 'LG004';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER in_time BEFORE INSERT ON ledger_creditexport FOR EACH ROW EXECUTE FUNCTION ledger_check_export();
CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_creditexport
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
REVOKE ALL ON FUNCTION ledger_check_export() FROM PUBLIC;
REVOKE ALL ON ledger_creditexport FROM tributary_app;
GRANT SELECT, INSERT ON ledger_creditexport TO tributary_app;
