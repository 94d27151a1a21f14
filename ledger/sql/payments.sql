-- The payments to payees, a row for each entry and payee, in units: paid and withheld by payouts, and moved by hand.
-- A payout counts on the day on which the money left; its return on its own day. An entry by hand says nothing of its
-- purpose, so that a person reads it: all that it moved is shown beside the payouts, and never as one of them. Tax that
-- it moved belongs to the one payee of the entry; where there is none or are several, to nobody.
WITH root AS (
  SELECT e.id, e.effective, e.posted_at, e.reference,
         CASE WHEN e.kind = 'reverse' THEN coalesce(o.kind, e.kind) ELSE e.kind END AS kind
    FROM ledger_entry e LEFT JOIN ledger_entry o ON o.id = e.reverses
   WHERE e.kind IN ('payout_reserve', 'transfer_reversed', 'bank_return', 'withholding_reversed', 'manual', 'reverse')
), own AS (
  SELECT e.id, e.effective, e.posted_at, e.reference, e.kind, a.owner, a.asset_id, -sum(l.amount)::bigint AS amount
    FROM root e JOIN ledger_line l ON l.entry_id = e.id JOIN ledger_account a ON a.id = l.account_id
   WHERE a.kind IN ('contributor_payable', 'contributor_receivable')
   GROUP BY 1, 2, 3, 4, 5, 6, 7
), tax AS (
  SELECT e.id, e.effective, e.posted_at, e.kind, a.asset_id, sum(l.amount)::bigint AS amount
    FROM root e JOIN ledger_line l ON l.entry_id = e.id JOIN ledger_account a ON a.id = l.account_id
   WHERE a.kind = 'tax_payable' AND a.owner LIKE '%/withholding'
   GROUP BY 1, 2, 3, 4, 5
)
SELECT s.effective, s.posted_at, o.owner, o.asset_id, o.amount - coalesce(t.amount, 0) AS paid,
       coalesce(t.amount, 0) AS withheld, 0::bigint AS by_hand, 0::bigint AS tax_by_hand
  FROM own o
  JOIN ledger_entry s ON s.idem_key = 'payout_succeed:' || o.reference
  LEFT JOIN tax t ON t.id = o.id AND t.asset_id = o.asset_id
 WHERE o.kind = 'payout_reserve'
UNION ALL
SELECT effective, posted_at, owner, asset_id, amount, 0, 0, 0 FROM own WHERE kind IN ('transfer_reversed', 'bank_return')
UNION ALL
SELECT effective, posted_at, owner, asset_id, 0, amount, 0, 0 FROM own WHERE kind = 'withholding_reversed'
UNION ALL
SELECT effective, posted_at, owner, asset_id, 0, 0, amount, 0 FROM own WHERE kind = 'manual'
UNION ALL
SELECT t.effective, t.posted_at,
       coalesce((SELECT min(o.owner) FROM own o WHERE o.id = t.id HAVING count(DISTINCT o.owner) = 1), ''),
       t.asset_id, 0, 0, 0, t.amount
  FROM tax t WHERE t.kind = 'manual'
