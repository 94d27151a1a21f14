"""The SQL of contributors: the accounts of one beneficial owner, for the guards of the apps above."""

SCRIPTS = ("owners",)
