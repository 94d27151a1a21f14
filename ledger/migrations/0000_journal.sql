-- The journal's tables. They belong to tributary_owner; sql/privileges.sql says what the application may do with them.
-- Credit is positive, debit negative; amounts are integers at the asset's scale.

CREATE TABLE ledger_asset (
  id smallint PRIMARY KEY CONSTRAINT asset_number_fits_a_byte CHECK (id BETWEEN 1 AND 255),
  code varchar(3) NOT NULL UNIQUE CONSTRAINT asset_code_is_iso_4217 CHECK (code ~ '^[A-Z]{3}$'),
  scale smallint NOT NULL CONSTRAINT asset_scale_fits_64_bits CHECK (scale BETWEEN 0 AND 12),
  exponent smallint NOT NULL,
  CONSTRAINT asset_keeps_what_it_pays CHECK (exponent BETWEEN 0 AND scale)
);

-- The chart of accounts. A kind that is never negative has a balance of at least zero on its normal side.
CREATE TABLE ledger_account_kind (
  kind varchar(24) PRIMARY KEY,
  normal_side char(1) NOT NULL CONSTRAINT normal_side_is_known CHECK (normal_side IN ('D', 'C', 'E')),
  never_negative boolean NOT NULL,
  owner_word varchar(12) NOT NULL,
  takes_contract boolean NOT NULL,
  CONSTRAINT an_account_of_either_side_has_no_minimum CHECK (normal_side <> 'E' OR NOT never_negative)
);

CREATE SEQUENCE ledger_account_number;

CREATE TABLE ledger_account (
  id bigint PRIMARY KEY,
  kind varchar(24) NOT NULL REFERENCES ledger_account_kind,
  asset_id smallint NOT NULL REFERENCES ledger_asset,
  owner varchar(100) NOT NULL,
  contract varchar(60) NOT NULL,
  normal_side char(1) NOT NULL,
  opened_at timestamptz NOT NULL,
  -- The low byte of an account's number is its asset: lines balance per asset without a look at the account.
  CONSTRAINT account_number_tells_the_asset CHECK (id > 0 AND id % 256 = asset_id),
  CONSTRAINT an_account_is_opened_once UNIQUE (kind, asset_id, owner, contract)
);
CREATE INDEX ledger_account_owner ON ledger_account (owner);

