"""Pages of a person's own account: joining the staff by a one-time address, and the profile."""
