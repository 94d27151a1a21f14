-- Rules for every role: rows of the journal are immutable, and every inserted entry balances. A statement trigger on a
-- partitioned parent does not protect a partition that is named directly, so every guard stands on both; ledger_guard
-- puts them there, also for partitions made later.

-- Every statement that inserts lines brings whole entries, which balance per asset and agree with their headers.
CREATE OR REPLACE FUNCTION ledger_check_lines() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  bad bigint;
BEGIN
  SELECT s.entry_id INTO bad
    FROM (SELECT entry_id, sum(n) AS n, sum(credit) AS credit, bool_and(net = 0) AS balanced
            FROM (SELECT entry_id, account_id % 256 AS asset, count(*) AS n, sum(amount) AS net,
                         coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS credit
                    FROM new_rows GROUP BY entry_id, account_id % 256) per_asset
           GROUP BY entry_id) s
    LEFT JOIN ledger_entry e ON e.id = s.entry_id
   WHERE e.id IS NULL OR NOT s.balanced OR s.n <> e.n_lines OR s.credit <> e.total
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'Entry % does not balance or disagrees with its header.', bad USING ERRCODE = 'LG001';
  END IF;
  RETURN NULL;
END $$;

-- A document may only be added before its entry is. The lock makes a second session's documents wait and then see it.
CREATE OR REPLACE FUNCTION ledger_check_documents() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  batch bigint;
BEGIN
  FOR batch IN SELECT DISTINCT batch_id FROM new_rows ORDER BY 1 LOOP
    PERFORM pg_advisory_xact_lock(batch);
    IF EXISTS (SELECT FROM ledger_entry WHERE batch_id = batch) THEN
      RAISE EXCEPTION 'The entry of this document exists already.' USING ERRCODE = 'LG007';
    END IF;
  END LOOP;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION ledger_guard(p_table regclass) RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  checks text := CASE WHEN p_table::text LIKE 'ledger_line%' THEN 'ledger_check_lines'
                      WHEN p_table::text LIKE 'ledger_accrual%' THEN 'ledger_check_documents' END;
BEGIN
  EXECUTE format('CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
                  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change(
                      ''what the ledger has written is never changed, post a reversal'')', p_table);
  IF checks IS NOT NULL THEN
    EXECUTE format('CREATE OR REPLACE TRIGGER checked AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows
                    FOR EACH STATEMENT EXECUTE FUNCTION %I()', p_table, checks);
  END IF;
END $$;

SELECT ledger_guard(oid) FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
   AND relname ~ '^ledger_(line|accrual)(_|$)|^ledger_(entry|asset|account_kind|account|leaf)$';

-- Balances and the chain head move, but are never removed.
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_balance
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_chain_head
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_period
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

CREATE OR REPLACE FUNCTION ledger_check_chain_head() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.ledger <> OLD.ledger OR NEW.seq <> OLD.seq + 1 OR NEW.hash = OLD.hash OR NEW.posted_at < OLD.posted_at THEN
    RAISE EXCEPTION 'The chain head moves by one entry at a time.' USING ERRCODE = 'LG008';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER one_step BEFORE UPDATE ON ledger_chain_head
  FOR EACH ROW EXECUTE FUNCTION ledger_check_chain_head();

-- A header follows the entry before it, and by the end of its transaction it has its lines: they came in one
-- statement that was checked as a whole, so that one of them proves all.
CREATE OR REPLACE FUNCTION ledger_check_entry() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF NEW.n_lines > 0 AND NOT EXISTS (
      SELECT FROM ledger_line WHERE account_id = NEW.first_account_id AND entry_id = NEW.id) THEN
    RAISE EXCEPTION 'Entry % has no lines.', NEW.id USING ERRCODE = 'LG001';
  END IF;
  IF NOT EXISTS (SELECT FROM ledger_chain_head WHERE seq >= NEW.id) OR (NEW.id > 1 AND NOT EXISTS (
      SELECT FROM ledger_entry WHERE id = NEW.id - 1 AND hash = NEW.prev_hash)) THEN
    RAISE EXCEPTION 'Entry % does not follow the chain.', NEW.id USING ERRCODE = 'LG001';
  END IF;
  RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS whole ON ledger_entry;
CREATE CONSTRAINT TRIGGER whole AFTER INSERT ON ledger_entry DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION ledger_check_entry();

-- Periods: months without a gap; the next is open before one closes; they close and are sealed in order. chain_head
-- is taken first, so that no entry is dated in a period while it begins to close.
CREATE OR REPLACE FUNCTION ledger_check_period() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  before ledger_period;
BEGIN
  PERFORM FROM ledger_chain_head WHERE ledger = 1 FOR UPDATE;
  IF TG_OP = 'INSERT' THEN
    IF NEW.state <> 'open' THEN
      RAISE EXCEPTION 'A period begins open.' USING ERRCODE = 'LG004';
    END IF;
    IF EXISTS (SELECT FROM ledger_period) AND NOT EXISTS (SELECT FROM ledger_period WHERE ends = NEW.starts) THEN
      RAISE EXCEPTION 'Period % does not follow the last one.', NEW.id USING ERRCODE = 'LG004';
    END IF;
    RETURN NEW;
  END IF;
  IF (NEW.id, NEW.starts, NEW.ends) IS DISTINCT FROM (OLD.id, OLD.starts, OLD.ends)
     OR OLD.state || '>' || NEW.state NOT IN ('open>closing', 'closing>closed', 'closed>sealed') THEN
    RAISE EXCEPTION 'Period %: % does not become %.', OLD.id, OLD.state, NEW.state USING ERRCODE = 'LG004';
  END IF;
  SELECT * INTO before FROM ledger_period WHERE ends = OLD.starts;
  IF NEW.state = 'closing' THEN
    IF NOT EXISTS (SELECT FROM ledger_period WHERE starts = OLD.ends AND state = 'open') THEN
      RAISE EXCEPTION 'Period % cannot close before the next one is open.', OLD.id USING ERRCODE = 'LG004';
    END IF;
    IF before.state IN ('open', 'closing') THEN
      RAISE EXCEPTION 'Period % cannot close before period %.', OLD.id, before.id USING ERRCODE = 'LG004';
    END IF;
  END IF;
  IF NEW.state = 'sealed' AND before.id IS NOT NULL AND before.root IS DISTINCT FROM NEW.prev_root THEN
    RAISE EXCEPTION 'Period % must be sealed upon the root of period %.', OLD.id, before.id USING ERRCODE = 'LG004';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER in_order BEFORE INSERT OR UPDATE ON ledger_period
  FOR EACH ROW EXECUTE FUNCTION ledger_check_period();

-- A leaf is written while its period is closed and not yet sealed.
CREATE OR REPLACE FUNCTION ledger_check_leaves() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM (SELECT DISTINCT period_id FROM new_rows) n JOIN ledger_period p ON p.id = n.period_id
              WHERE p.state <> 'closed') THEN
    RAISE EXCEPTION 'Leaves are written between the close and the seal.' USING ERRCODE = 'LG004';
  END IF;
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER in_time AFTER INSERT ON ledger_leaf REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_check_leaves();

-- --- partitions -------------------------------------------------------------------------------------------------
-- Lines: a partition for every million entries. Documents: one for every month of generation numbers, which begin
-- with the milliseconds of their making (UUID version 7).
CREATE OR REPLACE FUNCTION ledger_first_uuid(p_month date) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM p_month::timestamp) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

