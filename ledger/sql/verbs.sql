-- A proposed transaction is fixed, and an approved one names the entry of its kind, key and lines.

CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON ledger_verbproposal
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed('entry_id');
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_verbproposal
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

CREATE OR REPLACE FUNCTION ledger_check_transaction() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF NOT EXISTS (
      SELECT FROM ledger_entry e
       WHERE e.id = NEW.entry_id AND (e.kind, e.idem_key, e.reference) = (NEW.kind, NEW.idem_key, NEW.reference)
         AND NOT EXISTS (
           SELECT FROM (SELECT concat_ws(' ', l->>0, l->>1, l->>2, l->>3) AS account, sum((l->>4)::bigint) AS amount
                          FROM jsonb_array_elements(NEW.lines) AS l GROUP BY 1) proposed
           FULL JOIN (SELECT concat_ws(' ', a.kind, s.code, a.owner, a.contract) AS account, l.amount
                        FROM ledger_line l JOIN ledger_account a ON a.id = l.account_id
                        JOIN ledger_asset s ON s.id = a.asset_id WHERE l.entry_id = e.id) posted USING (account)
            WHERE proposed.amount IS DISTINCT FROM posted.amount)) THEN
    RAISE EXCEPTION 'Entry % is not the transaction as it was proposed.', NEW.entry_id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'a_transaction_is_posted_as_proposed';
  END IF;
  RETURN NEW;
END $$;
-- The lines are immutable and written before the approval, so that it is checked at once.
CREATE OR REPLACE TRIGGER posted_as_proposed BEFORE INSERT OR UPDATE ON ledger_verbproposal
  FOR EACH ROW WHEN (NEW.entry_id IS NOT NULL) EXECUTE FUNCTION ledger_check_transaction();
REVOKE ALL ON FUNCTION ledger_check_transaction() FROM PUBLIC;
