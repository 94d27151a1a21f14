-- The bans that hold for a payout against every code path, every superuser of the application and every shell.
-- The rules that a CHECK or an index can say are in the models; here are those that need the row's past.

-- Runs ---------------------------------------------------------------------------------------------------------------
CREATE OR REPLACE TRIGGER payout_run_keeps_its_origin BEFORE UPDATE OF public_id, currency, rail, cut_off, matured_before,
    created_by_id, created_at, supersedes_id, split_from_id ON payouts_payoutrun
  FOR EACH ROW EXECUTE FUNCTION rows_keep_columns('public_id', 'currency', 'rail', 'cut_off', 'matured_before',
    'created_by_id', 'created_at', 'supersedes_id', 'split_from_id');
CREATE OR REPLACE TRIGGER payout_run_is_never_deleted BEFORE DELETE ON payouts_payoutrun
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();

CREATE OR REPLACE FUNCTION payouts_freeze_run() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
  -- The reviewed content is settled by going into review, and comes loose only by going back to draft.
  IF OLD.state NOT IN ('draft', 'calculating', 'set_aside') AND NEW.state <> 'draft' AND (
       NEW.content_hash IS DISTINCT FROM OLD.content_hash OR NEW.n_payouts IS DISTINCT FROM OLD.n_payouts
       OR NEW.total_minor IS DISTINCT FROM OLD.total_minor OR NEW.configuration IS DISTINCT FROM OLD.configuration
       OR NEW.submitted_at IS DISTINCT FROM OLD.submitted_at
       OR NEW.needs_second_approval IS DISTINCT FROM OLD.needs_second_approval
       OR NEW.last_edited_by_id IS DISTINCT FROM OLD.last_edited_by_id) THEN
    RAISE EXCEPTION 'a run in review is frozen'
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'a_run_past_draft_is_frozen';
  END IF;
  -- Approvals are given in review, and taken back only by returning there.
  IF OLD.state NOT IN ('in_review') AND NEW.state NOT IN ('in_review', 'draft') AND (
       NEW.approved_by_id IS DISTINCT FROM OLD.approved_by_id OR NEW.approved_hash IS DISTINCT FROM OLD.approved_hash
       OR NEW.approved_at IS DISTINCT FROM OLD.approved_at
       OR NEW.approval_expires_at IS DISTINCT FROM OLD.approval_expires_at
       OR NEW.second_approved_by_id IS DISTINCT FROM OLD.second_approved_by_id
       OR NEW.second_approved_at IS DISTINCT FROM OLD.second_approved_at) THEN
    RAISE EXCEPTION 'an approval is given in review'
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'an_approval_is_given_in_review';
  END IF;
  IF NEW.state = 'executing' AND OLD.state = 'approved' AND NEW.started_at >= NEW.approval_expires_at THEN
    RAISE EXCEPTION 'the approval has expired'
      USING ERRCODE = 'check_violation', CONSTRAINT = 'an_expired_approval_executes_nothing';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER payout_run_is_frozen BEFORE UPDATE ON payouts_payoutrun
  FOR EACH ROW EXECUTE FUNCTION payouts_freeze_run();

-- An approver has no interest in a payee: neither by a membership nor by a link of accounts.
CREATE OR REPLACE FUNCTION payouts_approver_is_a_stranger() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  IF EXISTS (SELECT FROM payouts_payout p
              WHERE p.run_id = NEW.id
                AND p.contributor_id IN (SELECT contributors_accounts_of(NEW.approved_by_id)
                                         UNION SELECT contributors_accounts_of(NEW.second_approved_by_id))) THEN
    RAISE EXCEPTION 'the approver of run % acts for one of its payees', NEW.id
      USING ERRCODE = 'check_violation', CONSTRAINT = 'an_approver_acts_for_no_payee';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER payout_run_is_approved_by_strangers
  BEFORE UPDATE OF approved_by_id, second_approved_by_id ON payouts_payoutrun FOR EACH ROW
  WHEN (OLD.approved_by_id IS DISTINCT FROM NEW.approved_by_id
        OR OLD.second_approved_by_id IS DISTINCT FROM NEW.second_approved_by_id)
  EXECUTE FUNCTION payouts_approver_is_a_stranger();

