-- A row trigger does not see a TRUNCATE; of these tables nobody removes everything, a superuser included.
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['payouts_payoutrun', 'payouts_payout', 'payouts_payoutattempt', 'payouts_reversal',
                              'payouts_hold', 'payouts_difference', 'payouts_reconciliation', 'payouts_auditevent',
                              'payouts_webhookevent', 'payouts_topup', 'payouts_bankpayout'] LOOP
    EXECUTE format('CREATE TRIGGER is_never_emptied BEFORE TRUNCATE ON %I
                    FOR EACH STATEMENT EXECUTE FUNCTION payouts_refuse()', name);
  END LOOP;
END $$;
