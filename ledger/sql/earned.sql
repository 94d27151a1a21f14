-- The sums of earnings. ledger_earned covers the entries up to ledger_earnedmark; the functions below sum any span of
-- entries, so that a reader adds the entries behind the mark to the sums. Entries are numbered without a gap and become
-- visible in their order: no entry is counted twice, and none is lost.

-- By source, from the lines. Moves that only pass earned money on (a close, a hold) are no source.
CREATE OR REPLACE FUNCTION ledger_earned_by_source(p_after bigint, p_upto bigint, p_contributor bigint)
RETURNS TABLE (contributor_id bigint, by varchar, period_id integer, asset_id smallint, subject_id bigint,
               generations bigint, amount bigint)
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp SET jit = off SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
  own bigint[] := (SELECT array_agg(id) FROM ledger_account
                    WHERE kind = 'contributor_accrued' AND owner = 'contributor:' || p_contributor);
BEGIN
  RETURN QUERY
  SELECT split_part(a.owner, ':', 2)::bigint, k.source::varchar, e.period_id, a.asset_id, 0::bigint, 0::bigint,
         sum(l.amount)::bigint
    FROM ledger_line l
    JOIN ledger_entry e ON e.id = l.entry_id
    JOIN (VALUES ('accrue', 'direct'), ('accrue_pool', 'direct'), ('restate', 'direct'), ('void_generations', 'direct'),
                 ('distribute_floor', 'floor'), ('restate_floor', 'floor'),
                 ('close_guarantee', 'other'), ('find_owner', 'other'), ('manual', 'other')) AS k(kind, source)
      ON k.kind = e.kind
    JOIN ledger_account a ON a.id = l.account_id AND a.kind = 'contributor_accrued'
   WHERE l.entry_id > p_after AND l.entry_id <= p_upto AND (p_contributor IS NULL OR l.account_id = ANY (own))
   GROUP BY 1, 2, 3, 4;
END $$;

-- By model version and by work, from the documents. A generation that is reversed counts as minus one.
CREATE OR REPLACE FUNCTION ledger_earned_by_credit(p_after bigint, p_upto bigint, p_contributor bigint)
RETURNS TABLE (contributor_id bigint, by varchar, period_id integer, asset_id smallint, subject_id bigint,
               generations bigint, amount bigint)
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp SET jit = off SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
  own bigint[] := (SELECT array_agg(id) FROM ledger_account
                    WHERE kind = 'contributor_accrued' AND owner = 'contributor:' || p_contributor);
BEGIN
  RETURN QUERY
  WITH credit AS MATERIALIZED (
    SELECT d.generation_id, d.revision, e.period_id, a.asset_id, split_part(a.owner, ':', 2)::bigint AS contributor_id,
           sum(u.amount)::bigint AS amount
      FROM ledger_entry e
      JOIN ledger_accrual d ON d.batch_id = e.batch_id,
           unnest(d.account_ids, d.amounts) AS u(account_id, amount)
      JOIN ledger_account a ON a.id = u.account_id AND a.kind = 'contributor_accrued'
     WHERE e.id > p_after AND e.id <= p_upto
       AND (p_contributor IS NULL OR (d.account_ids && own AND u.account_id = ANY (own)
            -- A restatement may leave an account as it was, and then has no line on it.
            AND (e.kind IN ('restate', 'void_generations') OR EXISTS (
                 SELECT FROM ledger_line l WHERE l.account_id = ANY (own) AND l.entry_id = e.id))))
     GROUP BY 1, 2, 3, 4, 5
  ), generation AS MATERIALIZED (
    SELECT g.id, g.occurred_at, g.model_version_id
      FROM (SELECT DISTINCT generation_id FROM credit) c JOIN attribution_generation g ON g.id = c.generation_id
  ), evidence AS MATERIALIZED (
    -- The works that stand behind each generation's credits, by their holder, with positive scores.
    SELECT t.generation_id, t.revision, g.occurred_at, h.key::bigint AS holder_id, (w.pair ->> 0)::bigint AS work_id,
           (w.pair ->> 1)::numeric AS score
      FROM (SELECT DISTINCT generation_id, abs(revision) AS revision FROM credit) c
      JOIN attribution_attribution t ON (t.generation_id, t.revision) = (c.generation_id, c.revision)
      JOIN generation g ON g.id = t.generation_id,
           jsonb_each(t.top_works) AS h(key, pairs), jsonb_array_elements(h.pairs) AS w(pair)
     WHERE (w.pair ->> 1)::numeric > 0
  ), sheet AS MATERIALIZED (
    -- Each split sheet with the span in which it counts; the first one counts for earlier generations too.
    SELECT s.holder_id, s.contributor_id, CASE WHEN b.place = 1 THEN '-infinity' ELSE b.since END AS since,
           coalesce(b.until, 'infinity') AS until
      FROM (SELECT x.holder_id, x.since, lead(x.since) OVER w AS until, row_number() OVER w AS place
              FROM (SELECT DISTINCT holder_id, effective_from AS since FROM contributors_split
                     WHERE holder_id IN (SELECT holder_id FROM evidence)) x
            WINDOW w AS (PARTITION BY x.holder_id ORDER BY x.since)) b
      JOIN contributors_split s ON (s.holder_id, s.effective_from) = (b.holder_id, b.since)
     WHERE p_contributor IS NULL OR s.contributor_id = p_contributor
  ), owned AS MATERIALIZED (
    SELECT e.generation_id, e.revision, s.contributor_id, e.work_id, trunc(max(e.score) * 1000000000000) AS weight
      FROM evidence e JOIN sheet s ON s.holder_id = e.holder_id AND e.occurred_at >= s.since AND e.occurred_at < s.until
     GROUP BY 1, 2, 3, 4
  ), quota AS (
    -- The largest remainder, as divide_among_works of ledger/queries/earnings.py has it.
    SELECT c.*, o.work_id, div(abs(c.amount) * o.weight, sum(o.weight) OVER w) AS whole,
           mod(abs(c.amount) * o.weight, sum(o.weight) OVER w) AS rest
      FROM credit c
      JOIN owned o ON (o.generation_id, o.revision, o.contributor_id)
                    = (c.generation_id, abs(c.revision), c.contributor_id) AND o.weight > 0
    WINDOW w AS (PARTITION BY c.generation_id, c.revision, c.contributor_id, c.asset_id)
  ), part AS (
    SELECT q.contributor_id, q.period_id, q.asset_id, q.work_id, q.revision,
           sign(q.amount) * (q.whole + CASE WHEN row_number() OVER (
             PARTITION BY q.generation_id, q.revision, q.contributor_id, q.asset_id
             ORDER BY q.rest DESC, sha256(uuid_send(q.generation_id) || int8send(q.work_id)))
             <= abs(q.amount) - sum(q.whole) OVER (
             PARTITION BY q.generation_id, q.revision, q.contributor_id, q.asset_id) THEN 1 ELSE 0 END) AS amount
      FROM quota q
    UNION ALL
    SELECT c.contributor_id, c.period_id, c.asset_id, 0, c.revision, c.amount
      FROM credit c
     WHERE NOT EXISTS (SELECT FROM owned o WHERE (o.generation_id, o.revision, o.contributor_id)
                                               = (c.generation_id, abs(c.revision), c.contributor_id) AND o.weight > 0)
  )
  SELECT c.contributor_id, 'model'::varchar, c.period_id, c.asset_id, g.model_version_id, sum(sign(c.revision))::bigint,
         sum(c.amount)::bigint
    FROM credit c JOIN generation g ON g.id = c.generation_id GROUP BY 1, 3, 4, 5
  UNION ALL
  SELECT p.contributor_id, 'work', p.period_id, p.asset_id, p.work_id, sum(sign(p.revision))::bigint,
         sum(p.amount)::bigint
    FROM part p GROUP BY 1, 3, 4, 5;
