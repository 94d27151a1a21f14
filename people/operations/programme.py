"""The programme's own data: its name and its legal entity, in one place for statements, remittances and mails."""

from __future__ import annotations

import re
from datetime import datetime

from django.db import transaction

from people.actor import ADMIN, NOBODY, Presence, audit, require_fresh_factor, require_role, require_settled_role
from people.models import Programme, User
from people.presentation import names
from people.presentation.countries import COUNTRIES

_TAX_NUMBER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ./-]{0,38}[A-Za-z0-9])?")


class UnableToChangeProgramme(Exception):
    """A name or the address is missing or cannot be printed, or the country is no ISO 3166 code."""

    status = 422
    problem = "programme-refused"


def locked_programme() -> Programme:
    """The programme's row, made where it lacks, locked until the transaction ends."""
    Programme.objects.get_or_create(pk=1)
    return Programme.objects.select_for_update(no_key=True).get(pk=1)


class UnableToUseLiveKey(Exception):
    """One person tries the programme out, so that no live key is used."""

    status = 409
    problem = "live-key-on-trial"


@transaction.atomic
def note_live_key(*, at: datetime) -> None:
    """Write down that a live Stripe key is in use; from then on nobody tries the programme out alone.

    Raises UnableToUseLiveKey while somebody does.
    """
    row = locked_programme()
    if row.on_trial:
        raise UnableToUseLiveKey(
            "One person tries this programme out, and a live Stripe key is set. "
            "End the trial (manage.py try_out --end), or set a test key."
        )
    if row.live_key_at is None:
        row.live_key_at = at
        row.save(update_fields=["live_key_at"])
        audit(by=None, action="note_live_key", subject="programme:1", at=at)


@transaction.atomic
def describe_programme(
    *,
    name: str,
    legal_name: str,
    address: str,
    country: str,
    at: datetime,
    tax_number: str | None = None,
    by: User | None = None,
    seen: Presence = NOBODY,
) -> Programme:
    """Store the name for people and the legal entity that pays. Raises UnableToChangeProgramme.

    A `tax_number` of None keeps the present one. Without `by` the operator of the machine does it.
    """
    if by is not None:
        require_role(by, ADMIN)
        require_fresh_factor(seen)
        require_settled_role(by, at)
    name, legal_name, country = names.composed(name), names.composed(legal_name), country.strip().upper()
    address = "\n".join(line.strip() for line in address.splitlines() if line.strip())
    for label, text, most in (("name", name, 100), ("legal name", legal_name, 200)):
        if not text or len(text) > most or not text.isprintable():
            raise UnableToChangeProgramme(f"The {label} is one line of 1 to {most} characters.")
        if refusal := names.why_not(text):
            raise UnableToChangeProgramme(refusal)
    if not address or len(address) > 500 or not all(line.isprintable() for line in address.splitlines()):
        raise UnableToChangeProgramme("The address has 1 to 500 characters, on lines of their own.")
    if country not in COUNTRIES:
        raise UnableToChangeProgramme(f"“{country}” is not an ISO 3166 code of a country, such as DE or US.")
    row = locked_programme()
    number = row.tax_number if tax_number is None else names.composed(tax_number)
    if number and not _TAX_NUMBER.fullmatch(number):
        raise UnableToChangeProgramme(
            "The tax number has up to 40 letters and digits, with blanks, points, dashes or slashes between them."
        )
    new = {"name": name, "legal_name": legal_name, "address": address, "country": country, "tax_number": number}
    before = {field: getattr(row, field) for field in new}
    for field, value in new.items():
        setattr(row, field, value)
    row.save(update_fields=list(new))
    audit(by=by, action="describe_programme", subject="programme:1", at=at, seen=seen, before=before, after=new)
    return row
