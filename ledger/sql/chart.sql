-- The assets of ledger/money.py and the chart of accounts of ledger/journal.py, as the database holds them.

INSERT INTO ledger_asset (id, code, scale, exponent) VALUES
  (1, 'USD', 9, 2), (2, 'EUR', 9, 2), (3, 'JPY', 7, 0), (4, 'GBP', 9, 2), (5, 'CHF', 9, 2), (6, 'CAD', 9, 2),
  (7, 'AUD', 9, 2), (8, 'SEK', 9, 2), (9, 'NOK', 9, 2), (10, 'DKK', 9, 2), (11, 'PLN', 9, 2), (12, 'HUF', 9, 2),
  (13, 'TWD', 9, 2), (14, 'KRW', 7, 0), (15, 'KWD', 9, 3), (16, 'BHD', 9, 3);

INSERT INTO ledger_account_kind (kind, normal_side, never_negative, owner_word, takes_contract) VALUES
  ('bank', 'D', false, '', false),
  ('stripe_balance', 'D', false, '', false),
  ('service_unbilled', 'D', false, 'service', false),
  ('service_receivable', 'D', false, 'service', false),
  ('advance', 'D', true, 'contributor', true),
  ('contributor_receivable', 'D', true, 'contributor', false),
  ('fees', 'D', false, '', false),
  ('programme_cost', 'D', false, '', false),
  ('service_deposit', 'C', true, 'service', false),
  ('royalty_pool', 'C', false, 'plan', false),
  ('floor_pool', 'C', false, 'plan', false),
  ('contributor_accrued', 'C', false, 'contributor', true),
  ('contributor_payable', 'C', true, 'contributor', false),
  ('reserve_held', 'C', true, 'contributor', true),
  ('on_hold', 'C', true, 'dispute', false),
  ('suspense_unmatched', 'C', true, 'work', false),
  ('unclaimed', 'C', true, 'contributor', false),
  ('payouts_in_transit', 'C', true, 'rail', false),
  ('tax_payable', 'C', false, 'jurisdiction', false),
  ('platform_fee', 'C', false, '', false),
  ('programme_equity', 'C', false, '', false),
  ('fx_clearing', 'E', false, '', false),
  ('fx_gain_loss', 'E', false, '', false),
  ('suspense_cash', 'E', false, '', false);
