-- Rules for rows that hold for every writer, a superuser included. Triggers of all apps call these functions.
-- Each refusal is an integrity error and names a constraint, `<table>_<rule>`.

-- The state machine. A row moves only along the arrows given as arguments ('draft>calculating', ...) and begins only
-- in the states given as arguments ('=draft'). The triggers are written from the models (config/scripts.py).
CREATE OR REPLACE FUNCTION rows_follow_the_arrows() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NOT ('=' || NEW.state) = ANY (TG_ARGV) THEN
      RAISE EXCEPTION 'a row of % cannot begin as %', TG_TABLE_NAME, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_TABLE_NAME || '_begins_at_the_beginning';
    END IF;
  ELSIF NEW.state IS DISTINCT FROM OLD.state AND NOT (OLD.state || '>' || NEW.state) = ANY (TG_ARGV) THEN
    RAISE EXCEPTION 'a row of % cannot go from % to %', TG_TABLE_NAME, OLD.state, NEW.state
      USING ERRCODE = 'check_violation', CONSTRAINT = TG_TABLE_NAME || '_follows_the_arrows';
  END IF;
  RETURN NEW;
END $$;

-- Refuse the statement. An argument says why; without one the table is append-only.
CREATE OR REPLACE FUNCTION rows_refuse_change() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
BEGIN
  RAISE EXCEPTION '%: %; % is refused', TG_TABLE_NAME, coalesce(TG_ARGV[0], 'rows are append-only and never changed'), lower(TG_OP)
    USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_TABLE_NAME || '_is_append_only';
END $$;

-- The columns named as arguments never change.
CREATE OR REPLACE FUNCTION rows_keep_columns() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
DECLARE
  before jsonb := to_jsonb(OLD);
  after jsonb := to_jsonb(NEW);
  name text;
BEGIN
  FOREACH name IN ARRAY TG_ARGV LOOP
    IF before -> name IS DISTINCT FROM after -> name THEN
      RAISE EXCEPTION '% of a row of % never changes', name, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_TABLE_NAME || '_keeps_' || name;
    END IF;
  END LOOP;
  RETURN NEW;
END $$;

-- A proposal changes only by a step of its state. With it change its decider, the time, the reason of a rejection, and
-- the columns named as arguments.
CREATE OR REPLACE FUNCTION rows_stand_as_proposed() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
DECLARE
  free text[] := ARRAY['state', 'decided_by_id', 'decided_at', 'rejection'] || TG_ARGV;
BEGIN
  IF NEW.state = OLD.state OR to_jsonb(NEW) - free <> to_jsonb(OLD) - free THEN
    RAISE EXCEPTION '% % is % and stands as it was proposed; propose another', TG_TABLE_NAME, OLD.id, OLD.state
      USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_TABLE_NAME || '_stands_as_proposed';
  END IF;
  RETURN NEW;
END $$;
