"""The SQL of the ground floor: rules for rows that the scripts of every app use, and the staff groups."""

SCRIPTS = ("rows", "groups")