END $$;

-- Moves the mark over the next entries, up to about p_documents documents, and adds them to the sums, all in one
-- transaction. Returns the number of entries; 0 where none is left, or where another session is at it.
CREATE OR REPLACE FUNCTION ledger_fold_earned(p_documents integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET jit = off AS $$
DECLARE
  done bigint;
  last bigint;
  lacking bigint;
BEGIN
  -- Only at first: where another session moves the mark, an insert would wait for it.
  IF NOT EXISTS (SELECT FROM ledger_earnedmark) THEN
    INSERT INTO ledger_earnedmark (id, upto) VALUES (1, 0) ON CONFLICT DO NOTHING;
  END IF;
  SELECT upto INTO done FROM ledger_earnedmark WHERE id = 1 FOR UPDATE SKIP LOCKED;
  IF done IS NULL THEN
    RETURN 0;
  END IF;
  SELECT max(id) INTO last
    FROM (SELECT id, sum(n_docs) OVER (ORDER BY id) - n_docs AS before
            FROM (SELECT id, n_docs FROM ledger_entry WHERE id > done ORDER BY id LIMIT 20000) n) x
   WHERE before < p_documents;
  IF last IS NULL THEN
    RETURN 0;
  END IF;
  SELECT min(e.id) INTO lacking FROM ledger_entry e
   WHERE e.id > done AND e.id <= last AND e.n_docs > 0
     AND e.n_docs <> (SELECT count(*) FROM ledger_accrual d WHERE d.batch_id = e.batch_id);
  IF lacking = done + 1 THEN
    RAISE EXCEPTION 'Entry % lacks its documents: they were moved to an archive before their earnings were summed. Attach their month again.',
      lacking USING ERRCODE = 'LG007';
  END IF;
  last := coalesce(lacking - 1, last);
  INSERT INTO ledger_earned AS s (contributor_id, by, period_id, asset_id, subject_id, generations, amount)
  SELECT f.* FROM ledger_earned_by_source(done, last, NULL) f
  UNION ALL
  SELECT f.* FROM ledger_earned_by_credit(done, last, NULL) f
  ON CONFLICT (contributor_id, by, period_id, asset_id, subject_id) DO UPDATE
     SET generations = s.generations + excluded.generations, amount = s.amount + excluded.amount;
  UPDATE ledger_earnedmark SET upto = last WHERE id = 1;
  RETURN last - done;
END $$;

-- The sums move by that function alone, and the mark never goes back.
REVOKE ALL ON ledger_earned, ledger_earnedmark FROM tributary_app;
GRANT SELECT ON ledger_earned, ledger_earnedmark TO tributary_app;
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_earned
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_earnedmark
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
