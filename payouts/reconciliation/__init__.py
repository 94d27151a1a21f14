"""Believing nobody: events are hints, and our rows, the ledger and Stripe are compared."""
