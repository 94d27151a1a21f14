"""A contributor's own bank account, for the manual rail: checked, sealed; a changed one waits for a cool-down."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from schwifty import BIC, IBAN
from schwifty.exceptions import SchwiftyException

from contributors.models import Contributor
from contributors.operations.deciding import require_stranger
from payouts.models import BankDetails, PayoutAccount, Rail
from payouts.operations.accounts import hold_as_account_says, require_manager, tell_bank_details
from payouts.operations.links import note_iban
from payouts.rails import transfers
from payouts.rails.bank import numbers
from payouts.rails.bank.pain import Address, Party, latin, why_not_name
from payouts.rails.choice import RAIL_NAMES, rail_of_country
from people import sealing
from people.actor import (
    ADMIN,
    CHECKER,
    NOBODY,
    Presence,
    audit,
    require_fresh_factor,
    require_role,
    require_settled_role,
)
from people.models import User
from people.presentation.countries import COUNTRIES

# The length of a holder's name and of the parts of an address (PostalAddress24 of ISO 20022).
HOLDER_MAX = 70
ADDRESS_MAX = {"street": 70, "building": 16, "post_code": 16, "town": 35}


class UnableToRecordBankDetails(Exception):
    """The IBAN or BIC is wrong, the holder is missing, or the contributor is not paid by bank transfer."""

    status = 422
    problem = "bank-details-refused"


class UnableToChooseRail(Exception):
    """The contributor is on that rail already, or there is no such rail."""

    status = 409
    problem = "rail-not-changed"


def checked_iban(text: str) -> IBAN:
    """Return the account number, with its length, structure and check digits verified.

    Raises UnableToRecordBankDetails for an invalid IBAN.
    """
    try:
        return IBAN(text, validate_bban=True)
    except SchwiftyException as error:
        raise UnableToRecordBankDetails(
            f"This is no valid IBAN: {error}. Compare it with your bank's letter; one digit may be wrong."
        ) from error


def checked_bic(text: str) -> str:
    """Return the verified BIC. Raises UnableToRecordBankDetails for an invalid one."""
    try:
        return str(BIC(text).compact) if text.strip() else ""
    except SchwiftyException as error:
        raise UnableToRecordBankDetails(f"This is no valid BIC: {error}.") from error


def checked_address(address: Address) -> Address:
    """Return the address without needless spaces. Raises UnableToRecordBankDetails for a part that no bank takes."""
    parts = {name: " ".join(text.split()) for name, text in dataclasses.asdict(address).items()}
    for name, most in ADDRESS_MAX.items():
        written = latin(parts[name])
        if len(written) > most:
            raise UnableToRecordBankDetails(f"Address, {name.replace('_', ' ')}: banks take {most} letters.")
        if parts[name] and not written:
            raise UnableToRecordBankDetails(f"Address, {name.replace('_', ' ')}: write it in Latin letters.")
    if not parts["town"] or parts["country"] not in COUNTRIES:
        raise UnableToRecordBankDetails("An address has a town and a country.")
    return Address(**parts)


def why_not_payable(party: Party) -> str:
    """Tell why a bank could not take an order to this account, by the rules of its country; "" for a complete one."""
    sepa = party.local is None and party.country in transfers.rules().sepa
    if refusal := why_not_name(party.name, sepa=sepa):
        return refusal
    if not transfers.wants_address(party.country):
        return ""
    if party.local is None and not party.bic:
        return f"Give the bank's BIC: a transfer to an account in {party.country} names the bank by it."
    if party.address is None:
        return f"Give your address with town and country: a transfer to an account in {party.country} needs it."
    return ""


@transaction.atomic
def account_on_rail(*, contributor: Contributor, at: datetime) -> PayoutAccount:
    """The contributor's payout account, made where there is none on the rail of the contributor's country."""
    account, _ = PayoutAccount.objects.get_or_create(
        contributor=contributor,
        defaults={
            "rail": rail_of_country(contributor.country),
            "country": contributor.country,
            "destination_currency": contributor.currency,
            "created_at": at,
        },
    )
    return account


@transaction.atomic
def record_bank_details(
    *,
    contributor: Contributor,
    holder_name: str,
    by: User,
    at: datetime,
    iban: str = "",
    local: numbers.Number | None = None,
    bic: str = "",
    address: Address | None = None,
    seen: Presence = NOBODY,
) -> BankDetails:
    """Name the account that bank transfers go to, by its IBAN or its `local` number. A changed one waits for the
    policy's cool-down.

    Raises UnableToRecordBankDetails for a contributor paid through Stripe, and without a holder's name that banks take.
    Raises it also for an invalid IBAN or BIC, and where the account's country wants a BIC or an address that is
    missing.
    """
    require_manager(by, contributor)
    account = PayoutAccount.objects.select_for_update(no_key=True).get(
        pk=account_on_rail(contributor=contributor, at=at).pk
    )
    if account.rail != Rail.MANUAL_BANK_FILE:
        raise UnableToRecordBankDetails("You are paid through Stripe; your bank details belong there.")
    if not holder_name.strip():
        raise UnableToRecordBankDetails("Give the name of the account's owner.")
    if len(holder_name.strip()) > HOLDER_MAX:
        raise UnableToRecordBankDetails(f"The name of the account's owner has more than {HOLDER_MAX} letters.")
    named = _named(iban, local, bic)
    sealed = {"holder": holder_name.strip(), **named.sealed}
    if address is not None:
        sealed["address"] = dataclasses.asdict(checked_address(address))
    if refusal := why_not_payable(_party(sealed)):
        raise UnableToRecordBankDetails(refusal)
    content = json.dumps(sealed, sort_keys=True)
    note_iban(contributor=contributor, iban=named.number, at=at)
    marks = [named.fingerprint(digest) for digest in sealing.digests(content)]
    if account.bank_fingerprint in marks:
        return account.bank_details.filter(fingerprint=account.bank_fingerprint).latest("pk")
    details = BankDetails.objects.create(
        account=account,
        holder_name=holder_name.strip(),
        sealed=sealing.seal(content.encode()),
        fingerprint=marks[0],
        country=named.country,
        last4=named.number[-4:],
        bank_name=named.bank_name[:140],
        recorded_by=by,
        recorded_at=at,
    )
    before, account.bank_fingerprint = account.bank_fingerprint, details.fingerprint
    # A payee that was paid elsewhere before, by Stripe or to an account that is known no more, changes it too.
    if before or account.ready_at is not None:
        account.bank_changed_at = at
    account.save(update_fields=["bank_fingerprint", "bank_changed_at"])
    audit(
        by=by,
        action="record_bank_details",
        subject=f"contributor:{contributor.pk}",
        at=at,
        seen=seen,
        before={"bank": before},
        after={"bank": details.fingerprint},
    )
    tell_bank_details(account=account, shown=f"{details.country} … {details.last4}, named by {by}", at=at)
    hold_as_account_says(account, at, bank_replaced=True)
    return details


@dataclass(frozen=True)
class _Named:
    """A checked account, by its IBAN or its local number. `number` tells it apart from every other account."""

    kind: str
    country: str
    number: str
    bank_name: str
    sealed: dict[str, Any]

    def fingerprint(self, digest: str) -> str:
        """Readable at both ends, so that a person can compare it with a bank's letter."""
        return f"{self.kind}_{self.country}{self.number[-4:]}_{digest[:32]}"


