-- A dispute ends once, and its words stay as they were written.

CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON ledger_receiptdispute
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed('answer', 'answered_by_id', 'answered_at');
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_receiptdispute
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
