"""The SQL of the installation: the record of applied scripts is the owner's alone."""

SCRIPTS = ("record",)
