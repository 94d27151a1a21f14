-- The books' invariants. Each is one statement, so that it sees one moment of a ledger that goes on posting, and
-- returns the rows that break it: none, when all is well. The line above each is its name.

--- I1: the lines of an entry sum to zero in each asset and agree with its header
SELECT coalesce(l.entry_id, e.id) AS entry, l.n, e.n_lines, l.credit, e.total, l.net
  FROM (SELECT entry_id, sum(n) AS n, sum(credit) AS credit, max(abs(net)) AS net
          FROM (SELECT entry_id, account_id % 256 AS asset, count(*) AS n, sum(amount) AS net,
                       sum(amount) FILTER (WHERE amount > 0) AS credit
                  FROM ledger_line GROUP BY 1, 2) per_asset
         GROUP BY entry_id) l
  FULL JOIN ledger_entry e ON e.id = l.entry_id
 WHERE e.id IS NULL OR coalesce(l.n, 0) <> e.n_lines OR coalesce(l.credit, 0) <> e.total OR coalesce(l.net, 0) <> 0

--- I2: a balance is the sum of its lines and its version their number
SELECT coalesce(b.account_id, l.account_id) AS account, b.posted, l.posted AS of_lines, b.version, l.n
  FROM ledger_balance b
  FULL JOIN (SELECT account_id, sum(amount) AS posted, count(*) AS n FROM ledger_line GROUP BY 1) l
    ON l.account_id = b.account_id
 WHERE b.account_id IS NULL OR b.posted <> coalesce(l.posted, 0) OR b.version <> coalesce(l.n, 0)

--- I3: the balance after each line is an unbroken running sum
SELECT account_id AS account, entry_id AS entry, balance_after, running
  FROM (SELECT account_id, entry_id, balance_after, version, sum(amount) OVER w AS running, row_number() OVER w AS n
          FROM ledger_line WINDOW w AS (PARTITION BY account_id ORDER BY entry_id)) l
 WHERE balance_after <> running OR version <> n

--- I4: the credits of a document sum to its gross, and each is within a unit of its quota
WITH document AS (
  SELECT d.generation_id, d.revision, d.gross, d.account_ids, d.amounts, p.id AS plan_id, p.currency,
         part.take, part.pool, div((part.pool - div(part.pool * p.floor_ppb, 1000000000)) * a.weight_ppb, 1000000000)
           AS direct,
         p.general_ppb, a.holder_ids, a.shares_ppb, a.general_ppb AS general, a.general_id, g.occurred_at
    FROM ledger_accrual d
    JOIN ledger_royaltyplan p ON p.id = d.plan_id
    JOIN attribution_attribution a ON (a.generation_id, a.revision) = (d.generation_id, d.revision)
    JOIN attribution_generation g ON g.id = d.generation_id,
         LATERAL (SELECT div(d.gross::numeric * p.take_ppb, 1000000000) AS take,
                         d.gross - div(d.gross::numeric * p.take_ppb, 1000000000) AS pool) part
), quota AS (
  SELECT d.generation_id, d.revision, s.contributor_id,
         sum(d.direct * (h.share::numeric * (1000000000 - d.general_ppb) + h.general::numeric * d.general_ppb) * s.ppb)
           / 1e27 AS quota,
         -- A holder with a split in parts is divided twice, each time within a unit.
         sum(CASE WHEN s.ppb = 1000000000 THEN 1 ELSE 2 END) AS tolerance
    FROM document d,
         LATERAL (
           SELECT * FROM unnest(d.holder_ids, d.shares_ppb, d.general) AS h(holder_id, share, general)
            WHERE d.general_id IS NULL
           UNION ALL
           -- Rule 2: paid holders in the row; every holder's general share stands once, and counts under few plans.
           SELECT holder_id, sum(share), sum(general) FROM (
             SELECT h.holder_id, h.share, 0 AS general FROM unnest(d.holder_ids, d.shares_ppb) AS h(holder_id, share)
             UNION ALL
             SELECT h.holder_id, 0, h.ppb FROM attribution_generalshares r, unnest(r.holder_ids, r.ppb) AS h(holder_id, ppb)
              WHERE r.id = d.general_id AND d.general_ppb > 0) both_kinds
            WHERE d.general_id IS NOT NULL GROUP BY holder_id) h,
         LATERAL (SELECT coalesce(max(effective_from) FILTER (WHERE effective_from <= d.occurred_at),
                                  min(effective_from)) AS since
                    FROM contributors_split WHERE holder_id = h.holder_id) sheet
    JOIN LATERAL (SELECT contributor_id, ppb FROM contributors_split
                   WHERE holder_id = h.holder_id AND effective_from = sheet.since) s ON true
   GROUP BY 1, 2, 3
), credited AS (
  SELECT d.generation_id, d.revision, split_part(a.owner, ':', 2)::bigint AS contributor_id, sum(u.amount) AS amount
    FROM document d, unnest(d.account_ids, d.amounts) AS u(account_id, amount)
    JOIN ledger_account a ON a.id = u.account_id AND a.kind = 'contributor_accrued'
   GROUP BY 1, 2, 3
)
SELECT d.generation_id::text, d.revision, 'sum of credits' AS what
  FROM ledger_accrual d
 WHERE NOT (SELECT sum(m) = d.gross AND min(m * sign(d.revision)) >= 1 FROM unnest(d.amounts) AS m)
    OR cardinality(d.amounts) <> cardinality(d.account_ids)
