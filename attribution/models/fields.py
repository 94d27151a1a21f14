"""Columns that Django does not offer: REAL, and arrays without a default lookup table."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models


class RealField(models.FloatField):  # type: ignore[type-arg]
    """A float4: the precision at which scores are stored, and from which shares are made."""

    def db_type(self, connection: Any) -> str:
        return "real"


class PlainArrayField(ArrayField):  # type: ignore[type-arg]
    """An array of numbers that the driver takes as they are: converting them one by one takes a third of a report."""

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return value
