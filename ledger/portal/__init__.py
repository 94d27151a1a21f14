"""What a contributor sees of the ledger: why it was paid, its statements, its earnings. Reads only, only its own."""
