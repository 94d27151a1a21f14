"""The SQL of the ground floor: rules for rows that the scripts of every app use, the staff groups, the audit log."""

SCRIPTS = ("rows", "groups", "audit", "trial", "staff")
