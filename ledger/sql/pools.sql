-- Pools, voids and restatements: a decision stands; only its consequences are added.

CREATE OR REPLACE FUNCTION ledger_check_pool() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.state = 'approved' AND NEW.proposed_by_id IS NOT NULL THEN
      RAISE EXCEPTION 'A pool begins as a proposal, or as its plan''s own amount.' USING ERRCODE = 'LG008';
    END IF;
    IF NOT EXISTS (SELECT FROM ledger_royaltyplan WHERE id = NEW.plan_id AND basis = 'period_pool'
                      AND state = 'approved') THEN
      RAISE EXCEPTION 'Only a plan in effect that divides a pool has one.' USING ERRCODE = 'LG008';
    END IF;
    RETURN NEW;
  END IF;
  -- Any change is a step of the state, or the division of an approved pool.
  IF (NEW.state = OLD.state AND (OLD.state <> 'approved' OR OLD.divided_at IS NOT NULL OR NEW.divided_at IS NULL))
     OR (NEW.plan_id, NEW.period_id, NEW.amount, NEW.note, NEW.proposed_by_id, NEW.proposed_at)
     IS DISTINCT FROM (OLD.plan_id, OLD.period_id, OLD.amount, OLD.note, OLD.proposed_by_id, OLD.proposed_at)
     OR (OLD.state = 'approved' AND (NEW.entry_id, NEW.decided_by_id, NEW.decided_at)
         IS DISTINCT FROM (OLD.entry_id, OLD.decided_by_id, OLD.decided_at)) THEN
    RAISE EXCEPTION 'Pool % is fixed once proposed.', OLD.id USING ERRCODE = 'LG008';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER in_order BEFORE INSERT OR UPDATE ON ledger_periodpool
  FOR EACH ROW EXECUTE FUNCTION ledger_check_pool();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_periodpool
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

-- The parts of a pool are written in one statement, and sum to it.
CREATE OR REPLACE FUNCTION ledger_check_pool_parts() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM (SELECT pool_id, sum(gross) AS gross, count(*) AS n FROM new_rows GROUP BY 1) s
               JOIN ledger_periodpool p ON p.id = s.pool_id
              WHERE p.divided_at IS NULL OR p.amount + p.carried <> s.gross
                 OR (SELECT count(*) FROM ledger_poolpart x WHERE x.pool_id = p.id) <> s.n) THEN
    RAISE EXCEPTION 'The parts of a pool are written once, and sum to it.' USING ERRCODE = 'LG001';
  END IF;
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER whole AFTER INSERT ON ledger_poolpart REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_check_pool_parts();
CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_poolpart
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_void
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change('a void is never changed');

CREATE OR REPLACE FUNCTION ledger_check_restatement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Any change is a step of the state, or counts on while it runs.
  IF (NEW.state = OLD.state AND (OLD.state <> 'approved' OR OLD.finished_at IS NOT NULL))
     OR (OLD.state <> 'proposed' AND (NEW.decided_by_id, NEW.decided_at) IS DISTINCT FROM (OLD.decided_by_id, OLD.decided_at))
     OR (NEW.index_id, NEW.reason, NEW.since, NEW.proposed_by_id, NEW.proposed_at)
        IS DISTINCT FROM (OLD.index_id, OLD.reason, OLD.since, OLD.proposed_by_id, OLD.proposed_at)
     OR NEW.n_attributed < OLD.n_attributed THEN
    RAISE EXCEPTION 'Restatement % is % and stands as it was proposed.', OLD.id, OLD.state USING ERRCODE = 'LG008';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER in_order BEFORE UPDATE ON ledger_restatement
  FOR EACH ROW EXECUTE FUNCTION ledger_check_restatement();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_restatement
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

-- The application may not execute functions that only triggers call.
REVOKE ALL ON FUNCTION ledger_check_pool(), ledger_check_pool_parts(), ledger_check_restatement()
  FROM PUBLIC, tributary_app;
