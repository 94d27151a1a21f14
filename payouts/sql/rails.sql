-- The manual rail, and four eyes on policies.

CREATE OR REPLACE TRIGGER bank_details_are_append_only BEFORE UPDATE OR DELETE ON payouts_bankdetails
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER bank_line_is_append_only BEFORE UPDATE OR DELETE ON payouts_bankline
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER bank_file_keeps_its_bytes BEFORE UPDATE ON payouts_bankfile
  FOR EACH ROW WHEN (
    (OLD.public_id, OLD.run_id, OLD.number, OLD.message_id, OLD.sealed, OLD.sha256, OLD.n_payments, OLD.total_minor,
     OLD.execution_on, OLD.made_by_id, OLD.made_at)
    IS DISTINCT FROM
    (NEW.public_id, NEW.run_id, NEW.number, NEW.message_id, NEW.sealed, NEW.sha256, NEW.n_payments, NEW.total_minor,
     NEW.execution_on, NEW.made_by_id, NEW.made_at))
  EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER bank_file_keeps_who_sent_it BEFORE UPDATE ON payouts_bankfile
  FOR EACH ROW WHEN (OLD.state <> 'made' AND (OLD.sent_by_id, OLD.withdrawn_by_id)
    IS DISTINCT FROM (NEW.sent_by_id, NEW.withdrawn_by_id))
  EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER bank_file_is_never_deleted BEFORE DELETE ON payouts_bankfile
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER payout_attempt_keeps_its_bank_file BEFORE UPDATE OF bank_file_id ON payouts_payoutattempt
  FOR EACH ROW WHEN (OLD.bank_file_id IS DISTINCT FROM NEW.bank_file_id) EXECUTE FUNCTION rows_refuse_change();

-- The person that handed a file to the bank does not confirm the bank's result.
CREATE OR REPLACE FUNCTION payouts_confirmation_is_by_another() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  IF NOT EXISTS (
       SELECT FROM payouts_payoutattempt a JOIN payouts_bankfile f ON f.id = a.bank_file_id
        WHERE a.id = NEW.attempt_id AND f.state = 'sent' AND f.sent_by_id <> NEW.recorded_by_id) THEN
    RAISE EXCEPTION 'a bank transfer is confirmed by another than the one who sent the file'
      USING ERRCODE = 'check_violation', CONSTRAINT = 'a_bank_transfer_is_confirmed_by_another';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER bank_line_is_recorded_by_another BEFORE INSERT ON payouts_bankline
  FOR EACH ROW EXECUTE FUNCTION payouts_confirmation_is_by_another();

CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON payouts_policyproposal
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed('policy_id');
CREATE OR REPLACE TRIGGER policy_proposal_is_never_deleted BEFORE DELETE ON payouts_policyproposal
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON payouts_bankdetails, payouts_bankline FROM tributary_app;
REVOKE DELETE, TRUNCATE ON payouts_bankfile, payouts_policyproposal FROM tributary_app;