UNION ALL
SELECT coalesce(q.generation_id, c.generation_id)::text, coalesce(q.revision, c.revision), 'quota'
  FROM quota q FULL JOIN credited c USING (generation_id, revision, contributor_id)
 WHERE q.generation_id IS NULL OR abs(coalesce(c.amount, 0) - q.quota) >= q.tolerance
UNION ALL
SELECT d.generation_id::text, d.revision, 'platform fee'
  FROM document d
 WHERE d.take <> (SELECT coalesce(sum(u.amount), 0) FROM unnest(d.account_ids, d.amounts) AS u(account_id, amount)
                    JOIN ledger_account a ON a.id = u.account_id AND a.kind = 'platform_fee')

--- I5: the line of a batch on an account is the sum of its documents
-- A batch of many documents is summed by itself, in little memory; the small ones are summed all at once.
SELECT e.id AS entry, x.account, x.of_documents, x.of_line
  FROM ledger_entry e,
       LATERAL (
         SELECT coalesce(d.account_id, l.account_id) AS account, d.amount AS of_documents, l.amount AS of_line
           FROM (SELECT account_id, sum(amount) AS amount
                   FROM (SELECT unnest(account_ids) AS account_id, unnest(amounts) AS amount
                           FROM ledger_accrual WHERE batch_id = e.batch_id
                         UNION ALL SELECT source_id, -gross FROM ledger_accrual WHERE batch_id = e.batch_id) z
                  GROUP BY 1 HAVING sum(amount) <> 0) d
           FULL JOIN (SELECT account_id, amount FROM ledger_line WHERE entry_id = e.id) l USING (account_id)
          WHERE d.amount IS DISTINCT FROM l.amount) x
 WHERE e.n_docs > 16
UNION ALL
SELECT coalesce(d.entry_id, l.entry_id), coalesce(d.account_id, l.account_id), d.amount, l.amount
  FROM (SELECT entry_id, account_id, sum(amount) AS amount
          FROM (SELECT e.id AS entry_id, unnest(a.account_ids) AS account_id, unnest(a.amounts) AS amount
                  FROM ledger_entry e JOIN ledger_accrual a ON a.batch_id = e.batch_id WHERE e.n_docs <= 16
                UNION ALL
                SELECT e.id, a.source_id, -a.gross
                  FROM ledger_entry e JOIN ledger_accrual a ON a.batch_id = e.batch_id WHERE e.n_docs <= 16) z
         GROUP BY 1, 2 HAVING sum(amount) <> 0) d
  FULL JOIN (SELECT l.entry_id, l.account_id, l.amount FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
              WHERE e.batch_id IS NOT NULL AND e.n_docs <= 16) l
    ON (l.entry_id, l.account_id) = (d.entry_id, d.account_id)
 WHERE d.amount IS DISTINCT FROM l.amount

--- I6: a generation has at most one accrual that is not reversed
SELECT generation_id::text, sum(sign(revision)) AS standing FROM ledger_accrual
 GROUP BY generation_id HAVING sum(sign(revision)) NOT IN (0, 1)
UNION ALL
SELECT r.generation_id::text, r.revision FROM ledger_accrual r
  LEFT JOIN ledger_accrual o ON o.generation_id = r.generation_id AND o.revision = -r.revision
 WHERE r.revision < 0 AND o.generation_id IS NULL

--- I7: a key stands for one entry, and the entry holds the requested figures
SELECT e.id AS entry, e.idem_key
  FROM ledger_entry e
  -- The lines of an entry with documents are not its body: I8 has them in the entry's hash.
  LEFT JOIN (SELECT l.entry_id, sha256(string_agg(int8send(l.account_id) || int8send(l.amount), ''::bytea
                                                  ORDER BY l.account_id)) AS digest
               FROM ledger_line l JOIN ledger_entry n ON n.id = l.entry_id AND n.n_docs = 0
              GROUP BY l.entry_id) l ON l.entry_id = e.id
  LEFT JOIN (SELECT batch_id, sha256(string_agg(
                      uuid_send(generation_id) || int4send(revision) || int8send(source_id) || int8send(gross)
                      || int8send(plan_id) || array_send(account_ids) || array_send(amounts), ''::bytea
                      ORDER BY generation_id, revision)) AS digest
               FROM ledger_accrual GROUP BY batch_id) d ON d.batch_id = e.batch_id
 WHERE e.request_hash NOT IN (
         ledger_request_hash(e.kind, e.earned_period_id, e.reverses, e.reference, e.rule_version,
                             coalesce(d.digest, l.digest)),
         ledger_request_hash(e.kind, NULL, e.reverses, e.reference, e.rule_version, coalesce(d.digest, l.digest)))
UNION ALL
SELECT min(id), idem_key FROM ledger_entry GROUP BY idem_key HAVING count(*) > 1

--- I8: entries are numbered without a gap, each hash covers its entry and chains to the one before
SELECT c.id AS entry, c.place, c.fault
  FROM (SELECT e.id, row_number() OVER w AS place,
               CASE WHEN e.id <> row_number() OVER w THEN 'number'
                    WHEN e.prev_hash <> coalesce(lag(e.hash) OVER w, sha256('tributary ledger 1')) THEN 'link'
                    WHEN e.posted_at < lag(e.posted_at) OVER w THEN 'time'
                    WHEN e.hash <> ledger_entry_hash(
                           e.prev_hash, e.id, e.request_hash, e.idem_key, e.batch_id, e.effective, e.posted_at,
                           e.n_lines, e.n_docs, e.total, coalesce(l.digest, sha256(''))) THEN 'hash' END AS fault
          FROM ledger_entry e
          LEFT JOIN (SELECT entry_id, sha256(string_agg(int8send(account_id) || int8send(amount), ''::bytea
                                                        ORDER BY account_id)) AS digest
                       FROM ledger_line GROUP BY entry_id) l ON l.entry_id = e.id
        WINDOW w AS (ORDER BY e.id)) c
 WHERE c.fault IS NOT NULL
