"""The ledger's verbs, by noun. Each is idempotent by its key, takes time as `at=` and amounts in units of the asset."""
