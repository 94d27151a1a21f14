"""Rates of the withholding table: proposed by one person, adopted by another, from a date on."""

from __future__ import annotations

from datetime import date, datetime

from django.core.exceptions import ValidationError
from django.db import transaction

from contributors.operations.deciding import why_not_decide
from ledger.models import WithholdingRate, utc_date
from ledger.operations.contracts import broken_rules
from ledger.operations.proposals import decide, reject, undecided
from people.actor import lacks_role, logged
from people.models import User
from people.presentation.countries import COUNTRIES

PROPOSERS = ("finance_maker", "finance_checker", "compliance")
ADOPTERS = ("finance_checker", "compliance")


class UnableToProposeRate(Exception):
    """The rate, the country or the jurisdiction is none."""

    status = 422
    problem = "withholding-rate-invalid"


class UnableToAdoptRate(Exception):
    """It is decided already, proposed by the same person, or begins too early."""

    status = 409
    problem = "withholding-rate-not-adoptable"


@logged("withholding_rate", "jurisdiction", "country", "form", "rate_ppb", "effective_from", "state")
def propose_withholding_rate(
    *,
    jurisdiction: str,
    rate_ppb: int,
    effective_from: date,
    by: User,
    at: datetime,
    country: str = "",
    form: str = "",
    treaty: str = "",
) -> WithholdingRate:
    """Write down the rate that is withheld for `jurisdiction` from payees of `country` ("" for any other) with the tax
    form `form`.

    Raises UnableToProposeRate with the reason; no row is written.
    """
    if refusal := lacks_role(by=by, roles=PROPOSERS):
        raise UnableToProposeRate(refusal)
    for code in filter(None, (jurisdiction, country)):
        if code not in COUNTRIES:
            raise UnableToProposeRate(f"“{code}” is not an ISO 3166 code of a country, such as DE or US.")
    row = WithholdingRate(
        jurisdiction=jurisdiction,
        country=country,
        form=form,
        rate_ppb=rate_ppb,
        treaty=treaty.strip(),
        effective_from=effective_from,
        proposed_by=by,
        proposed_at=at,
    )
    if not 0 <= rate_ppb < 1_000_000_000:
        raise UnableToProposeRate("A rate is at least 0 % and leaves something to pay.")
    try:
        row.full_clean(validate_unique=False)
    except ValidationError as error:
        raise UnableToProposeRate(broken_rules(error)) from error
    row.save(force_insert=True)
    return row


@logged("withholding_rate", "jurisdiction", "country", "form", "rate_ppb", "effective_from", "state", before="proposed")
def adopt_withholding_rate(*, rate: WithholdingRate, by: User, at: datetime) -> WithholdingRate:
    """Let a rate count from its date on. Where a rate is in force already, that date is not in the past."""
    with transaction.atomic():
        fresh = undecided(rate, UnableToAdoptRate)
        if fresh.proposed_by_id == by.pk:
            raise UnableToAdoptRate("You proposed this rate, so somebody else has to adopt it.")
        if refusal := why_not_decide(by=by, roles=ADOPTERS, at=at):
            raise UnableToAdoptRate(refusal)
        same = WithholdingRate.objects.filter(
            jurisdiction=fresh.jurisdiction, country=fresh.country, form=fresh.form, state="adopted"
        )
        if same.exists() and fresh.effective_from < utc_date(at):
            raise UnableToAdoptRate(f"Payouts since {fresh.effective_from} obeyed another rate; begin today or later.")
        return decide(fresh, WithholdingRate.State.ADOPTED, by=by, at=at, refusal=UnableToAdoptRate)


@logged("withholding_rate", "jurisdiction", "country", "form", "rate_ppb", "effective_from", "state", before="proposed")
def reject_withholding_rate(*, rate: WithholdingRate, by: User, at: datetime) -> WithholdingRate:
    """Turn a proposal down; its proposer may take it back so."""
    return reject(rate, roles=PROPOSERS, by=by, at=at, refusal=UnableToAdoptRate)