CREATE OR REPLACE FUNCTION ledger_make_partition(p_parent regclass, p_name text, p_from text, p_to text) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
  EXECUTE format('CREATE TABLE %I PARTITION OF %s FOR VALUES FROM (%s) TO (%s)', p_name, p_parent, p_from, p_to);
  EXECUTE format('REVOKE ALL ON %I FROM tributary_app', p_name);
  PERFORM ledger_guard(p_name::regclass);
END $$;

-- Makes the missing partitions, so that generations made in `p_until` and the next half million entries find their
-- place. Returns the number of partitions made.
CREATE OR REPLACE FUNCTION ledger_make_partitions(p_until date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  made integer := 0;
  million bigint;
  month date;
  name text;
  last_month date := date_trunc('month', p_until)::date;
BEGIN
  IF p_until > current_date + 400 THEN
    RAISE EXCEPTION 'Partitions are made for the coming year, not for %.', p_until USING ERRCODE = 'LG004';
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('ledger_make_partitions'));
  SELECT (seq + 500000) / 1000000 INTO million FROM ledger_chain_head WHERE ledger = 1;
  FOR n IN 0 .. million LOOP
    name := 'ledger_line_m' || n;
    IF to_regclass(name) IS NULL THEN
      PERFORM ledger_make_partition('ledger_line', name, (n * 1000000)::text, ((n + 1) * 1000000)::text);
      made := made + 1;
    END IF;
  END LOOP;
  IF to_regclass('ledger_accrual_before') IS NULL THEN
    month := date_trunc('month', current_date - 70)::date;
    PERFORM ledger_make_partition('ledger_accrual', 'ledger_accrual_before', 'MINVALUE',
                                  quote_literal(ledger_first_uuid(month)));
    made := made + 1;
  ELSE
    SELECT max(to_date(right(relname, 6), 'YYYYMM')) INTO month FROM pg_class
     WHERE relname ~ '^ledger_accrual_[0-9]{6}$' AND relnamespace = 'public'::regnamespace;
    month := (month + interval '1 month')::date;
  END IF;
  WHILE month <= last_month LOOP
    PERFORM ledger_make_partition('ledger_accrual', to_char(month, '"ledger_accrual_"YYYYMM'),
      quote_literal(ledger_first_uuid(month)),
      quote_literal(ledger_first_uuid((month + interval '1 month')::date)));
    made := made + 1;
    month := (month + interval '1 month')::date;
  END LOOP;
  RETURN made;
END $$;
SELECT ledger_make_partitions((current_date + interval '2 months')::date);