def _named(iban: str, local: numbers.Number | None, bic: str) -> _Named:
    code = checked_bic(bic)
    if local is None:
        number = checked_iban(iban)
        sealed: dict[str, Any] = {"iban": number.compact, "bic": code or str(number.bic or "")}
        return _Named("iban", number.country_code, number.compact, str(number.bank_name or ""), sealed)
    if iban.strip():
        raise UnableToRecordBankDetails("Give the IBAN or the local number, not both: they could differ.")
    if numbers.FORMATS[local.country].needs_bic and not code:
        raise UnableToRecordBankDetails("Give the bank's BIC: a transfer to this country names the bank by it.")
    sealed = {"country": local.country, "local": dict(local.fields), "bic": code}
    number_of_all = f"{local.country}{local.member}{local.account}"
    return _Named("acct", local.country, number_of_all, "", sealed)


def party_of(details: BankDetails) -> Party:
    """Return the account in the clear, once it is proven to be the one of the fingerprint.

    Raises UnableToUnseal where it gives another fingerprint, and where no key opens it.
    """
    content = sealing.unseal(details.sealed).decode()
    party = _party(json.loads(content))
    named = _named(party.iban, party.local, party.bic)
    if details.fingerprint not in [named.fingerprint(digest) for digest in sealing.digests(content)]:
        raise sealing.UnableToUnseal("The bank details do not give the fingerprint that was approved.")
    return party


def _party(opened: dict[str, Any]) -> Party:
    local = numbers.Number(opened["country"], opened["local"]) if "local" in opened else None
    address = Address(**opened["address"]) if "address" in opened else None
    return Party(opened["holder"], opened.get("iban", ""), opened["bic"], local, address)


@transaction.atomic
def choose_rail(
    *, contributor: Contributor, rail: Rail | str, by: User, reason: str, at: datetime, seen: Presence = NOBODY
) -> PayoutAccount:
    """Pay a contributor on another rail from the next run on. Open payouts go where they were approved to go.

    Raises UnableToChooseRail for an unknown rail, without a reason, and for the rail that is in use already.
    """
    require_role(by, CHECKER, ADMIN)
    require_fresh_factor(seen)
    require_settled_role(by, at)
    require_stranger(by, contributor.pk)
    if rail not in Rail.values:
        raise UnableToChooseRail(f"There is no rail {rail!r}.")
    if not reason.strip():
        raise UnableToChooseRail("Say why; the contributor may ask.")
    account = PayoutAccount.objects.select_for_update(no_key=True).get(
        pk=account_on_rail(contributor=contributor, at=at).pk
    )
    if account.rail == rail:
        raise UnableToChooseRail(f"{contributor} is paid by {RAIL_NAMES[Rail(rail)]} already.")
    before, account.rail = account.rail, Rail(rail)
    latest = account.bank_details.order_by("-pk").first()
    account.bank_fingerprint = latest.fingerprint if latest and rail == Rail.MANUAL_BANK_FILE else ""
    # Money that went somewhere goes elsewhere now, be it to an account that is known from before.
    if account.ready_at is not None:
        account.bank_changed_at = at
    account.save(update_fields=["rail", "bank_fingerprint", "bank_changed_at"])
    audit(
        by=by,
        action="choose_rail",
        subject=f"contributor:{contributor.pk}",
        at=at,
        seen=seen,
        before={"rail": before},
        after={"rail": str(rail), "reason": reason.strip()[:500]},
    )
    if account.bank_fingerprint and latest is not None:
        tell_bank_details(account=account, shown=f"{latest.country} … {latest.last4}, chosen by our staff", at=at)
    hold_as_account_says(account, at)
    return account
