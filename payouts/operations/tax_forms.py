"""The tax form that somebody sent in: compliance records its content, and it ends the hold for a missing one.

The paper stays where it is kept. Only the end of the tax number comes here, enough to tell two forms apart, and a keyed
digest. By the digest the same number on another account's form is noticed.
"""

from __future__ import annotations

import re
from datetime import date, datetime

from django.db import transaction

from contributors.models import PPB, Contributor
from contributors.operations.deciding import require_stranger
from payouts.models import PayoutAccount, TaxProfile
from payouts.operations.accounts import refresh_holds
from payouts.operations.links import note_tax_number
from people.actor import COMPLIANCE, NOBODY, Presence, audit, require_fresh_factor, require_role, require_settled_role
from people.models import User
from people.presentation import dates
from people.presentation.countries import COUNTRIES

US = "US"
# A W-8 counts until the last day of the third year after the one in which it was signed (instructions of the IRS).
W8_YEARS = 3


class UnableToRecordTaxForm(Exception):
    """The form is not one of this person's, a date or the number cannot be right, or it has run out already."""

    status = 422
    problem = "tax-form-refused"


def valid_until_by_law(form: str, signed_on: date) -> date | None:
    """The last day on which a form counts; None where it counts until something changes."""
    return None if form == TaxProfile.Form.W9 else date(signed_on.year + W8_YEARS, 12, 31)


@transaction.atomic
def record_tax_form(
    *,
    contributor: Contributor,
    form: str,
    country: str,
    number: str,
    signed_on: date,
    received_on: date,
    withholding_ppb: int,
    by: User,
    at: datetime,
    valid_until: date | None = None,
    jurisdiction: str = US,
    seen: Presence = NOBODY,
) -> TaxProfile:
    """Record a tax form and its content; a newer one replaces it. Only the end of `number` is kept, and a digest.

    `withholding_ppb` (parts per billion) is withheld where the ledger's table of rates says nothing of the form and the
    country. Raises UnableToRecordTaxForm for impossible dates, a form that ran out, and a rate below 0 or not below
    1,000,000,000.
    """
    require_role(by, COMPLIANCE)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    require_stranger(by, contributor.pk)
    _check_kind(contributor, form, country)
    number = _checked_number(form, number)
    if not signed_on <= received_on <= dates.today(at):
        raise UnableToRecordTaxForm(
            "A form is signed before it is received, and neither lies in the future. Compare the dates with the form."
        )
    by_law = valid_until_by_law(form, signed_on)
    ends = min((day for day in (valid_until, by_law) if day is not None), default=None)
    if ends is not None and ends < dates.today(at):
        raise UnableToRecordTaxForm(f"This form ran out on {dates.day(ends)}. Ask for a new one.")
    if not 0 <= withholding_ppb < PPB:
        raise UnableToRecordTaxForm("The withheld part is at least nothing and less than everything.")
    profile = TaxProfile.objects.create(
        contributor=contributor,
        form=form,
        country=country,
        number_last4=number[-4:],
        signed_on=signed_on,
        received_on=received_on,
        withholding_ppb=withholding_ppb,
        valid_until=ends,
        jurisdiction=jurisdiction,
        recorded_by=by,
        recorded_at=at,
    )
    audit(
        by=by, action="record_tax_form", subject=f"contributor:{contributor.pk}", at=at, seen=seen,
        after={"form": form, "country": country, "number": profile.number_masked, "signed_on": str(signed_on),
               "received_on": str(received_on), "valid_until": str(ends or ""), "withholding_ppb": withholding_ppb},
    )  # fmt: skip
    if number:
        note_tax_number(contributor=contributor, country=country, number=number, at=at)
    account = PayoutAccount.objects.filter(contributor=contributor).first()
    if account is not None:
        refresh_holds(account=account, at=at)
    return profile


def _check_kind(contributor: Contributor, form: str, country: str) -> None:
    if form not in TaxProfile.Form.values or form == TaxProfile.Form.NONE:
        raise UnableToRecordTaxForm(f"There is no form {form!r}; there are W-9, W-8BEN and W-8BEN-E.")
    if country not in COUNTRIES:
        raise UnableToRecordTaxForm("Give the country of tax residence by its two letters, as the form states it.")
    if (form == TaxProfile.Form.W9) != (country == US):
        raise UnableToRecordTaxForm("A W-9 is for residents of the United States, a W-8 for everybody else.")
    is_organisation = contributor.kind == Contributor.Kind.ORGANISATION
    if form != TaxProfile.Form.W9 and (form == TaxProfile.Form.W8BENE) != is_organisation:
        raise UnableToRecordTaxForm("A W-8BEN is for persons, a W-8BEN-E for organisations.")


def _checked_number(form: str, number: str) -> str:
    given = re.sub(r"[\s.\-/]", "", number).upper()
    if form == TaxProfile.Form.W9 and not re.fullmatch(r"\d{9}", given):
        raise UnableToRecordTaxForm("The number on a W-9 (SSN, ITIN or EIN) has nine digits. Compare it with the form.")
    # Some countries give none.
    if given and not re.fullmatch(r"[0-9A-Z]{5,20}", given):
        raise UnableToRecordTaxForm("A tax number has 5 to 20 letters and digits. Leave it empty if the form has none.")
    return given
