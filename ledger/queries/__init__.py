"""Reads of the ledger: a contributor's balances and their reasons, and the books as a whole. Nothing here changes a
row.
"""
