-- The mode in which one person tries the programme out begins only while the books are empty.
CREATE OR REPLACE FUNCTION ledger_check_trial() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
  IF NEW.on_trial AND (TG_OP = 'INSERT' OR NOT OLD.on_trial) AND EXISTS (SELECT FROM ledger_entry) THEN
    RAISE EXCEPTION 'one person tries a programme out only while its books are empty'
      USING ERRCODE = 'check_violation', CONSTRAINT = 'people_programme_is_tried_with_empty_books';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER tried_with_empty_books BEFORE INSERT OR UPDATE OF on_trial ON people_programme
  FOR EACH ROW EXECUTE FUNCTION ledger_check_trial();
