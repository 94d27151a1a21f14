-- What was corrected in a closed month's floor pool stays as it was written.

CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_floorcorrection
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