-- Payouts ------------------------------------------------------------------------------------------------------------
CREATE OR REPLACE TRIGGER payout_keeps_its_terms BEFORE UPDATE OF public_id, run_id, contributor_id, account_id, rail, currency,
    gross_minor, tax_minor, tax_jurisdiction, amount_minor, destination, destination_currency, row_sha256, created_at
    ON payouts_payout
  FOR EACH ROW EXECUTE FUNCTION rows_keep_columns('public_id', 'run_id', 'contributor_id', 'account_id', 'rail',
    'currency', 'gross_minor', 'tax_minor', 'tax_jurisdiction', 'amount_minor', 'destination', 'destination_currency',
    'row_sha256', 'created_at');
-- As its other terms: fixed once the run left draft.
CREATE OR REPLACE TRIGGER payout_keeps_its_tax_basis BEFORE UPDATE OF tax_basis ON payouts_payout
  FOR EACH ROW EXECUTE FUNCTION rows_keep_columns('tax_basis');

CREATE OR REPLACE FUNCTION payouts_payout_belongs_to_its_run() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
DECLARE
  run record;
BEGIN
  IF TG_OP = 'DELETE' THEN
    SELECT state, currency INTO run FROM payouts_payoutrun WHERE id = OLD.run_id;
    IF run.state NOT IN ('draft', 'calculating', 'set_aside') OR OLD.state <> 'ready' THEN
      RAISE EXCEPTION 'a payout leaves a run only while that is a draft'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'payouts_of_a_run_past_draft_are_frozen';
    END IF;
    RETURN OLD;
  END IF;
  SELECT state, currency INTO run FROM payouts_payoutrun WHERE id = NEW.run_id;
  IF TG_OP = 'INSERT' THEN
    IF run.state NOT IN ('draft', 'calculating', 'set_aside') THEN
      RAISE EXCEPTION 'a payout joins a run only while that is a draft'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'payouts_of_a_run_past_draft_are_frozen';
    END IF;
    IF run.currency <> NEW.currency THEN
      RAISE EXCEPTION 'a run pays one currency'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'a_run_pays_one_currency';
    END IF;
    RETURN NEW;
  END IF;
  IF (NEW.state = 'approved' AND OLD.state = 'ready' AND run.state <> 'approved')
     OR (NEW.state = 'sending' AND OLD.state = 'approved' AND run.state <> 'executing') THEN
    RAISE EXCEPTION 'a payout cannot be % while its run is %', NEW.state, run.state
      USING ERRCODE = 'check_violation', CONSTRAINT = 'a_payout_moves_with_its_run';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER payout_belongs_to_its_run BEFORE INSERT OR DELETE OR UPDATE OF state ON payouts_payout
  FOR EACH ROW EXECUTE FUNCTION payouts_payout_belongs_to_its_run();

CREATE OR REPLACE FUNCTION payouts_reversals_only_grow() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  IF NEW.reversed_minor < OLD.reversed_minor THEN
    RAISE EXCEPTION 'what was reversed stays reversed'
      USING ERRCODE = 'check_violation', CONSTRAINT = 'reversals_only_grow';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER payout_reversals_only_grow BEFORE UPDATE OF reversed_minor ON payouts_payout
  FOR EACH ROW EXECUTE FUNCTION payouts_reversals_only_grow();

-- Attempts -----------------------------------------------------------------------------------------------------------
CREATE OR REPLACE TRIGGER payout_attempt_keeps_its_request BEFORE UPDATE ON payouts_payoutattempt
  FOR EACH ROW WHEN (
    (OLD.payout_id, OLD.number, OLD.kind, OLD.provider, OLD.idempotency_key, OLD.amount_minor, OLD.request,
     OLD.request_sha256, OLD.first_sent_at, OLD.reserve_entry, OLD.requested_by_id)
    IS DISTINCT FROM
    (NEW.payout_id, NEW.number, NEW.kind, NEW.provider, NEW.idempotency_key, NEW.amount_minor, NEW.request,
     NEW.request_sha256, NEW.first_sent_at, NEW.reserve_entry, NEW.requested_by_id))
  EXECUTE FUNCTION rows_refuse_change();
-- A provider's id is written once.
CREATE OR REPLACE TRIGGER payout_attempt_keeps_its_answer BEFORE UPDATE ON payouts_payoutattempt
  FOR EACH ROW WHEN (
    (OLD.provider_transfer_id IS NOT NULL AND OLD.provider_transfer_id IS DISTINCT FROM NEW.provider_transfer_id)
    OR (OLD.provider_reversal_id IS NOT NULL AND OLD.provider_reversal_id IS DISTINCT FROM NEW.provider_reversal_id))
  EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER payout_attempt_is_never_deleted BEFORE DELETE ON payouts_payoutattempt
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();

