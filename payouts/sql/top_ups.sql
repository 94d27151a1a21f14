-- What Stripe made of a top-up is written once: a second one of the same request never takes its place.
CREATE TRIGGER top_up_keeps_its_answer BEFORE UPDATE ON payouts_topup
  FOR EACH ROW WHEN (
    (OLD.public_id, OLD.currency, OLD.amount_minor, OLD.requested_by_id, OLD.requested_at)
    IS DISTINCT FROM
    (NEW.public_id, NEW.currency, NEW.amount_minor, NEW.requested_by_id, NEW.requested_at)
    OR (OLD.provider_topup_id IS NOT NULL AND OLD.provider_topup_id IS DISTINCT FROM NEW.provider_topup_id))
  EXECUTE FUNCTION payouts_refuse();
