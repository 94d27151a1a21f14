"""The steps from an empty installation to the first receipt: the page Set up and `manage.py doctor` read them here."""