UNION ALL
SELECT h.seq, NULL, 'head' FROM ledger_chain_head h
  LEFT JOIN (SELECT id, hash FROM ledger_entry ORDER BY id DESC LIMIT 1) e ON true
 WHERE h.seq <> coalesce(e.id, 0) OR h.hash <> coalesce(e.hash, sha256('tributary ledger 1'))

--- I9: the application role changes nothing, and every table and partition is guarded
WITH guarded AS (
  SELECT c.oid, c.oid::regclass::text AS name, c.relispartition,
         c.relname ~ '^ledger_(line|accrual)' AS checked
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname ~
     '^ledger_(line|accrual)|^ledger_(entry|asset|account|account_kind|leaf)$'
)
SELECT name, 'the application role may ' || p AS fault FROM guarded,
       unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER', 'REFERENCES']) AS p
 WHERE has_table_privilege('tributary_app', oid, p)
UNION ALL
SELECT name, 'the application role may insert' FROM guarded
 WHERE has_table_privilege('tributary_app', oid, 'INSERT') AND name NOT IN ('ledger_accrual', 'ledger_leaf')
UNION ALL
SELECT c.oid::regclass::text, 'the application role may ' || p
  FROM pg_class c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p
 WHERE c.oid IN ('ledger_balance'::regclass, 'ledger_chain_head'::regclass, 'ledger_earned'::regclass,
                 'ledger_earnedmark'::regclass)
   AND has_table_privilege('tributary_app', c.oid, p)
UNION ALL
SELECT g.name, 'no trigger refuses a change' FROM guarded g
 WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = g.oid AND t.tgenabled IN ('O', 'A')
                    AND t.tgfoid = 'rows_refuse_change'::regproc AND t.tgtype & 56 = 56 AND t.tgqual IS NULL)
UNION ALL
SELECT g.name, 'no trigger checks what is inserted' FROM guarded g
 WHERE g.checked AND NOT EXISTS (
   SELECT FROM pg_trigger t WHERE t.tgrelid = g.oid AND t.tgenabled IN ('O', 'A') AND t.tgnewtable IS NOT NULL
      AND t.tgfoid IN ('ledger_check_lines'::regproc, 'ledger_check_documents'::regproc))
UNION ALL
SELECT c.oid::regclass::text, 'it belongs to the application role'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'public' AND c.relname LIKE 'ledger%' AND c.relowner = 'tributary_app'::regrole
UNION ALL
SELECT p.oid::regprocedure::text, 'it runs with an unsafe search path'
  FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'ledger\_%' AND p.prosecdef
   AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s LIKE 'search_path=%pg_temp')

--- I10: a sealed period's statements come out as they were sealed
WITH moved AS (
  SELECT e.period_id, l.account_id, sum(l.amount) AS net, count(*) AS n,
         sha256(convert_to(string_agg(l.entry_id || ' ' || l.amount || E'\n', '' ORDER BY l.entry_id), 'UTF8')) AS d
    FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
    JOIN ledger_period p ON p.id = e.period_id AND p.state = 'sealed'
   GROUP BY 1, 2
), credited AS (
  SELECT c.period_id, c.account_id, count(*) AS n,
         sha256(convert_to(string_agg(c.generation_id || ' ' || c.revision || ' ' || c.entry_id || ' ' || c.amount
                                      || E'\n', '' ORDER BY c.generation_id, c.revision), 'UTF8')) AS d
    FROM (SELECT e.period_id, u.account_id, d.generation_id, d.revision, e.id AS entry_id, u.amount
            FROM ledger_entry e JOIN ledger_period p ON p.id = e.period_id AND p.state = 'sealed'
            JOIN ledger_accrual d ON d.batch_id = e.batch_id,
                 unnest(d.account_ids, d.amounts) AS u(account_id, amount)) c
    JOIN ledger_account a ON a.id = c.account_id AND a.kind = 'contributor_accrued'
   GROUP BY 1, 2
)
SELECT coalesce(f.period_id, m.period_id) AS period, coalesce(f.account_id, m.account_id) AS account, 'leaf' AS what
  FROM ledger_leaf f
  FULL JOIN moved m ON (m.period_id, m.account_id) = (f.period_id, f.account_id)
  LEFT JOIN credited c ON (c.period_id, c.account_id) = (f.period_id, f.account_id)
  LEFT JOIN ledger_period p ON p.id = f.period_id
  LEFT JOIN ledger_account a ON a.id = f.account_id
  LEFT JOIN ledger_asset s ON s.id = a.asset_id
 WHERE f.period_id IS NULL OR f.closing - f.opening <> coalesce(m.net, 0) OR f.n_lines <> coalesce(m.n, 0)
    OR f.lines_digest <> coalesce(m.d, sha256('')) OR f.n_credits <> coalesce(c.n, 0)
    OR f.credits_digest <> coalesce(c.d, sha256(''))
    OR f.hash <> sha256('\x00'::bytea || convert_to(
         E'tributary-leaf-1\nperiod ' || p.id / 100 || '-' || lpad((p.id % 100)::text, 2, '0')
         || E'\naccount ' || concat_ws(' ', a.kind, s.code, nullif(a.owner, ''), nullif(a.contract, ''))
         || E'\nsalt ' || encode(sha256(p.salt || int8send(a.id)), 'hex')
         || E'\nopening ' || f.opening || E'\nlines ' || encode(f.lines_digest, 'hex')
         || E'\ncredits ' || encode(f.credits_digest, 'hex') || E'\nclosing ' || f.closing || E'\n', 'UTF8'))
