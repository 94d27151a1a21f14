"""Reads of the ledger: what a contributor is owed and why, and the books as a whole. Nothing here changes a row."""
