-- Four eyes on advances, for every connection. An entry that grants one stands at commit only with a proposal that
-- another person has approved, for the same amount to the same contributor under the same contract.

CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON ledger_advanceproposal
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed('entry_id');
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_advanceproposal
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

CREATE OR REPLACE FUNCTION ledger_check_advance_entry() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF NOT EXISTS (
      SELECT FROM ledger_advanceproposal p JOIN ledger_contract c ON c.id = p.contract_id
       WHERE p.entry_id = NEW.id AND p.state = 'approved' AND p.decided_by_id <> p.proposed_by_id
         AND NOT EXISTS (
           SELECT FROM (VALUES ('advance', c.code, -p.amount), ('contributor_payable', '', p.amount))
                         AS proposed(kind, contract, amount)
           FULL JOIN (SELECT a.kind, a.contract, l.amount, a.owner, s.code AS currency FROM ledger_line l
                        JOIN ledger_account a ON a.id = l.account_id JOIN ledger_asset s ON s.id = a.asset_id
                       WHERE l.entry_id = NEW.id) posted
             ON (posted.kind, posted.contract) = (proposed.kind, proposed.contract)
            WHERE (posted.amount, posted.owner, posted.currency)
                  IS DISTINCT FROM (proposed.amount, 'contributor:' || c.contributor_id, p.currency::text))) THEN
    RAISE EXCEPTION 'The advance of entry % was not proposed by one person and approved by another as it stands.', NEW.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'an_advance_has_four_eyes';
  END IF;
  RETURN NULL;
END $$;
-- At commit: the proposal names the entry, and so is written after it.
DROP TRIGGER IF EXISTS advance_has_four_eyes ON ledger_entry;
CREATE CONSTRAINT TRIGGER advance_has_four_eyes AFTER INSERT ON ledger_entry DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.kind = 'grant_advance') EXECUTE FUNCTION ledger_check_advance_entry();

-- The application may not execute functions that only triggers call.
REVOKE ALL ON FUNCTION ledger_check_advance_entry() FROM PUBLIC, tributary_app;