UNION ALL
SELECT p.id, NULL, 'root' FROM ledger_period p
 WHERE p.state = 'sealed' AND p.merkle_root IS DISTINCT FROM ledger_merkle_root(p.id)
UNION ALL
SELECT p.id, NULL, 'chain of roots' FROM ledger_period p JOIN ledger_period before ON before.ends = p.starts
 WHERE p.state = 'sealed' AND (before.root IS DISTINCT FROM p.prev_root)

--- I11: a reversal is the opposite of its entry, which is reversed once
SELECT r.id AS entry, r.reverses
  FROM ledger_entry r JOIN ledger_entry o ON o.id = r.reverses
 WHERE o.n_docs > 0 OR o.reverses IS NOT NULL OR EXISTS (
   SELECT FROM (SELECT account_id, amount FROM ledger_line WHERE entry_id = o.id) a
     FULL JOIN (SELECT account_id, amount FROM ledger_line WHERE entry_id = r.id) b USING (account_id)
    WHERE a.amount IS DISTINCT FROM -b.amount)
UNION ALL
SELECT max(id), reverses FROM ledger_entry WHERE reverses IS NOT NULL GROUP BY reverses HAVING count(*) > 1

--- I12: no account was ever below its minimum
SELECT a.id AS account, a.kind, l.entry_id AS entry, l.balance_after
  FROM ledger_account a JOIN ledger_account_kind k ON k.kind = a.kind AND k.never_negative
  JOIN ledger_line l ON l.account_id = a.id
 WHERE CASE k.normal_side WHEN 'C' THEN l.balance_after < 0 ELSE l.balance_after > 0 END
UNION ALL
SELECT a.id, a.kind, NULL, b.posted
  FROM ledger_account a JOIN ledger_account_kind k ON k.kind = a.kind JOIN ledger_balance b ON b.account_id = a.id
 WHERE b.min_balance IS DISTINCT FROM CASE WHEN k.never_negative AND k.normal_side = 'C' THEN 0 END
    OR b.max_balance IS DISTINCT FROM CASE WHEN k.never_negative AND k.normal_side = 'D' THEN 0 END
    OR b.posted < b.min_balance OR b.posted > b.max_balance OR a.normal_side <> k.normal_side

--- I13: the credits of contributors are their payouts and the debts to them
WITH own(kind) AS (
  VALUES ('contributor_accrued'), ('contributor_payable'), ('contributor_receivable'), ('reserve_held'), ('on_hold'),
         ('unclaimed'), ('payouts_in_transit'), ('suspense_unmatched')
), against(entry_kind, kind) AS (
  VALUES ('accrue', 'service_unbilled'), ('accrue', 'platform_fee'), ('accrue', 'floor_pool'),
         ('accrue_pool', 'royalty_pool'), ('accrue_pool', 'platform_fee'), ('accrue_pool', 'floor_pool'),
         ('restate', 'service_unbilled'), ('restate', 'royalty_pool'), ('restate', 'platform_fee'),
         ('restate', 'floor_pool'), ('void_generations', 'service_unbilled'), ('void_generations', 'royalty_pool'),
         ('void_generations', 'platform_fee'), ('void_generations', 'floor_pool'), ('distribute_floor', 'floor_pool'),
         ('restate_floor', 'floor_pool'),
         ('close_guarantee', 'programme_cost'), ('close_guarantee', 'service_unbilled'), ('close_recoup', 'advance'),
         ('grant_advance', 'advance'), ('cancel_advance', 'advance'), ('payout_reserve', 'tax_payable'), ('payout_refuse', 'tax_payable'),
         ('payout_succeed', 'stripe_balance'), ('payout_succeed', 'bank'), ('transfer_reversed', 'stripe_balance'),
         ('withholding_reversed', 'tax_payable'), ('bank_return', 'bank'), ('absorb_deficit', 'stripe_balance'),
         ('write_off', 'programme_cost'), ('exchange_debt', 'fx_clearing'), ('escheat', 'bank')
), line AS (
  SELECT l.entry_id, l.account_id % 256 AS asset_id, l.amount, a.kind,
         CASE WHEN e.kind IN ('reverse', 'payout_refuse') THEN coalesce(o.kind, e.kind) ELSE e.kind END AS entry_kind
    FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id JOIN ledger_account a ON a.id = l.account_id
    LEFT JOIN ledger_entry o ON o.id = e.reverses
), touching AS (
  SELECT DISTINCT entry_id FROM line WHERE kind IN (SELECT kind FROM own)
)
SELECT coalesce(h.asset_id, f.asset_id) AS asset, h.owed, f.credited
  FROM (SELECT a.asset_id, sum(b.posted) AS owed FROM ledger_balance b JOIN ledger_account a ON a.id = b.account_id
         WHERE a.kind IN (SELECT kind FROM own) GROUP BY 1) h
  FULL JOIN (SELECT l.asset_id, -sum(l.amount) AS credited FROM line l JOIN touching t ON t.entry_id = l.entry_id
              WHERE (l.entry_kind, l.kind) IN (SELECT * FROM against)
                 OR (l.entry_kind = 'manual' AND l.kind NOT IN (SELECT kind FROM own)) GROUP BY 1) f
    ON f.asset_id = h.asset_id
 WHERE coalesce(h.owed, 0) <> coalesce(f.credited, 0)

