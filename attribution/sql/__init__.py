"""The SQL of attribution."""

SCRIPTS = ("guards",)
