"""What people type about payouts, checked and turned into minor units, dates and reasons."""
