-- Proposals about roles and second factors stand as they were proposed.
CREATE OR REPLACE TRIGGER role_change_stands BEFORE UPDATE ON people_rolechange
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed();
CREATE OR REPLACE TRIGGER role_change_is_never_deleted BEFORE DELETE ON people_rolechange
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER factor_reset_stands BEFORE UPDATE ON people_factorreset
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed();
CREATE OR REPLACE TRIGGER factor_reset_is_never_deleted BEFORE DELETE ON people_factorreset
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
