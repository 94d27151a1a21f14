-- The only code that writes entries, lines and balances. The application may execute it, and has no other way in.
-- A function with a new signature needs a DROP of the old one here.

-- --- digests: the chain covers them. ledger/journal.py computes the same for a batch that it is about to copy. -----
-- In plpgsql, as are the reads of every posting, for the plan: a session makes it once, and one of a function in SQL that
-- is not inlined in every transaction.
CREATE OR REPLACE FUNCTION ledger_digest_lines(p_accounts bigint[], p_amounts bigint[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN (SELECT sha256(coalesce(string_agg(int8send(a) || int8send(m), ''::bytea ORDER BY a), ''))
            FROM unnest(p_accounts, p_amounts) AS x(a, m));
END $$;

CREATE OR REPLACE FUNCTION ledger_request_hash(p_kind text, p_earned integer, p_reverses bigint, p_reference text, p_rule text,
                                    p_body bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN sha256(convert_to(jsonb_build_array(p_kind, p_earned, p_reverses, p_reference, p_rule)::text, 'UTF8')
                || p_body);
END $$;

CREATE OR REPLACE FUNCTION ledger_entry_hash(p_prev bytea, p_id bigint, p_request bytea, p_key text, p_batch bigint,
                                  p_effective date, p_posted_at timestamptz, p_n_lines integer, p_n_docs integer,
                                  p_total bigint, p_lines bytea) RETURNS bytea LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN sha256(p_prev || int8send(p_id) || p_request
    || convert_to(jsonb_build_array(p_key, p_batch, to_char(p_effective, 'YYYY-MM-DD'),
                                    (extract(epoch FROM p_posted_at) * 1000000)::bigint,
                                    p_n_lines, p_n_docs, p_total)::text, 'UTF8')
    || p_lines);
END $$;

-- --- accounts -----------------------------------------------------------------------------------------------------
-- In plpgsql for the plan too. An account is a subquery of its own, so that it is probed by its whole key: joined, it was
-- sought by its asset alone, each key through all accounts of the currency, where the table had not been analysed since
-- it grew.
CREATE OR REPLACE FUNCTION ledger_find_accounts(p_kinds text[], p_assets text[], p_owners text[], p_contracts text[])
RETURNS bigint[] LANGUAGE plpgsql STABLE
SET search_path = public, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN (
    SELECT array_agg((SELECT a.id FROM ledger_account a
                       WHERE (a.kind, a.asset_id, a.owner, a.contract) = (k.kind, s.id, k.owner, k.contract))
                     ORDER BY k.place)
      FROM unnest(p_kinds, p_assets, p_owners, p_contracts) WITH ORDINALITY AS k(kind, asset, owner, contract, place)
      LEFT JOIN ledger_asset s ON s.code = k.asset);
END $$;

-- The numbers of accounts, in order. Missing ones are opened under chain_head, so that no two sessions wait for each
-- other's accounts in opposite orders.
CREATE OR REPLACE FUNCTION ledger_open_accounts(p_kinds text[], p_assets text[], p_owners text[], p_contracts text[])
RETURNS bigint[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  found_ids bigint[] := ledger_find_accounts(p_kinds, p_assets, p_owners, p_contracts);
  wrong text;
BEGIN
  IF array_position(found_ids, NULL) IS NULL THEN
    RETURN found_ids;
  END IF;
  PERFORM FROM ledger_chain_head WHERE ledger = 1 FOR UPDATE;
  SELECT concat_ws(' ', k.kind, k.asset, k.owner, k.contract) INTO wrong
    FROM unnest(p_kinds, p_assets, p_owners, p_contracts) AS k(kind, asset, owner, contract)
    LEFT JOIN ledger_account_kind c ON c.kind = k.kind
    LEFT JOIN ledger_asset s ON s.code = k.asset
   WHERE c.kind IS NULL OR s.id IS NULL OR split_part(k.owner, ':', 1) <> c.owner_word
      OR (k.owner LIKE '%:_%') <> (c.owner_word <> '') OR (k.contract <> '' AND NOT c.takes_contract)
   LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'The chart of accounts has no account %.', wrong USING ERRCODE = 'LG002';
  END IF;
  WITH wanted AS (
    SELECT DISTINCT k.kind, s.id AS asset_id, k.owner, k.contract, c.normal_side, c.never_negative
      FROM unnest(p_kinds, p_assets, p_owners, p_contracts) AS k(kind, asset, owner, contract)
      JOIN ledger_account_kind c ON c.kind = k.kind
      JOIN ledger_asset s ON s.code = k.asset
  ), opened AS (
    INSERT INTO ledger_account (id, kind, asset_id, owner, contract, normal_side, opened_at)
    SELECT nextval('ledger_account_number') * 256 + asset_id, kind, asset_id, owner, contract, normal_side,
           clock_timestamp()
      FROM wanted w
     WHERE NOT EXISTS (SELECT FROM ledger_account a WHERE (a.kind, a.asset_id, a.owner, a.contract)
                                                        = (w.kind, w.asset_id, w.owner, w.contract))
    RETURNING id, kind, normal_side
  )
  INSERT INTO ledger_balance (account_id, min_balance, max_balance)
  SELECT o.id, CASE WHEN c.never_negative AND o.normal_side = 'C' THEN 0 END,
               CASE WHEN c.never_negative AND o.normal_side = 'D' THEN 0 END
    FROM opened o JOIN ledger_account_kind c ON c.kind = o.kind;
  RETURN ledger_find_accounts(p_kinds, p_assets, p_owners, p_contracts);
END $$;

-- --- one entry ----------------------------------------------------------------------------------------------------
-- Under chain_head, which the caller holds: checks the date, takes the next number, moves the balances, writes the
-- header and the lines. p_accounts ascend and do not repeat.
CREATE OR REPLACE FUNCTION ledger_write(p_kind text, p_key text, p_request bytea, p_effective date, p_earned integer,
                             p_reverses bigint, p_reference text, p_rule text, p_batch bigint, p_docs integer,
                             p_accounts bigint[], p_amounts bigint[])
RETURNS bigint LANGUAGE plpgsql SET search_path = public, pg_temp SET jit = off AS $$
DECLARE
  head ledger_chain_head;
  month ledger_period;
  moved integer;
  credit numeric;
  lines integer := coalesce(cardinality(p_accounts), 0);
  lines_digest bytea := ledger_digest_lines(p_accounts, p_amounts);
  entry_hash bytea;
BEGIN
  SELECT * INTO STRICT head FROM ledger_chain_head WHERE ledger = 1;
  SELECT * INTO month FROM ledger_period
   WHERE id = extract(year FROM p_effective)::integer * 100 + extract(month FROM p_effective)::integer;
  IF month.id IS NULL OR month.state IN ('closed', 'sealed') OR (month.state = 'closing' AND p_kind NOT IN (
      'accrue_pool', 'distribute_floor', 'restate_floor', 'close_guarantee', 'close_recover', 'close_recoup',
      'close_reserve', 'close_payable')) THEN
    RAISE EXCEPTION 'No entry % may be dated %: the period is %.', p_kind, p_effective,
      coalesce(month.state, 'not open yet') USING ERRCODE = 'LG004';
  END IF;
  IF NOT EXISTS (SELECT FROM ledger_period WHERE id = coalesce(p_earned, month.id)) OR p_earned > month.id THEN
    RAISE EXCEPTION 'Nothing can be earned in period %.', p_earned USING ERRCODE = 'LG004';
  END IF;
  SELECT coalesce(sum(m) FILTER (WHERE m > 0), 0) INTO credit FROM unnest(p_amounts) AS m;
  head.seq := head.seq + 1;
  -- A clock that steps back must not put an entry before the one that it follows.
  head.posted_at := greatest(clock_timestamp(), head.posted_at);
  entry_hash := ledger_entry_hash(head.hash, head.seq, p_request, p_key, p_batch, p_effective, head.posted_at, lines,
                                  p_docs, credit::bigint, lines_digest);
  INSERT INTO ledger_entry (id, batch_id, idem_key, request_hash, kind, effective, period_id, earned_period_id,
                            posted_at, reverses, reference, rule_version, n_lines, n_docs, total, first_account_id,
                            prev_hash, hash)
  VALUES (head.seq, p_batch, p_key, p_request, p_kind, p_effective, month.id, coalesce(p_earned, month.id),
          head.posted_at, p_reverses, p_reference, p_rule, lines, p_docs, credit::bigint, p_accounts[1], head.hash,
          entry_hash);
  UPDATE ledger_chain_head SET seq = head.seq, hash = entry_hash, posted_at = head.posted_at WHERE ledger = 1;
  IF lines > 0 THEN
    WITH changed AS (
      UPDATE ledger_balance b SET posted = b.posted + x.m, version = b.version + 1
        FROM unnest(p_accounts, p_amounts) AS x(a, m) WHERE b.account_id = x.a
      RETURNING b.account_id, x.m, b.posted, b.version
    )
    INSERT INTO ledger_line (entry_id, account_id, amount, balance_after, version)
    SELECT head.seq, account_id, m, posted, version FROM changed ORDER BY account_id;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> lines THEN
      RAISE EXCEPTION '% of % accounts are unknown or repeated.', abs(lines - moved), lines USING ERRCODE = 'LG002';
    END IF;
  END IF;
  RETURN head.seq;
END $$;

-- The stored entry of a key; an error where the key stands for another request.
CREATE OR REPLACE FUNCTION ledger_replay(p_key text, p_request bytea) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  stored ledger_entry;
BEGIN
  SELECT * INTO stored FROM ledger_entry WHERE idem_key = p_key;
  IF stored.id IS NOT NULL AND stored.request_hash <> p_request THEN
    RAISE EXCEPTION 'The key % was used for entry %, which says something else.', p_key, stored.id
      USING ERRCODE = 'LG003';
  END IF;
  RETURN stored.id;
END $$;

CREATE OR REPLACE FUNCTION ledger_check_reversal(p_entry bigint, p_accounts bigint[], p_amounts bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  original ledger_entry;
  accounts bigint[];
  amounts bigint[];
BEGIN
  SELECT * INTO original FROM ledger_entry WHERE id = p_entry;
  IF original.id IS NULL OR original.n_docs > 0 OR original.reverses IS NOT NULL THEN
    RAISE EXCEPTION 'Entry % cannot be reversed: %.', p_entry,
      CASE WHEN original.id IS NULL THEN 'there is none'
           WHEN original.n_docs > 0 THEN 'its documents are restated instead'
           ELSE 'it is a reversal itself' END USING ERRCODE = 'LG005';
  END IF;
  IF EXISTS (SELECT FROM ledger_entry WHERE reverses = p_entry) THEN
    RAISE EXCEPTION 'Entry % is reversed already.', p_entry USING ERRCODE = 'LG006';
  END IF;
  SELECT array_agg(account_id ORDER BY account_id), array_agg(-amount ORDER BY account_id) INTO accounts, amounts
    FROM ledger_line WHERE entry_id = p_entry;
  IF accounts IS DISTINCT FROM p_accounts OR amounts IS DISTINCT FROM p_amounts THEN
    RAISE EXCEPTION 'These lines are not the opposite of entry %.', p_entry USING ERRCODE = 'LG005';
  END IF;
END $$;

CREATE OR REPLACE FUNCTION ledger_post(p_kind text, p_key text, p_effective date, p_accounts bigint[], p_amounts bigint[],
                            p_earned integer, p_reverses bigint, p_reference text, p_rule text,
                            OUT entry_id bigint, OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  accounts bigint[];
  amounts bigint[];
  request bytea;
  wrong text;
BEGIN
  IF p_kind IN ('accrue', 'accrue_pool', 'restate', 'void_generations') THEN
    RAISE EXCEPTION 'An entry % is posted with documents.', p_kind USING ERRCODE = 'LG007';
  END IF;
  IF cardinality(p_accounts) IS DISTINCT FROM cardinality(p_amounts) OR coalesce(cardinality(p_accounts), 0) < 2
     OR array_position(p_accounts, NULL) IS NOT NULL OR array_position(p_amounts, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'An entry has two lines or more, each an account and an amount.' USING ERRCODE = 'LG001';
  END IF;
  SELECT array_agg(a ORDER BY a), array_agg(m::bigint ORDER BY a) INTO accounts, amounts
    FROM (SELECT a, sum(m) AS m FROM unnest(p_accounts, p_amounts) AS x(a, m) GROUP BY a) s;
  IF array_position(amounts, 0) IS NOT NULL OR array_position(p_amounts, 0) IS NOT NULL THEN
    RAISE EXCEPTION 'A line has the amount 0.' USING ERRCODE = 'LG009';
  END IF;
  SELECT string_agg(s.code || ' ' || t.net, ', ') INTO wrong
    FROM (SELECT a % 256 AS asset, sum(m) AS net FROM unnest(accounts, amounts) AS x(a, m) GROUP BY a % 256) t
    LEFT JOIN ledger_asset s ON s.id = t.asset WHERE t.net <> 0 OR s.id IS NULL;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'Debits and credits differ: %.', wrong USING ERRCODE = 'LG001';
  END IF;
  request := ledger_request_hash(p_kind, p_earned, p_reverses, p_reference, p_rule,
                                 ledger_digest_lines(accounts, amounts));
  PERFORM FROM ledger_chain_head WHERE ledger = 1 FOR UPDATE;
  entry_id := ledger_replay(p_key, request);
  replayed := entry_id IS NOT NULL;
  IF NOT replayed THEN
    IF p_reverses IS NOT NULL THEN
      PERFORM ledger_check_reversal(p_reverses, accounts, amounts);
    END IF;
    entry_id := ledger_write(p_kind, p_key, request, p_effective, p_earned, p_reverses, p_reference, p_rule, NULL, 0,
                             accounts, amounts);
  END IF;
END $$;

CREATE OR REPLACE FUNCTION ledger_reverse(p_entry bigint, p_kind text, p_key text, p_effective date, p_reference text,
                               OUT entry_id bigint, OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  accounts bigint[];
  amounts bigint[];
  posted record;
BEGIN
  SELECT array_agg(l.account_id), array_agg(-l.amount) INTO accounts, amounts
    FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id WHERE l.entry_id = p_entry AND e.n_docs = 0;
  IF accounts IS NULL THEN
    PERFORM ledger_check_reversal(p_entry, NULL, NULL);
  END IF;
  SELECT * INTO posted FROM ledger_post(p_kind, p_key, p_effective, accounts, amounts, NULL, p_entry, p_reference, '');
  entry_id := posted.entry_id;
  replayed := posted.replayed;
END $$;

-- --- a batch of documents -----------------------------------------------------------------------------------------
-- Takes the batch, and tells whether it was delivered before. Called before the documents are copied.
CREATE OR REPLACE FUNCTION ledger_begin_batch(p_key text, p_batch bigint, p_request bytea, OUT entry_id bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(p_batch);
  entry_id := ledger_replay(p_key, p_request);
END $$;

CREATE OR REPLACE FUNCTION ledger_digest_documents(p_batch bigint) RETURNS bytea LANGUAGE sql STABLE AS $$
  SELECT sha256(string_agg(uuid_send(generation_id) || int4send(revision) || int8send(source_id) || int8send(gross)
                           || int8send(plan_id) || array_send(account_ids) || array_send(amounts), ''::bytea
                           ORDER BY generation_id, revision))
    FROM ledger_accrual WHERE batch_id = p_batch
$$;

CREATE OR REPLACE FUNCTION ledger_post_accruals(p_kind text, p_key text, p_request bytea, p_effective date, p_batch bigint,
                                     p_earned integer, p_reference text, p_rule text)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET jit = off AS $$
DECLARE
  docs integer;
  bad bigint;
  reversals bigint;
  lowest integer;
  highest integer;
  body bytea;
  line_accounts bigint[];
  line_amounts bigint[];
  wrong uuid;
BEGIN
  IF p_kind NOT IN ('accrue', 'accrue_pool', 'restate', 'void_generations') THEN
    RAISE EXCEPTION 'An entry % has no documents.', p_kind USING ERRCODE = 'LG007';
  END IF;
  PERFORM pg_advisory_xact_lock(p_batch);
  -- 1. The proof of the documents. No lock of the ledger is held yet: other posters go on meanwhile.
  SELECT count(*), count(*) FILTER (WHERE revision < 0), min(source_id % 256), max(source_id % 256),
         sha256(string_agg(uuid_send(generation_id) || int4send(revision) || int8send(source_id) || int8send(gross)
                           || int8send(plan_id) || array_send(account_ids) || array_send(amounts), ''::bytea
                           ORDER BY generation_id, revision)),
         count(*) FILTER (WHERE cardinality(account_ids) <> cardinality(amounts) OR array_ndims(amounts) <> 1
           OR array_ndims(account_ids) <> 1 OR cardinality(amounts) = 0
           OR NOT (SELECT sum(m) = gross AND min(CASE WHEN revision > 0 THEN m ELSE -m END) > 0
                     FROM unnest(amounts) AS m))
    INTO docs, reversals, lowest, highest, body, bad
    FROM ledger_accrual WHERE batch_id = p_batch;
  IF docs = 0 OR bad > 0 THEN
    RAISE EXCEPTION '% of % documents do not sum to their gross.', bad, docs USING ERRCODE = 'LG007';
  END IF;
  IF lowest <> highest THEN
    RAISE EXCEPTION 'A batch has documents of one asset.' USING ERRCODE = 'LG007';
  END IF;
  IF p_request <> ledger_request_hash(p_kind, p_earned, NULL, p_reference, p_rule, body) THEN
    RAISE EXCEPTION 'The documents are not those that were announced.' USING ERRCODE = 'LG007';
  END IF;
  SELECT array_agg(a ORDER BY a), array_agg(m ORDER BY a), count(*) FILTER (WHERE a % 256 <> lowest)
    INTO line_accounts, line_amounts, bad
    FROM (SELECT a, sum(m)::bigint AS m
            -- Both arrays are as long (see above), so that they are unnested side by side.
            FROM (SELECT unnest(account_ids) AS a, unnest(amounts) AS m FROM ledger_accrual WHERE batch_id = p_batch
                  UNION ALL
                  SELECT source_id, -gross FROM ledger_accrual WHERE batch_id = p_batch) z
           GROUP BY a HAVING sum(m) <> 0) s;
  IF bad > 0 THEN
    RAISE EXCEPTION 'A document credits an account of another asset.' USING ERRCODE = 'LG007';
  END IF;
  -- 2. The single writer.
  PERFORM FROM ledger_chain_head WHERE ledger = 1 FOR UPDATE;
  SELECT d.generation_id INTO wrong
    FROM (SELECT DISTINCT generation_id FROM ledger_accrual WHERE batch_id = p_batch) d,
         LATERAL (SELECT sum(sign(o.revision)) AS standing FROM ledger_accrual o
                   WHERE o.generation_id = d.generation_id OFFSET 0) s
   WHERE s.standing NOT IN (0, 1) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'Generation % has an accrual already; reverse it first.', wrong USING ERRCODE = 'LG007';
  END IF;
  IF reversals > 0 THEN
    SELECT d.generation_id INTO wrong
      FROM ledger_accrual d LEFT JOIN ledger_accrual o
        ON o.generation_id = d.generation_id AND o.revision = -d.revision
     WHERE d.batch_id = p_batch AND d.revision < 0
       AND ((o.source_id, o.gross, o.plan_id, o.account_ids) IS DISTINCT FROM
            (d.source_id, -d.gross, d.plan_id, d.account_ids)
            OR o.amounts IS DISTINCT FROM
               (SELECT array_agg(-m ORDER BY n) FROM unnest(d.amounts) WITH ORDINALITY AS x(m, n)))
     LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'The reversal of generation % is not the opposite of its original.', wrong
        USING ERRCODE = 'LG007';
    END IF;
  END IF;
  RETURN ledger_write(p_kind, p_key, p_request, p_effective, p_earned, NULL, p_reference, p_rule, p_batch, docs,
                      line_accounts, line_amounts);
END $$;

-- The same for a few documents, all in one call: the round trips of a COPY would cost more than the work. The arrays
-- of all documents follow each other in p_accounts and p_amounts; p_lengths cuts them.
CREATE OR REPLACE FUNCTION ledger_post_documents(
  p_kind text, p_key text, p_request bytea, p_effective date, p_batch bigint, p_earned integer, p_reference text,
  p_rule text, p_generations uuid[], p_revisions integer[], p_sources bigint[], p_grosses bigint[], p_plans bigint[],
  p_lengths integer[], p_accounts bigint[], p_amounts bigint[], OUT entry_id bigint, OUT replayed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET jit = off AS $$
BEGIN
  entry_id := ledger_begin_batch(p_key, p_batch, p_request);
  replayed := entry_id IS NOT NULL;
  IF NOT replayed THEN
    INSERT INTO ledger_accrual (generation_id, revision, batch_id, source_id, gross, plan_id, account_ids, amounts)
    SELECT g, r, p_batch, s, gross, plan, p_accounts[upto - n + 1 : upto], p_amounts[upto - n + 1 : upto]
      FROM (SELECT *, sum(n) OVER (ORDER BY place)::integer AS upto
              FROM unnest(p_generations, p_revisions, p_sources, p_grosses, p_plans, p_lengths)
                   WITH ORDINALITY AS x(g, r, s, gross, plan, n, place)) d;
    entry_id := ledger_post_accruals(p_kind, p_key, p_request, p_effective, p_batch, p_earned, p_reference, p_rule);
  END IF;
END $$;

-- --- reads --------------------------------------------------------------------------------------------------------
CREATE OR REPLACE FUNCTION ledger_hold_still() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  PERFORM FROM ledger_chain_head WHERE ledger = 1 FOR UPDATE;
END $$;

-- Balances in the order of the keys, now or after entry p_sequence; 0 for an account that is not open.
CREATE OR REPLACE FUNCTION ledger_balances(p_kinds text[], p_assets text[], p_owners text[], p_contracts text[],
                                           p_sequence bigint)
RETURNS TABLE (place bigint, posted bigint)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT k.place, coalesce(CASE WHEN p_sequence IS NULL THEN b.posted ELSE (
           SELECT l.balance_after FROM ledger_line l WHERE l.account_id = k.id AND l.entry_id <= p_sequence
            ORDER BY l.entry_id DESC LIMIT 1) END, 0)
    FROM unnest(ledger_find_accounts(p_kinds, p_assets, p_owners, p_contracts)) WITH ORDINALITY AS k(id, place)
    LEFT JOIN ledger_balance b ON b.account_id = k.id;
END $$;

-- Payables in the order of the keys, each less the credits of closes dated on or after a day. These closes are few and
-- found once. Their lines are probed by account and entry, independent of the server's statistics of the tables.
CREATE OR REPLACE FUNCTION ledger_matured(p_kinds text[], p_assets text[], p_owners text[], p_contracts text[],
                                          p_before date)
RETURNS TABLE (place bigint, matured bigint)
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  young bigint[] := ARRAY(SELECT e.id FROM ledger_entry e
                           WHERE e.kind = 'close_payable' AND e.effective >= p_before);
BEGIN
  RETURN QUERY
  SELECT k.place, greatest(0, coalesce(b.posted - coalesce((
           SELECT sum(l.amount) FROM ledger_line l
            WHERE l.account_id = k.id AND l.entry_id = ANY (young) AND l.amount > 0), 0), 0))::bigint
    FROM unnest(ledger_find_accounts(p_kinds, p_assets, p_owners, p_contracts)) WITH ORDINALITY AS k(id, place)
    LEFT JOIN ledger_balance b ON b.account_id = k.id;
END $$;

-- The root above a period's leaves in their order: pairs are hashed, a lone node moves up (RFC 6962, as ledger/proof.py).
CREATE OR REPLACE FUNCTION ledger_merkle_root(p_period integer) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
  level bytea[];
BEGIN
  SELECT array_agg(hash ORDER BY position) INTO level FROM ledger_leaf WHERE period_id = p_period;
  WHILE cardinality(level) > 1 LOOP
    SELECT array_agg(CASE WHEN beside IS NULL THEN node ELSE sha256('\x01'::bytea || node || beside) END ORDER BY n)
      INTO level
      FROM (SELECT n, node, lead(node) OVER (ORDER BY n) AS beside FROM unnest(level) WITH ORDINALITY AS x(node, n)) y
     WHERE n % 2 = 1;
  END LOOP;
  RETURN coalesce(level[1], decode(repeat('00', 32), 'hex'));
END $$;
