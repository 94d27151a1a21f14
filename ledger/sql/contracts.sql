-- Terms of contracts: fixed once proposed, approved only where they contradict no other contract of the contributor.

CREATE OR REPLACE FUNCTION ledger_check_terms() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
  other text;
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF cardinality(NEW.release_months) <> cardinality(NEW.release_ppb)
       OR (cardinality(NEW.release_ppb) > 0 AND (SELECT sum(p) <> 1000000000 OR min(p) <= 0 FROM unnest(NEW.release_ppb) AS p))
       OR EXISTS (SELECT FROM unnest(NEW.release_months) WITH ORDINALITY AS m(months, n)
                   WHERE months NOT BETWEEN 1 AND 120
                      OR months <= (SELECT max(b.months) FROM unnest(NEW.release_months) WITH ORDINALITY AS b(months, n)
                                     WHERE b.n < m.n)) THEN
      RAISE EXCEPTION 'A release schedule names 1 to 120 months, ascending, with parts that sum to 1,000,000,000.'
        USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
  END IF;
  IF NEW.state = 'approved' THEN
    IF EXISTS (SELECT FROM ledger_period WHERE starts = NEW.effective_from AND state <> 'open') THEN
      RAISE EXCEPTION 'The month of % is closing or closed; it keeps its terms.', NEW.effective_from
        USING ERRCODE = 'LG004';
    END IF;
    IF EXISTS (SELECT FROM ledger_contractterms WHERE contract_id = NEW.contract_id AND state = 'approved'
                  AND effective_from > NEW.effective_from) THEN
      RAISE EXCEPTION 'A later version of this contract is approved already.' USING ERRCODE = 'check_violation';
    END IF;
    -- Of every other contract: each approved version that is still in force when this one begins, or begins later.
    SELECT c.code INTO other
      FROM ledger_contract own
      JOIN ledger_contract c ON c.contributor_id = own.contributor_id AND c.id <> own.id
      JOIN ledger_contractterms t ON t.contract_id = c.id AND t.state = 'approved'
     WHERE own.id = NEW.contract_id
       AND NOT EXISTS (SELECT FROM ledger_contractterms later WHERE later.contract_id = c.id AND later.state = 'approved'
                          AND later.effective_from > t.effective_from AND later.effective_from <= NEW.effective_from)
       AND ((t.covers_rest AND NEW.covers_rest) OR t.holder_ids && NEW.holder_ids)
     LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'Contract % covers some of this already.', other USING ERRCODE = 'check_violation';
    END IF;
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER in_order BEFORE INSERT OR UPDATE ON ledger_contractterms
  FOR EACH ROW EXECUTE FUNCTION ledger_check_terms();
CREATE OR REPLACE TRIGGER fixed_once_proposed BEFORE UPDATE ON ledger_contractterms
  FOR EACH ROW EXECUTE FUNCTION rows_stand_as_proposed();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_contractterms
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_contract
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();

-- An instalment is released once, and otherwise stands.
CREATE OR REPLACE FUNCTION ledger_check_instalment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.released_entry_id IS NOT NULL OR NEW.released_entry_id IS NULL
     OR to_jsonb(NEW) - 'released_entry_id' <> to_jsonb(OLD) - 'released_entry_id' THEN
    RAISE EXCEPTION 'A reserve instalment is released once, and otherwise stands.' USING ERRCODE = 'LG008';
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER released BEFORE UPDATE ON ledger_reserveinstalment
  FOR EACH ROW EXECUTE FUNCTION ledger_check_instalment();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE OR TRUNCATE ON ledger_reserveinstalment
  FOR EACH STATEMENT EXECUTE FUNCTION rows_refuse_change();
