"""The installation's facts about itself."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class BooksCheck(models.Model):
    """One run of every invariant over the books."""

    checked_at = models.DateTimeField()
    seconds = models.FloatField()
    checked = ArrayField(models.CharField(max_length=80))
    violated = ArrayField(models.CharField(max_length=80))

    def __str__(self) -> str:
        return f"{self.checked_at:%Y-%m-%d %H:%M}: {len(self.violated)} violated"


class AppliedScript(models.Model):
    """A SQL script of an app as it last ran (config/scripts.py). The application role may only read it."""

    name = models.CharField(max_length=100, primary_key=True)
    sha256 = models.CharField(max_length=64)
    applied_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} of {self.applied_at:%Y-%m-%d %H:%M}"
