"""Forms that check typed input about payouts and turn it into minor units, dates and reasons."""
