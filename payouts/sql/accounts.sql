-- Accounts at Stripe: one at a time, each end on record, and none that ended is ever paid again.

CREATE OR REPLACE TRIGGER ended_account_is_append_only BEFORE UPDATE OR DELETE ON payouts_endedaccount
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER set_up_attempt_keeps_its_request BEFORE UPDATE ON payouts_setupattempt
  FOR EACH ROW EXECUTE FUNCTION rows_keep_columns('account_id', 'number', 'idempotency_key', 'parameters',
    'requested_by_id', 'first_sent_at');
CREATE OR REPLACE TRIGGER set_up_attempt_keeps_its_result BEFORE UPDATE ON payouts_setupattempt
  FOR EACH ROW WHEN (OLD.provider_account_id IS NOT NULL OR OLD.failed_at IS NOT NULL)
  EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER set_up_attempt_is_never_deleted BEFORE DELETE ON payouts_setupattempt
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();

-- An account gives way to another one only once its end is on record, and never comes back.
CREATE OR REPLACE FUNCTION payouts_account_ends_once() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND OLD.provider_account_id IS NOT NULL
     AND OLD.provider_account_id IS DISTINCT FROM NEW.provider_account_id
     AND NOT EXISTS (SELECT FROM payouts_endedaccount e
                      WHERE e.provider_account_id = OLD.provider_account_id AND e.account_id = OLD.id) THEN
    RAISE EXCEPTION 'the account % is replaced without a record of its end', OLD.provider_account_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'an_account_is_replaced_once_its_end_is_on_record';
  END IF;
  IF EXISTS (SELECT FROM payouts_endedaccount e WHERE e.provider_account_id = NEW.provider_account_id) THEN
    RAISE EXCEPTION 'the account % has ended', NEW.provider_account_id
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'an_ended_account_never_comes_back';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER payout_account_ends_once BEFORE INSERT OR UPDATE OF provider_account_id ON payouts_payoutaccount
  FOR EACH ROW EXECUTE FUNCTION payouts_account_ends_once();

-- A payout is neither made for an account that ended nor begun after its end. One on its way is followed to its end.
CREATE OR REPLACE FUNCTION payouts_ended_account_is_not_paid() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  IF EXISTS (SELECT FROM payouts_endedaccount e WHERE e.provider_account_id = NEW.destination) THEN
    RAISE EXCEPTION 'the account % has ended', NEW.destination
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'an_ended_account_is_not_paid';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER payout_to_an_ended_account_is_not_made BEFORE INSERT ON payouts_payout
  FOR EACH ROW WHEN (NEW.rail = 'stripe_transfer') EXECUTE FUNCTION payouts_ended_account_is_not_paid();
CREATE OR REPLACE TRIGGER payout_to_an_ended_account_is_not_begun BEFORE UPDATE OF state ON payouts_payout
  FOR EACH ROW WHEN (NEW.rail = 'stripe_transfer' AND OLD.state = 'approved' AND NEW.state = 'sending')
  EXECUTE FUNCTION payouts_ended_account_is_not_paid();

REVOKE UPDATE, DELETE, TRUNCATE ON payouts_endedaccount FROM tributary_app;
REVOKE DELETE, TRUNCATE ON payouts_setupattempt FROM tributary_app;
