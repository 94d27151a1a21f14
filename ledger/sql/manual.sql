-- Four eyes on manual entries, for every connection. An entry of that kind stands at commit only with a proposal that
-- another person has approved, with the same lines, on accounts that hands may move.

CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON ledger_manualentry
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed('entry_id');
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_manualentry
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

-- The second person has no interest in a contributor of the lines: neither by a membership nor by a link of accounts.
CREATE OR REPLACE FUNCTION ledger_decider_is_a_stranger() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  IF EXISTS (SELECT FROM jsonb_array_elements(NEW.lines) AS l
              WHERE l->>2 IN (SELECT 'contributor:' || account FROM contributors_accounts_of(NEW.decided_by_id) account)) THEN
    RAISE EXCEPTION 'the approver of % % acts for a contributor of its lines', TG_TABLE_NAME, NEW.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'an_approver_acts_for_no_owner_of_a_line';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER decided_by_a_stranger BEFORE UPDATE OF state ON ledger_manualentry
  FOR EACH ROW WHEN (NEW.state = 'approved') EXECUTE FUNCTION ledger_decider_is_a_stranger();
CREATE OR REPLACE TRIGGER decided_by_a_stranger BEFORE UPDATE OF state ON ledger_verbproposal
  FOR EACH ROW WHEN (NEW.state = 'approved') EXECUTE FUNCTION ledger_decider_is_a_stranger();

CREATE OR REPLACE FUNCTION ledger_check_four_eyes() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  wrong text;
BEGIN
  IF NOT EXISTS (
      SELECT FROM ledger_manualentry m
       WHERE m.entry_id = NEW.id AND m.state = 'approved' AND m.decided_by_id <> m.proposed_by_id
         AND NOT EXISTS (
           SELECT FROM (SELECT concat_ws(' ', l->>0, l->>1, l->>2, l->>3) AS account, sum((l->>4)::bigint) AS amount
                          FROM jsonb_array_elements(m.lines) AS l GROUP BY 1) proposed
           FULL JOIN (SELECT concat_ws(' ', a.kind, s.code, a.owner, a.contract) AS account, l.amount
                        FROM ledger_line l JOIN ledger_account a ON a.id = l.account_id
                        JOIN ledger_asset s ON s.id = a.asset_id WHERE l.entry_id = NEW.id) posted USING (account)
            WHERE proposed.amount IS DISTINCT FROM posted.amount)) THEN
    RAISE EXCEPTION 'Manual entry % was not proposed by one person and approved by another as it stands.', NEW.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'a_manual_entry_has_four_eyes';
  END IF;
  SELECT a.kind INTO wrong FROM ledger_line l JOIN ledger_account a ON a.id = l.account_id
   WHERE l.entry_id = NEW.id
     AND a.kind IN ('contributor_accrued', 'royalty_pool', 'floor_pool', 'advance', 'reserve_held', 'on_hold',
                    'unclaimed', 'payouts_in_transit', 'fx_clearing') LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'Accounts % are moved by their operations alone, not by hand.', wrong
      USING ERRCODE = 'check_violation', CONSTRAINT = 'hands_move_only_what_no_operation_owns';
  END IF;
  RETURN NULL;
END $$;
-- At commit: the proposal names the entry, and so is written after it.
DROP TRIGGER IF EXISTS four_eyes ON ledger_entry;
CREATE CONSTRAINT TRIGGER four_eyes AFTER INSERT ON ledger_entry DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.kind = 'manual') EXECUTE FUNCTION ledger_check_four_eyes();
