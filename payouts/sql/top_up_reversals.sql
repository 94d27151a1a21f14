-- A top-up that arrived may be taken back by the bank, days or weeks later.
DROP TRIGGER top_up_follows_the_arrows ON payouts_topup;
CREATE TRIGGER top_up_follows_the_arrows BEFORE INSERT OR UPDATE OF state ON payouts_topup
  FOR EACH ROW EXECUTE FUNCTION payouts_follow_the_arrows('=requested', 'requested>succeeded', 'requested>failed',
    'succeeded>reversed');