--- I14: in any batches, each account has the sum of its documents
SELECT coalesce(d.account_id, l.account_id) AS account, d.amount AS of_documents, l.amount AS of_line
  FROM (SELECT u.account_id, sum(u.amount) AS amount
          FROM ledger_accrual a, LATERAL (
               SELECT x.account_id, x.amount FROM unnest(a.account_ids, a.amounts) AS x(account_id, amount)
               UNION ALL SELECT a.source_id, -a.gross) u
         GROUP BY 1) d
  FULL JOIN (SELECT l.account_id, sum(l.amount) AS amount FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
              WHERE e.n_docs > 0 GROUP BY 1) l ON l.account_id = d.account_id
 WHERE coalesce(d.amount, 0) <> coalesce(l.amount, 0)

--- I15: nothing acknowledged is lost: every entry has its lines and documents, every document its entry
SELECT coalesce(e.id, 0) AS entry, d.batch_id, e.n_docs, d.n
  FROM (SELECT id, batch_id, n_docs FROM ledger_entry WHERE batch_id IS NOT NULL OR n_docs > 0) e
  FULL JOIN (SELECT batch_id, count(*) AS n FROM ledger_accrual GROUP BY 1) d ON d.batch_id = e.batch_id
 WHERE e.id IS NULL OR e.n_docs <> coalesce(d.n, 0)

--- I16: opening and lines make the closing, which opens the next period
SELECT f.period_id AS period, f.account_id AS account, f.opening, f.closing
  FROM ledger_leaf f
  JOIN ledger_period p ON p.id = f.period_id
  LEFT JOIN ledger_period before ON before.ends = p.starts
  LEFT JOIN ledger_leaf b ON b.period_id = before.id AND b.account_id = f.account_id
 WHERE f.opening <> coalesce(b.closing, 0)
UNION ALL
SELECT f.period_id, f.account_id, f.opening, f.closing
  FROM ledger_leaf f
  JOIN (SELECT max(id) AS id FROM ledger_period WHERE state = 'sealed') p ON p.id = f.period_id
  LEFT JOIN (SELECT l.account_id, sum(l.amount) AS posted FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id
              WHERE e.period_id <= (SELECT max(id) FROM ledger_period WHERE state = 'sealed') GROUP BY 1) l
    ON l.account_id = f.account_id
 WHERE f.closing <> coalesce(l.posted, 0)

--- I17: after a restatement the accounts are as if it had been the first accrual
SELECT a.generation_id::text, a.account_id AS account, a.amount, s.amount AS standing
  FROM (SELECT d.generation_id, u.account_id, sum(u.amount) AS amount
          FROM ledger_accrual d, unnest(d.account_ids, d.amounts) AS u(account_id, amount)
         WHERE d.generation_id IN (SELECT generation_id FROM ledger_accrual WHERE revision < 0)
         GROUP BY 1, 2 HAVING sum(u.amount) <> 0) a
  FULL JOIN (SELECT d.generation_id, u.account_id, sum(u.amount) AS amount
          FROM ledger_accrual d, unnest(d.account_ids, d.amounts) AS u(account_id, amount)
         WHERE d.generation_id IN (SELECT generation_id FROM ledger_accrual WHERE revision < 0) AND d.revision > 0
           AND NOT EXISTS (SELECT FROM ledger_accrual r WHERE r.generation_id = d.generation_id
                                                          AND r.revision = -d.revision)
         GROUP BY 1, 2) s USING (generation_id, account_id)
 WHERE a.amount IS DISTINCT FROM s.amount

--- I18: every asset balances by itself
SELECT a.asset_id AS asset, sum(b.posted) AS net
  FROM ledger_balance b JOIN ledger_account a ON a.id = b.account_id
 GROUP BY 1 HAVING sum(b.posted) <> 0
UNION ALL
SELECT id % 256, NULL FROM ledger_account WHERE id % 256 <> asset_id

--- I19: no generation is silently unaccrued, and none is accrued without its attribution and plan
SELECT g.id::text AS generation, p.id AS period, 'neither accrued, refused nor listed' AS fault
  FROM ledger_period p
  JOIN attribution_generation g ON g.occurred_at >= p.starts::timestamp AT TIME ZONE 'UTC'
                               AND g.occurred_at < p.ends::timestamp AT TIME ZONE 'UTC'
 WHERE p.state IN ('closed', 'sealed') AND g.received_at < p.closed_at
   AND NOT EXISTS (SELECT FROM ledger_accrual d WHERE d.generation_id = g.id)
   AND NOT EXISTS (SELECT FROM ledger_refusal r WHERE r.generation_id = g.id)
   AND NOT EXISTS (SELECT FROM ledger_unaccrued u WHERE u.generation_id = g.id)
