-- The rights of the application: read everything, insert documents and leaves, move periods, execute the functions.

REVOKE ALL ON ledger_asset, ledger_account_kind, ledger_account, ledger_balance, ledger_chain_head, ledger_period,
  ledger_entry, ledger_line, ledger_accrual, ledger_leaf FROM tributary_app;
REVOKE ALL ON SEQUENCE ledger_account_number FROM tributary_app;
GRANT SELECT ON ledger_asset, ledger_account_kind, ledger_account, ledger_balance, ledger_chain_head, ledger_period,
  ledger_entry, ledger_line, ledger_accrual, ledger_leaf TO tributary_app;
GRANT INSERT ON ledger_accrual, ledger_leaf, ledger_period TO tributary_app;
GRANT UPDATE ON ledger_period TO tributary_app;

DO $$
DECLARE
  f regprocedure;
BEGIN
  FOR f IN SELECT oid::regprocedure FROM pg_proc
            WHERE proname LIKE 'ledger\_%' AND pronamespace = 'public'::regnamespace LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, tributary_app', f);
  END LOOP;
  FOR f IN SELECT oid::regprocedure FROM pg_proc
            WHERE pronamespace = 'public'::regnamespace AND proname IN (
              'ledger_post', 'ledger_reverse', 'ledger_begin_batch', 'ledger_post_accruals', 'ledger_post_documents',
              'ledger_open_accounts', 'ledger_hold_still', 'ledger_make_partitions', 'ledger_find_accounts', 'ledger_balances',
              'ledger_matured', 'ledger_paid_since', 'ledger_digest_lines', 'ledger_digest_documents', 'ledger_request_hash',
              'ledger_entry_hash', 'ledger_merkle_root', 'ledger_earned_by_source', 'ledger_earned_by_credit',
              'ledger_fold_earned') LOOP
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO tributary_app', f);
  END LOOP;
END $$;
