-- Four eyes on the cancellation of an advance, also for a writer that bypasses the application. An entry of this kind
-- stands at commit only with the proposal of one person that another has approved, for the advance's contributor and
-- contract, and only while no more is cancelled of the advance than was granted; a proposal is approved only with such an
-- entry. That nothing recouped is taken back is the limit of the account, which never has a credit. The advances under
-- a contract share it. The application decides which of them is recouped, and that only a paid-out part is written off.

CREATE OR REPLACE FUNCTION ledger_check_cancellation() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NOT EXISTS (
        SELECT FROM ledger_advanceproposal p WHERE p.id = NEW.advance_id AND p.state = 'approved') THEN
      RAISE EXCEPTION 'The cancellation of an advance is proposed once the advance is approved.'
        USING ERRCODE = 'LG008';
    END IF;
    RETURN NEW;
  END IF;
  IF NEW.state = 'approved' AND NOT EXISTS (
      SELECT FROM ledger_entry e WHERE e.id = NEW.entry_id AND e.kind = 'cancel_advance') THEN
    RAISE EXCEPTION 'Cancellation % names no entry that cancels an advance.', NEW.id USING ERRCODE = 'LG008';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER in_order BEFORE INSERT OR UPDATE ON ledger_advancecancellation
  FOR EACH ROW EXECUTE FUNCTION ledger_check_cancellation();
CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON ledger_advancecancellation
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed('entry_id', 'amount');
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_advancecancellation
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

-- The payout that took an advance: the first by which more went out since the grant than stood on the payable before
-- it, for older money goes out first. A payout that was refused took nothing; an older advance that was cancelled took
-- its own money with it. Money that was exchanged, or handed to the state after it lay unclaimed, went out as well.
-- Older money that was not yet mature counts as older too, though a payout then takes the advance first. So an advance
-- is rather reversed than written off, out of the remaining payable. With p_arrived, only the payouts count that have
-- succeeded: one under way may still be refused.
CREATE OR REPLACE FUNCTION ledger_paid_since(p_entry bigint, p_account bigint, p_arrived boolean) RETURNS bigint LANGUAGE sql STABLE
SET search_path = public, pg_temp AS $$
  SELECT min(id)
    FROM (SELECT e.id, sum(-l.amount) OVER (ORDER BY e.id) AS gone
            FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
            LEFT JOIN ledger_advancecancellation x ON x.entry_id = e.id
            LEFT JOIN ledger_advanceproposal p ON p.id = x.advance_id
           WHERE l.account_id = p_account AND l.entry_id > p_entry
             AND (e.kind = 'payout_reserve' OR e.kind = 'cancel_advance' AND p.entry_id < p_entry
                  OR e.kind = 'exchange_debt' AND l.amount < 0
                  OR e.kind IN ('mark_dormant', 'reclaim') AND EXISTS (
                    SELECT FROM ledger_line u JOIN ledger_line s ON s.account_id = u.account_id AND s.entry_id > e.id
                      JOIN ledger_entry h ON h.id = s.entry_id AND h.kind = 'escheat'
                     WHERE u.entry_id = e.id))
             AND NOT EXISTS (SELECT FROM ledger_entry r WHERE r.reverses = e.id)
             AND (NOT p_arrived OR e.kind <> 'payout_reserve'
                  OR EXISTS (SELECT FROM ledger_entry s WHERE s.idem_key = 'payout_succeed:' || e.reference))) taken
   WHERE gone > (SELECT g.balance_after - g.amount FROM ledger_line g
                  WHERE (g.account_id, g.entry_id) = (p_account, p_entry))
$$;

CREATE OR REPLACE FUNCTION ledger_check_cancellation_entry() RETURNS trigger LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
DECLARE
  found_id bigint;
  way text;
  granted bigint;
  payable bigint;
BEGIN
  SELECT x.id, x.way, p.entry_id INTO found_id, way, granted
    FROM ledger_advancecancellation x
    JOIN ledger_advanceproposal p ON p.id = x.advance_id JOIN ledger_contract c ON c.id = p.contract_id
   WHERE x.entry_id = NEW.id AND x.state = 'approved' AND x.decided_by_id <> x.proposed_by_id AND p.state = 'approved'
     AND p.amount >= (SELECT sum(amount) FROM ledger_advancecancellation
                       WHERE advance_id = p.id AND state = 'approved')
     AND NOT EXISTS (
       SELECT FROM (VALUES
                ('advance', 'contributor:' || c.contributor_id, c.code::text, x.amount),
                (CASE x.way WHEN 'take_back' THEN 'contributor_payable' ELSE 'programme_cost' END,
                 CASE x.way WHEN 'take_back' THEN 'contributor:' || c.contributor_id ELSE '' END, '', -x.amount))
              AS proposed(kind, owner, contract, amount)
       FULL JOIN (SELECT a.kind, a.owner, a.contract, l.amount, s.code AS currency FROM ledger_line l
                    JOIN ledger_account a ON a.id = l.account_id JOIN ledger_asset s ON s.id = a.asset_id
                   WHERE l.entry_id = NEW.id) posted
         ON (posted.kind, posted.owner, posted.contract) = (proposed.kind, proposed.owner, proposed.contract)
        WHERE (posted.amount, posted.currency) IS DISTINCT FROM (proposed.amount, p.currency::text));
  IF NOT FOUND THEN
    RAISE EXCEPTION 'The cancellation of entry % was not proposed by one person and approved by another as it stands.',
      NEW.id USING ERRCODE = 'check_violation', CONSTRAINT = 'a_cancellation_has_four_eyes';
  END IF;
  IF way = 'take_back' THEN
    SELECT l.account_id INTO payable FROM ledger_line l JOIN ledger_account a ON a.id = l.account_id
     WHERE l.entry_id = NEW.id AND a.kind = 'contributor_payable';
    IF ledger_paid_since(granted, payable, false) < NEW.id THEN
      RAISE EXCEPTION 'Cancellation % takes back what was paid out.', found_id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'what_was_paid_out_is_not_taken_back';
    END IF;
  END IF;
  RETURN NULL;
END $$;
-- At commit: the proposal names the entry, and so is written after it.
DROP TRIGGER IF EXISTS cancellation_has_four_eyes ON ledger_entry;
CREATE CONSTRAINT TRIGGER cancellation_has_four_eyes AFTER INSERT ON ledger_entry DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.kind = 'cancel_advance') EXECUTE FUNCTION ledger_check_cancellation_entry();

-- The application may not execute functions that only triggers call; it asks before it proposes when an advance was
-- paid out.
REVOKE ALL ON FUNCTION ledger_check_cancellation(), ledger_check_cancellation_entry() FROM PUBLIC, tributary_app;
GRANT EXECUTE ON FUNCTION ledger_paid_since(bigint, bigint, boolean) TO tributary_app;
