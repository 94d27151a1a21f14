"""A contributor's view of the ledger: the reasons of its payments, its statements, its earnings. Reads only, only its
own.
"""
