"""Rates of the withholding table: proposed by one person, approved by another, from a date on."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.urls import reverse

from ledger.models import WithholdingRate, utc_date
from ledger.operations.contracts import broken_rules
from people.models import User
from people.operations.proposals import UnableToDecide, propose
from people.presentation import dates, percent
from people.presentation.countries import COUNTRIES
from people.queries.proposals import FINANCE, WITH_COMPLIANCE, ProposalKind


class UnableToProposeRate(Exception):
    """The rate, the country or the jurisdiction is none."""

    status = 422
    problem = "withholding-rate-invalid"


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
    return propose(KIND, row)


def _take_effect(rate: WithholdingRate, by: User, at: datetime) -> dict[str, Any]:
    """Let a rate count from its date on. Where a rate is in force already, that date is not in the past."""
    same = WithholdingRate.objects.filter(
        jurisdiction=rate.jurisdiction, country=rate.country, form=rate.form, state="approved"
    )
    if same.exists() and rate.effective_from < utc_date(at):
        raise UnableToDecide(f"Payouts since {rate.effective_from} obeyed another rate; begin today or later.")
    return {}


KIND = ProposalKind(
    key="withholding",
    model=WithholdingRate,
    name="withholding rate",
    heading="Withholding rates",
    mail="A withholding rate waits for a second person",
    proposers=(*FINANCE, "compliance"),
    approvers=("finance_checker", "compliance"),
    readers=WITH_COMPLIANCE,
    apply=_take_effect,
    refusal=UnableToProposeRate,
    unique="an_equal_rate_is_proposed_once_at_a_time",
    summary=lambda row: f"{row.basis}, from {dates.day(row.effective_from)}",
    facts=lambda row: [
        ("Tax office", row.jurisdiction),
        ("Payees of", COUNTRIES.get(row.country, "any other country")),
        ("Tax form", row.form or "any other form"),
        ("Rate", percent.html(row.rate_ppb)),
        ("Treaty or rule", row.treaty),
        ("From", dates.day_html(row.effective_from)),
    ],
    effect="It counts for payout runs that are built from its date on. An approved rate is never changed.",
    approved=lambda row: f"Approved. It counts for payout runs built from {dates.day(row.effective_from)} on.",
    page=lambda row: reverse("ledger:withholding"),
    parent=("Withholding", "ledger:withholding"),
    subject=lambda row: f"withholding:{row.pk}",
    fields=("jurisdiction", "country", "form", "rate_ppb", "effective_from"),
)