-- Records ------------------------------------------------------------------------------------------------------------
CREATE OR REPLACE TRIGGER left_out_is_append_only BEFORE UPDATE ON payouts_leftout
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER reversal_is_append_only BEFORE UPDATE OR DELETE ON payouts_reversal
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER policy_is_append_only BEFORE UPDATE OR DELETE ON payouts_payoutpolicy
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER tax_profile_is_append_only BEFORE UPDATE OR DELETE ON payouts_taxprofile
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER reconciliation_is_append_only BEFORE UPDATE OR DELETE ON payouts_reconciliation
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER hold_keeps_its_beginning BEFORE UPDATE ON payouts_hold
  FOR EACH ROW EXECUTE FUNCTION rows_keep_columns('contributor_id', 'payout_id', 'reason', 'placed_by_id', 'placed_at');
CREATE OR REPLACE TRIGGER hold_stays_released BEFORE UPDATE ON payouts_hold
  FOR EACH ROW WHEN (OLD.released_at IS NOT NULL) EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER hold_is_never_deleted BEFORE DELETE ON payouts_hold
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER webhook_event_keeps_what_was_received BEFORE UPDATE ON payouts_webhookevent
  FOR EACH ROW WHEN (
    (OLD.endpoint, OLD.event_id, OLD.account, OLD.type, OLD.object_id, OLD.created, OLD.livemode, OLD.payload,
     OLD.headers, OLD.received_at)
    IS DISTINCT FROM
    (NEW.endpoint, NEW.event_id, NEW.account, NEW.type, NEW.object_id, NEW.created, NEW.livemode, NEW.payload,
     NEW.headers, NEW.received_at))
  EXECUTE FUNCTION rows_refuse_change();
-- Stripe's result of a top-up is written once: a second one of the same request never takes its place.
CREATE OR REPLACE TRIGGER top_up_keeps_its_answer BEFORE UPDATE ON payouts_topup
  FOR EACH ROW WHEN (
    (OLD.public_id, OLD.currency, OLD.amount_minor, OLD.requested_by_id, OLD.requested_at)
    IS DISTINCT FROM
    (NEW.public_id, NEW.currency, NEW.amount_minor, NEW.requested_by_id, NEW.requested_at)
    OR (OLD.provider_topup_id IS NOT NULL AND OLD.provider_topup_id IS DISTINCT FROM NEW.provider_topup_id))
  EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER difference_keeps_what_was_found BEFORE UPDATE ON payouts_difference
  FOR EACH ROW EXECUTE FUNCTION rows_keep_columns('public_id', 'type', 'run_id', 'payout_id', 'currency', 'subject',
    'expected', 'found', 'words', 'found_at');
CREATE OR REPLACE TRIGGER difference_is_never_deleted BEFORE DELETE ON payouts_difference
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();

CREATE OR REPLACE FUNCTION payouts_sign_off_is_by_another() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  IF NEW.signed_off_by_id IS NOT NULL AND EXISTS (
       SELECT FROM payouts_payoutrun r WHERE r.id = NEW.run_id AND r.created_by_id = NEW.signed_off_by_id) THEN
    RAISE EXCEPTION 'the creator of a run does not sign off its differences'
      USING ERRCODE = 'check_violation', CONSTRAINT = 'sign_off_is_by_another_than_the_creator';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER difference_is_signed_off_by_another BEFORE UPDATE OF signed_off_by_id ON payouts_difference
  FOR EACH ROW EXECUTE FUNCTION payouts_sign_off_is_by_another();

-- A row trigger does not see a TRUNCATE; of these tables nobody removes everything, a superuser included.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['payouts_payoutrun', 'payouts_payout', 'payouts_payoutattempt', 'payouts_reversal',
                              'payouts_hold', 'payouts_difference', 'payouts_reconciliation',
                              'payouts_webhookevent', 'payouts_topup', 'payouts_bankpayout'] LOOP
    EXECUTE format('CREATE OR REPLACE TRIGGER is_never_emptied BEFORE TRUNCATE ON %I
                    FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change()', name);
  END LOOP;
END $$;

REVOKE UPDATE, DELETE, TRUNCATE ON payouts_reversal, payouts_payoutpolicy, payouts_taxprofile,
  payouts_reconciliation FROM tributary_app;
REVOKE DELETE, TRUNCATE ON payouts_payoutrun, payouts_payoutattempt, payouts_hold, payouts_difference,
  payouts_topup, payouts_bankpayout FROM tributary_app;
