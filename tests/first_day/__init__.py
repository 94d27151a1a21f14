"""A stranger's first day, from an empty database to a paid month, by running the pages of docs/start.

Nothing here imports the product: only its commands, its pages, its API and its client are used.
"""