UNION ALL
SELECT d.generation_id::text, NULL, 'accrued without an attribution or against another plan'
  FROM ledger_accrual d
  LEFT JOIN attribution_attribution a ON (a.generation_id, a.revision) = (d.generation_id, abs(d.revision))
  LEFT JOIN attribution_generation g ON g.id = a.generation_id
  LEFT JOIN LATERAL (SELECT id FROM ledger_royaltyplan WHERE currency = g.currency AND state = 'approved'
                        AND effective_from <= g.occurred_at
                        AND coalesce(service_id, g.service_id) = g.service_id
                        AND coalesce(model_version_id, g.model_version_id) = g.model_version_id
                      ORDER BY model_version_id IS NULL, service_id IS NULL, effective_from DESC LIMIT 1) p ON true
 WHERE p.id IS DISTINCT FROM d.plan_id
UNION ALL
SELECT d.generation_id::text, NULL, 'unattributable and not charged to the base pool alone'
  FROM ledger_accrual d
  JOIN attribution_attribution a ON (a.generation_id, a.revision) = (d.generation_id, abs(d.revision))
  JOIN ledger_royaltyplan p ON p.id = d.plan_id
 WHERE a.unattributable AND (p.unattributable = 'free' OR EXISTS (
         SELECT FROM unnest(d.account_ids) AS u(account_id) JOIN ledger_account c ON c.id = u.account_id
          WHERE c.kind NOT IN ('platform_fee', 'floor_pool')))

--- I20: an entry of each kind debits and credits only the accounts that its operation is there for
WITH rule(entry_kind, debit, credit) AS (
  VALUES
  ('accrue', '{service_unbilled}', '{platform_fee,floor_pool,contributor_accrued,on_hold,suspense_unmatched}'),
  -- The remainder of a pool goes into the plan's next one.
  ('declare_pool', '{service_unbilled,programme_cost,royalty_pool}', '{royalty_pool}'),
  ('accrue_pool', '{royalty_pool}', '{platform_fee,floor_pool,contributor_accrued,on_hold,suspense_unmatched}'),
  ('distribute_floor', '{floor_pool}', '{contributor_accrued,on_hold,suspense_unmatched}'),
  -- Some get more and some less; the pool bears the remainder.
  ('restate_floor', '{floor_pool,contributor_accrued}', '{floor_pool,contributor_accrued}'),
  ('void_generations', '{platform_fee,floor_pool,contributor_accrued,on_hold,suspense_unmatched}',
   '{service_unbilled,royalty_pool}'),
  ('restate', '{service_unbilled,royalty_pool,platform_fee,floor_pool,contributor_accrued,on_hold,suspense_unmatched}',
   '{service_unbilled,royalty_pool,platform_fee,floor_pool,contributor_accrued,on_hold,suspense_unmatched}'),
  ('open_dispute', '{contributor_accrued,contributor_payable}', '{on_hold}'),
  ('decide_dispute', '{on_hold}', '{contributor_payable}'),
  ('find_owner', '{suspense_unmatched}', '{contributor_accrued}'),
  ('grant_advance', '{advance}', '{contributor_payable}'),
  ('cancel_advance', '{contributor_payable,programme_cost}', '{advance}'),
  ('close_guarantee', '{programme_cost,service_unbilled}', '{contributor_accrued}'),
  ('close_recover', '{contributor_accrued}', '{contributor_receivable}'),
  ('close_recoup', '{contributor_accrued}', '{advance}'),
  ('close_reserve', '{contributor_accrued}', '{reserve_held}'),
  ('release_reserve', '{reserve_held}', '{contributor_payable}'),
  ('close_payable', '{contributor_accrued,contributor_payable,contributor_receivable}',
   '{contributor_accrued,contributor_payable}'),
  ('payout_reserve', '{contributor_payable}', '{payouts_in_transit,tax_payable}'),
  ('payout_succeed', '{payouts_in_transit}', '{stripe_balance,bank}'),
  ('payout_refuse', '{payouts_in_transit,tax_payable}', '{contributor_payable}'),
  ('transfer_reversed', '{stripe_balance}', '{contributor_receivable,contributor_payable}'),
  ('withholding_reversed', '{tax_payable}', '{contributor_receivable,contributor_payable}'),
  ('bank_return', '{bank}', '{contributor_receivable,contributor_payable}'),
  ('remit_tax', '{tax_payable}', '{bank}'),
  ('absorb_deficit', '{contributor_receivable}', '{stripe_balance}'),
  ('write_off', '{programme_cost}', '{contributor_receivable,service_receivable}'),
  ('exchange_debt', '{contributor_payable,fx_clearing}', '{contributor_payable,fx_clearing}'),
  ('exchange_cash', '{stripe_balance,fx_clearing}', '{stripe_balance,fx_clearing}'),
  ('invoice_service', '{service_receivable}', '{service_unbilled,tax_payable}'),
  ('collect', '{bank}', '{service_receivable}'),
  ('prefund_service', '{bank}', '{service_deposit}'),
  ('apply_deposit', '{service_deposit}', '{service_receivable}'),
  ('top_up_stripe', '{stripe_balance}', '{bank}'),
  ('sweep_stripe', '{bank}', '{stripe_balance}'),
  ('stripe_fee', '{fees}', '{stripe_balance}'),
  ('receive_unidentified', '{bank}', '{suspense_cash}'),
  ('match_cash', '{suspense_cash}', '{service_receivable}'),
  ('mark_dormant', '{contributor_payable}', '{unclaimed}'),
  ('reclaim', '{unclaimed}', '{contributor_payable}'),
  ('escheat', '{unclaimed}', '{bank}'),
  ('capital', '{bank}', '{programme_equity}')
)
SELECT e.id AS entry, e.kind AS entry_kind, a.kind AS account_kind, l.amount
  FROM ledger_entry e
  JOIN ledger_line l ON l.entry_id = e.id
  JOIN ledger_account a ON a.id = l.account_id
  LEFT JOIN rule r ON r.entry_kind = e.kind
 -- A manual entry obeys I21; a reversal is the opposite of its original by I11.
 WHERE e.kind NOT IN ('manual', 'reverse')
   AND (r.entry_kind IS NULL OR a.kind <> ALL (CASE WHEN l.amount < 0 THEN r.debit ELSE r.credit END::text[]))

