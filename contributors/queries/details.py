"""A contributor's name, kind, country and currency, now and on a day of the past."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from contributors.models import Contributor, DetailsChange, FormerDetails


@dataclass(frozen=True, slots=True)
class Details:
    """The details on which payments, tax and papers rest. The country is ISO 3166, the currency ISO 4217."""

    kind: str
    legal_name: str
    display_name: str
    country: str
    currency: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def read_details(row: Contributor | FormerDetails | DetailsChange) -> Details:
    """Read the details of a row."""
    return Details(row.kind, row.legal_name, row.display_name, row.country, row.currency)


def details_at(contributor: Contributor, at: datetime | None) -> Details:
    """Return the details of a contributor at a moment; without one, the present ones."""
    return details_of([contributor], at)[contributor.pk]


def details_of(contributors: Iterable[Contributor], at: datetime | None) -> dict[int, Details]:
    """Map each contributor's number to the details at a moment; without one, to the present ones."""
    found = {one.pk: read_details(one) for one in contributors}
    if at is not None:
        later = FormerDetails.objects.filter(contributor__in=found, until__gt=at).order_by("-until", "-pk")
        # The earliest end after the moment counts, so it is written last.
        found.update({row.contributor_id: read_details(row) for row in later})
    return found
