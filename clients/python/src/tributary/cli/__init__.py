"""The command line `tributary`."""