--- I21: a manual entry was proposed by one person and approved by another, as it stands
SELECT e.id AS entry, m.id AS manual_entry
  FROM ledger_entry e
  FULL JOIN ledger_manualentry m ON m.entry_id = e.id
 WHERE (e.kind = 'manual' OR m.state = 'approved')
   AND (e.id IS NULL OR m.id IS NULL OR e.kind <> 'manual' OR m.decided_by_id = m.proposed_by_id OR EXISTS (
     SELECT FROM (SELECT concat_ws(' ', l->>0, l->>1, l->>2, l->>3) AS account, sum((l->>4)::bigint) AS amount
                    FROM jsonb_array_elements(m.lines) AS l GROUP BY 1) proposed
       FULL JOIN (SELECT concat_ws(' ', a.kind, s.code, a.owner, a.contract) AS account, l.amount
                    FROM ledger_line l JOIN ledger_account a ON a.id = l.account_id
                    JOIN ledger_asset s ON s.id = a.asset_id WHERE l.entry_id = e.id) posted USING (account)
      WHERE proposed.amount IS DISTINCT FROM posted.amount))

--- I22: the held reserves are the unreleased instalments, and each was held and released by its entry
SELECT coalesce(b.account_id, 0) AS account, b.posted AS held, i.amount AS instalments, NULL::bigint AS entry
  FROM (SELECT a.id AS account_id, a.asset_id, a.owner, a.contract, b.posted
          FROM ledger_account a JOIN ledger_balance b ON b.account_id = a.id WHERE a.kind = 'reserve_held') b
  FULL JOIN (SELECT i.asset_id, 'contributor:' || c.contributor_id AS owner, c.code AS contract,
                    sum(i.amount) FILTER (WHERE i.released_entry_id IS NULL) AS amount
               FROM ledger_reserveinstalment i JOIN ledger_contract c ON c.id = i.contract_id GROUP BY 1, 2, 3) i
    USING (asset_id, owner, contract)
 WHERE coalesce(b.posted, 0) <> coalesce(i.amount, 0)
UNION ALL
SELECT NULL, coalesce(l.amount, 0), i.amount, coalesce(l.entry_id, i.entry_id)
  FROM (SELECT l.entry_id, sum(abs(l.amount)) AS amount
          FROM ledger_entry e JOIN ledger_line l ON l.entry_id = e.id JOIN ledger_account a ON a.id = l.account_id
         WHERE e.kind IN ('close_reserve', 'release_reserve') AND a.kind = 'reserve_held' GROUP BY 1) l
  FULL JOIN (SELECT entry_id, sum(amount) AS amount
               FROM (SELECT held_entry_id AS entry_id, amount FROM ledger_reserveinstalment
                     UNION ALL SELECT released_entry_id, amount FROM ledger_reserveinstalment
                      WHERE released_entry_id IS NOT NULL) x GROUP BY 1) i USING (entry_id)
 WHERE l.amount IS DISTINCT FROM i.amount

--- I23: the payments to payees in each year are the cash that left for them, and the withheld tax is the tax account's
WITH root AS (
  SELECT e.id, extract(year FROM e.effective)::integer AS year, e.reference, e.reverses,
         CASE WHEN e.kind = 'reverse' THEN coalesce(o.kind, e.kind) ELSE e.kind END AS kind
    FROM ledger_entry e LEFT JOIN ledger_entry o ON o.id = e.reverses
), line AS (
  SELECT e.*, a.kind AS account, a.owner, a.asset_id, l.amount
    FROM root e JOIN ledger_line l ON l.entry_id = e.id JOIN ledger_account a ON a.id = l.account_id
   WHERE a.kind IN ('contributor_payable', 'contributor_receivable', 'bank', 'stripe_balance')
      OR a.kind = 'tax_payable' AND a.owner LIKE '%/withholding'
), paid AS (
  SELECT s.year, l.asset_id, -sum(l.amount) AS amount
    FROM line l JOIN ledger_entry n ON n.idem_key = 'payout_succeed:' || l.reference JOIN root s ON s.id = n.id
   WHERE l.kind = 'payout_reserve' AND l.account IN ('contributor_payable', 'tax_payable') GROUP BY 1, 2
  UNION ALL
  SELECT year, asset_id, -sum(amount) FROM line
   WHERE kind IN ('transfer_reversed', 'bank_return') AND account LIKE 'contributor%' GROUP BY 1, 2
), cash AS (
  SELECT year, asset_id, sum(amount) AS amount FROM line
   WHERE kind IN ('payout_succeed', 'transfer_reversed', 'bank_return') AND account IN ('bank', 'stripe_balance')
   GROUP BY 1, 2
)
SELECT 'cash' AS what, coalesce(p.year, c.year) AS year, coalesce(p.asset_id, c.asset_id) AS asset, p.amount, c.amount AS booked
  FROM (SELECT year, asset_id, sum(amount) AS amount FROM paid GROUP BY 1, 2) p
  FULL JOIN cash c ON c.year = p.year AND c.asset_id = p.asset_id
 WHERE coalesce(p.amount, 0) <> coalesce(c.amount, 0)
