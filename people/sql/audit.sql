-- The audit log: every row carries the hash of the one before it. One advisory lock orders the writers, and the trigger
-- sets sequence and hashes itself, so that nobody can choose them.
CREATE OR REPLACE FUNCTION people_audit_text(e people_auditevent) RETURNS bytea LANGUAGE sql STABLE
    SET search_path = pg_catalog, public SET timezone = 'UTC' AS $$
  SELECT convert_to(jsonb_build_array(e.sequence, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
    e.actor_id, e.action, e.subject, e.before, e.after, host(e.ip), e.mfa_age_seconds, e.request_id)::text, 'UTF8')
$$;
CREATE OR REPLACE FUNCTION people_chain_audit_event() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
DECLARE
  last record;
BEGIN
  PERFORM pg_advisory_xact_lock(7462, 1);
  SELECT sequence, hash INTO last FROM people_auditevent ORDER BY sequence DESC LIMIT 1;
  NEW.sequence := coalesce(last.sequence, 0) + 1;
  NEW.prev_hash := coalesce(last.hash, decode(repeat('00', 32), 'hex'));
  NEW.hash := sha256(NEW.prev_hash || people_audit_text(NEW));
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER audit_event_is_chained BEFORE INSERT ON people_auditevent
  FOR EACH ROW EXECUTE FUNCTION people_chain_audit_event();
CREATE OR REPLACE TRIGGER audit_event_is_append_only BEFORE UPDATE OR DELETE ON people_auditevent
  FOR EACH ROW EXECUTE FUNCTION rows_refuse_change();
-- A row trigger does not see a TRUNCATE.
CREATE OR REPLACE TRIGGER audit_event_is_never_emptied BEFORE TRUNCATE ON people_auditevent
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON people_auditevent FROM tributary_app;
