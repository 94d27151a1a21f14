"""The verbs of payouts, by noun. Each takes its time as `at=`, checks the role of `by`, and writes the audit log."""
