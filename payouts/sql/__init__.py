"""The SQL of payouts."""

SCRIPTS = ("guards", "rails", "accounts")
