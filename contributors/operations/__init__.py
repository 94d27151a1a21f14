"""The operations of this app, by noun. Locks are taken in this order: contributor, holder, advisory lock of works."""