-- The limits are null where the chart sets none, and then take no room.
CREATE TABLE ledger_balance (
  account_id bigint PRIMARY KEY REFERENCES ledger_account,
  posted bigint NOT NULL DEFAULT 0,
  version bigint NOT NULL DEFAULT 0,
  min_balance bigint,
  max_balance bigint,
  CONSTRAINT balance_is_within_its_limits CHECK (posted >= min_balance AND posted <= max_balance)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE ledger_chain_head (
  ledger smallint PRIMARY KEY,
  seq bigint NOT NULL,
  hash bytea NOT NULL,
  posted_at timestamptz NOT NULL
) WITH (fillfactor = 10);
INSERT INTO ledger_chain_head VALUES (1, 0, sha256('tributary ledger 1'), '-infinity');

CREATE TABLE ledger_period (
  id integer PRIMARY KEY,
  starts date NOT NULL UNIQUE,
  ends date NOT NULL UNIQUE,
  state varchar(7) NOT NULL DEFAULT 'open'
    CONSTRAINT period_state_is_known CHECK (state IN ('open', 'closing', 'closed', 'sealed')),
  salt bytea CONSTRAINT salt_has_32_bytes CHECK (octet_length(salt) = 32),
  merkle_root bytea CONSTRAINT merkle_root_has_32_bytes CHECK (octet_length(merkle_root) = 32),
  prev_root bytea CONSTRAINT prev_root_has_32_bytes CHECK (octet_length(prev_root) = 32),
  root bytea UNIQUE CONSTRAINT root_chains_to_the_previous_one CHECK (root = sha256(prev_root || merkle_root)),
  closed_at timestamptz,
  sealed_at timestamptz,
  closed_by_id bigint REFERENCES people_user,
  sealed_by_id bigint REFERENCES people_user,
  CONSTRAINT period_is_a_month CHECK (
    starts = make_date(id / 100, id % 100, 1) AND ends = (starts + interval '1 month')::date),
  CONSTRAINT a_closed_period_says_when CHECK ((state IN ('closed', 'sealed')) = (closed_at IS NOT NULL)),
  CONSTRAINT a_sealed_period_has_a_root CHECK (
    (state = 'sealed') = (root IS NOT NULL AND merkle_root IS NOT NULL AND prev_root IS NOT NULL AND salt IS NOT NULL
                          AND sealed_at IS NOT NULL))
);

CREATE TABLE ledger_entry (
  id bigint PRIMARY KEY CONSTRAINT entry_numbers_begin_at_1 CHECK (id > 0),
  batch_id bigint UNIQUE,
  idem_key varchar(200) NOT NULL UNIQUE CONSTRAINT entry_has_a_key CHECK (idem_key <> ''),
  request_hash bytea NOT NULL,
  kind varchar(24) NOT NULL,
  effective date NOT NULL,
  period_id integer NOT NULL REFERENCES ledger_period,
  earned_period_id integer NOT NULL REFERENCES ledger_period,
  posted_at timestamptz NOT NULL,
  reverses bigint UNIQUE REFERENCES ledger_entry,
  reference varchar(300) NOT NULL,
  rule_version varchar(60) NOT NULL,
  n_lines integer NOT NULL,
  n_docs integer NOT NULL,
  total bigint NOT NULL,
  first_account_id bigint REFERENCES ledger_account,
  prev_hash bytea NOT NULL UNIQUE,
  hash bytea NOT NULL UNIQUE,
  CONSTRAINT entry_is_dated_in_its_period CHECK (
    period_id = extract(year FROM effective)::integer * 100 + extract(month FROM effective)::integer),
  CONSTRAINT entry_is_not_earned_in_the_future CHECK (earned_period_id <= period_id),
  CONSTRAINT entry_with_documents_has_a_batch CHECK ((batch_id IS NULL) = (n_docs = 0)),
  -- Only a restatement that changes nothing moves nothing; its documents still say so.
  CONSTRAINT entry_has_lines CHECK (
    (n_lines >= 2 AND total > 0 AND first_account_id IS NOT NULL) OR
    (n_lines = 0 AND total = 0 AND first_account_id IS NULL AND n_docs >= 2 AND kind = 'restate')),
  CONSTRAINT entry_reverses_an_earlier_one CHECK (reverses < id)
);
CREATE INDEX ledger_entry_posted_at ON ledger_entry (posted_at);
CREATE INDEX ledger_entry_period ON ledger_entry (period_id, id);
CREATE INDEX ledger_entry_kind ON ledger_entry (kind, id);

-- No foreign key here: it triples the cost of a line. ledger_write proves every account by the number of balances
-- that it moved.
CREATE TABLE ledger_line (
  entry_id bigint NOT NULL,
  account_id bigint NOT NULL,
  amount bigint NOT NULL CONSTRAINT line_moves_something CHECK (amount <> 0),
  balance_after bigint NOT NULL,
  version bigint NOT NULL,
  PRIMARY KEY (account_id, entry_id)
) PARTITION BY RANGE (entry_id);
CREATE INDEX ledger_line_entry ON ledger_line USING brin (entry_id) WITH (pages_per_range = 16, autosummarize = on);

-- The documents. A negative revision reverses the positive one.
CREATE TABLE ledger_accrual (
  generation_id uuid NOT NULL,
  revision integer NOT NULL CONSTRAINT revision_is_not_zero CHECK (revision <> 0),
  batch_id bigint NOT NULL,
  source_id bigint NOT NULL,
  gross bigint NOT NULL,
  plan_id bigint NOT NULL,
  account_ids bigint[] NOT NULL,
  amounts bigint[] NOT NULL,
  PRIMARY KEY (generation_id, revision),
  CONSTRAINT a_reversal_negates CHECK (sign(gross) = sign(revision))
) PARTITION BY RANGE (generation_id);
-- lz4 where the server was built with it; the default method elsewhere.
DO $$ BEGIN
  ALTER TABLE ledger_accrual ALTER account_ids SET COMPRESSION lz4, ALTER amounts SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
CREATE INDEX ledger_accrual_batch ON ledger_accrual (batch_id);
ALTER TABLE ledger_accrual ADD CONSTRAINT a_document_stands_under_an_entry
  FOREIGN KEY (batch_id) REFERENCES ledger_entry (batch_id) DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE ledger_leaf (
  period_id integer NOT NULL REFERENCES ledger_period,
  position integer NOT NULL,
  account_id bigint NOT NULL REFERENCES ledger_account,
  opening bigint NOT NULL,
  closing bigint NOT NULL,
  n_lines integer NOT NULL,
  n_credits bigint NOT NULL,
  lines_digest bytea NOT NULL,
  credits_digest bytea NOT NULL,
  hash bytea NOT NULL,
  PRIMARY KEY (period_id, position),
  CONSTRAINT an_account_has_one_leaf_a_period UNIQUE (period_id, account_id)
);

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
