-- One person tries the programme out. A stand-in for the second half of an act is only made in that mode.
CREATE OR REPLACE FUNCTION people_check_stand_in() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
  IF NEW.stands_for_id IS NOT NULL AND NOT EXISTS (SELECT FROM people_programme WHERE on_trial) THEN
    RAISE EXCEPTION 'a stand-in for a second person is only made while one person tries the programme out'
      USING ERRCODE = 'check_violation', CONSTRAINT = 'people_user_stands_in_only_on_trial';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER stands_in_only_on_trial BEFORE INSERT OR UPDATE OF stands_for_id ON people_user
  FOR EACH ROW EXECUTE FUNCTION people_check_stand_in();

-- A live key that was seen stays seen, so that the mode can never begin after it.
CREATE OR REPLACE FUNCTION people_check_programme() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
  IF OLD.live_key_at IS NOT NULL AND NEW.live_key_at IS DISTINCT FROM OLD.live_key_at THEN
    RAISE EXCEPTION 'the moment at which a live key was first seen never changes'
      USING ERRCODE = 'check_violation', CONSTRAINT = 'people_programme_keeps_live_key_at';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER live_key_stays_seen BEFORE UPDATE ON people_programme
  FOR EACH ROW EXECUTE FUNCTION people_check_programme();
CREATE OR REPLACE TRIGGER programme_is_kept BEFORE DELETE OR TRUNCATE ON people_programme
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change('there is one programme, and it stays');