UNION ALL
SELECT 'tax', year, asset_id, sum(amount) FILTER (WHERE kind IN
         ('payout_reserve', 'payout_refuse', 'withholding_reversed', 'manual', 'remit_tax')), sum(amount)
  FROM line WHERE account = 'tax_payable' GROUP BY 2, 3
HAVING sum(amount) FILTER (WHERE kind NOT IN
         ('payout_reserve', 'payout_refuse', 'withholding_reversed', 'manual', 'remit_tax')) <> 0
UNION ALL
-- Money that went from a payee to cash in any other way.
SELECT 'way', min(year), asset_id, sum(amount) FILTER (WHERE account LIKE 'contributor%'), id
  FROM line
 WHERE kind NOT IN ('transfer_reversed', 'bank_return', 'manual', 'absorb_deficit')
 GROUP BY id, asset_id
HAVING bool_or(account LIKE 'contributor%') AND bool_or(account IN ('bank', 'stripe_balance'))

--- I24: the sums of earnings by source and model are those of the lines and documents up to their mark
WITH mark AS (SELECT coalesce(max(upto), 0) AS upto FROM ledger_earnedmark), line AS (
  SELECT l.entry_id, l.account_id, l.amount, e.period_id,
         CASE WHEN e.kind IN ('accrue', 'accrue_pool', 'restate', 'void_generations') THEN 'direct'
              WHEN e.kind IN ('distribute_floor', 'restate_floor') THEN 'floor'
              WHEN e.kind IN ('close_guarantee', 'find_owner', 'manual') THEN 'other' END AS by
    FROM ledger_line l JOIN ledger_entry e ON e.id = l.entry_id WHERE e.id <= (SELECT upto FROM mark)
), expected AS (
  SELECT split_part(a.owner, ':', 2)::bigint AS contributor_id, l.by, l.period_id, l.account_id % 256 AS asset_id,
         0 AS subject_id, 0 AS generations, sum(l.amount) AS amount
    FROM line l JOIN ledger_account a ON a.id = l.account_id AND a.kind = 'contributor_accrued'
   WHERE l.by IS NOT NULL GROUP BY 1, 2, 3, 4
  UNION ALL
  -- A document may credit several accounts of one contributor, and counts once.
  SELECT contributor_id, 'model', period_id, asset_id, model_version_id, sum(sign(revision)), sum(amount)
    FROM (SELECT split_part(a.owner, ':', 2)::bigint AS contributor_id, e.period_id, a.asset_id, g.model_version_id,
                 d.generation_id, d.revision, sum(d.amounts[place]) AS amount
            FROM ledger_entry e
            JOIN ledger_accrual d ON d.batch_id = e.batch_id
            JOIN attribution_generation g ON g.id = d.generation_id,
                 generate_subscripts(d.account_ids, 1) AS place, ledger_account a
           WHERE a.id = d.account_ids[place] AND a.kind = 'contributor_accrued' AND e.id <= (SELECT upto FROM mark)
           GROUP BY 1, 2, 3, 4, 5, 6) c
   GROUP BY 1, 3, 4, 5
)
SELECT coalesce(s.contributor_id, x.contributor_id) AS contributor, coalesce(s.by, x.by) AS by,
       coalesce(s.period_id, x.period_id) AS period, coalesce(s.subject_id, x.subject_id) AS subject,
       s.generations, x.generations AS of_documents, s.amount, x.amount AS of_lines
  FROM (SELECT * FROM ledger_earned WHERE by <> 'work') s
  FULL JOIN expected x ON (x.contributor_id, x.by, x.period_id, x.asset_id, x.subject_id)
                        = (s.contributor_id, s.by, s.period_id, s.asset_id, s.subject_id)
 WHERE (s.generations, s.amount) IS DISTINCT FROM (x.generations, x.amount)
UNION ALL
SELECT NULL, 'mark', NULL, NULL, upto, NULL, NULL, NULL FROM mark
 WHERE upto > (SELECT coalesce(max(id), 0) FROM ledger_entry)

--- I25: the sums of earnings by work are the divided documents up to their mark, and sum to those by source
SELECT coalesce(s.contributor_id, x.contributor_id) AS contributor, coalesce(s.period_id, x.period_id) AS period,
       coalesce(s.subject_id, x.subject_id) AS work, s.generations, x.generations AS of_documents,
       s.amount, x.amount AS of_credits
  FROM (SELECT * FROM ledger_earned WHERE by = 'work') s
  FULL JOIN (SELECT f.* FROM ledger_earned_by_credit(0, (SELECT coalesce(max(upto), 0) FROM ledger_earnedmark), NULL) f
              WHERE f.by = 'work') x
    ON (x.contributor_id, x.period_id, x.asset_id, x.subject_id)
     = (s.contributor_id, s.period_id, s.asset_id, s.subject_id)
 WHERE (s.generations, s.amount) IS DISTINCT FROM (x.generations, x.amount)
UNION ALL
SELECT contributor_id, period_id, NULL, NULL, NULL, sum(amount) FILTER (WHERE by = 'work'),
       sum(amount) FILTER (WHERE by = 'direct')
  FROM ledger_earned WHERE by IN ('work', 'direct') GROUP BY 1, 2, asset_id
HAVING coalesce(sum(amount) FILTER (WHERE by = 'work'), 0) <> coalesce(sum(amount) FILTER (WHERE by = 'direct'), 0)
