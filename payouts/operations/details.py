"""A contributor's legal name, shown name, kind, country and currency change. Payments, tax and papers rest on them.

A change that money rests on is asked for by an owner, or by staff for them, and approved by another person. Any other
change takes effect at once. The former details stay on record, so that papers of the past name them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.urls import reverse

from contributors.models import Contributor, DetailsChange, Membership
from contributors.operations.deciding import acts_for
from contributors.operations.people import UnableToRegisterContributor, checked_details
from contributors.queries.details import Details, read_details
from ledger.money import ASSETS
from payouts.models import HoldReason, Notice, Payout, PayoutAccount, Rail, TaxProfile
from payouts.operations.accounts import hold_as_account_says
from payouts.operations.holds import hold_unless_held
from payouts.queries import payees
from payouts.queries.details import (
    FIXED_AT_STRIPE,
    IDENTITY,
    LABELS,
    changed,
    consequences,
    shown,
    waits_for_decision,
)
from payouts.rails import choice
from people.actor import CHECKER, COMPLIANCE, NOBODY, Presence, audit
from people.models import User
from people.operations.proposals import propose
from people.queries.proposals import WITH_COMPLIANCE, Facts, ProposalKind

DECIDERS = (COMPLIANCE, CHECKER)
REASON_CHARACTERS_MAX = 500
REJECTIONS_TOLD = timedelta(days=3)


class UnableToChangeDetails(Exception):
    """The person is no owner, a detail is wrong, nothing changes, or a payment is on its way."""

    problem = "details-not-changed"

    def __init__(self, message: str, *, status: int = 409) -> None:
        super().__init__(message)
        self.status = status


def checked_change(contributor: Contributor, given: Mapping[str, str]) -> Details:
    """Return the new details as they would be stored; details that are not given stay. Raises UnableToChangeDetails."""
    before = read_details(contributor)
    wanted = {**before.as_json(), **given}
    if before.display_name == before.legal_name and "display_name" not in given:
        # The name beside the works was the legal one, because no other was chosen.
        wanted["display_name"] = wanted["legal_name"]
    try:
        legal_name, display_name, country = checked_details(
            kind=wanted["kind"],
            legal_name=wanted["legal_name"],
            display_name=wanted["display_name"],
            country=wanted["country"],
        )
    except UnableToRegisterContributor as error:
        raise UnableToChangeDetails(str(error), status=422) from error
    if wanted["currency"] not in ASSETS:
        raise UnableToChangeDetails(f"The books keep no currency “{wanted['currency']}”.", status=422)
    after = Details(wanted["kind"], legal_name, display_name or legal_name, country, wanted["currency"])
    if after == before:
        raise UnableToChangeDetails("Nothing changes: these are the details already.")
    return after


@transaction.atomic
def change_details(
    *,
    contributor: Contributor,
    given: Mapping[str, str],
    by: User,
    at: datetime,
    reason: str = "",
    seen: Presence = NOBODY,
) -> DetailsChange | None:
    """Change some details. Returns None where they are changed, or the proposal that another person decides.

    An owner asks; compliance or a finance checker asks for an owner that wrote to them, and is decided upon as well.
    Raises UnableToChangeDetails.
    """
    fresh = Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    is_owner = _owns(fresh, by)
    if not is_owner and not by.has_role(*DECIDERS):
        raise UnableToChangeDetails(f"Only an owner of {fresh} changes these details.", status=403)
    after = checked_change(fresh, given)
    said = _changes(read_details(fresh), after)
    if is_owner and not waits_for_decision(fresh, after):
        _write(fresh, after, by=by, at=at)
        _tell(fresh, "details_changed", f"details:{fresh.pk}:{at.isoformat()}", f"{said}.", at)
        return None
    _refuse_while_paying(fresh)
    if not reason.strip() or len(reason.strip()) > REASON_CHARACTERS_MAX:
        raise UnableToChangeDetails(
            f"Say why in 1 to {REASON_CHARACTERS_MAX} characters, such as a marriage or a move.", status=422
        )
    row = DetailsChange(
        contributor=fresh,
        former=read_details(fresh).as_json(),
        reason=reason.strip(),
        proposed_by=by,
        proposed_at=at,
        **after.as_json(),
    )
    made = propose(KIND, row, seen=seen)
    words = f"{by} asked for this change: {said}. We decide on it. Was it not you? Write to us."
    _tell(fresh, "details_requested", f"details:{made.pk}:requested", words, at)
    return made


def _owns(contributor: Contributor, by: User) -> bool:
    return Membership.objects.filter(contributor=contributor, user=by, role=Membership.Role.OWNER).exists()


def _refuse_while_paying(contributor: Contributor) -> None:
    if Payout.objects.filter(contributor=contributor, state__in=Payout.LIVE).exists():
        raise UnableToChangeDetails("A payment is on its way under the present details. Try again when it arrived.")


def _write(contributor: Contributor, after: Details, *, by: User, at: datetime) -> None:
    """Change the locked row. A trigger keeps the former details."""
    before = read_details(contributor)
    for name, value in after.as_json().items():
        setattr(contributor, name, value)
    contributor.details_since = at
    contributor.save(update_fields=[*Contributor.DETAILS, "details_since"])
    names = changed(before, after)
    old, new = before.as_json(), after.as_json()
    audit(
        by=by,
        action="change_details",
        subject=f"contributor:{contributor.pk}",
        at=at,
        before={name: old[name] for name in sorted(names)},
        after={name: new[name] for name in sorted(names)},
    )


def _lock(row: DetailsChange) -> None:
    Contributor.objects.select_for_update(no_key=True).get(pk=row.contributor_id)


def _apply(row: DetailsChange, by: User, at: datetime) -> dict[str, Any]:
    """Change the details, end the things that rested on the old ones, and tell the contributor."""
    contributor = Contributor.objects.get(pk=row.contributor_id)
    before, after = read_details(contributor), read_details(row)
    if before.as_json() != row.former:
        raise UnableToChangeDetails(
            "The details have changed since this was proposed. Reject it and ask for a new one."
        )
    _refuse_while_paying(contributor)
    names = changed(before, after)
    _write(contributor, after, by=by, at=at)
    if names & IDENTITY:
        _end_tax_form(contributor, by=by, at=at)
    account = PayoutAccount.objects.select_for_update(no_key=True).filter(contributor=contributor).first()
    if account is not None:
        account.contributor = contributor
        _follow(account, names, after, at=at)
    _tell(contributor, "details_changed", f"details:{row.pk}:approved", f"{_changes(before, after)}.", at)
    return {}


def _end_tax_form(contributor: Contributor, *, by: User, at: datetime) -> None:
    form = payees.tax_form_of(contributor)
    if form is None or form.form == TaxProfile.Form.NONE:
        return
    # The rate stays until a new form says another one: an ended form never lowers the withholding.
    TaxProfile.objects.create(
        contributor=contributor,
        form=TaxProfile.Form.NONE,
        jurisdiction=form.jurisdiction,
        country=contributor.country,
        withholding_ppb=form.withholding_ppb,
        recorded_by=by,
        recorded_at=at,
    )


def _follow(account: PayoutAccount, names: frozenset[str], after: Details, *, at: datetime) -> None:
    """Make a locked payout account follow its contributor's new details."""
    if account.provider_account_id and names & FIXED_AT_STRIPE:
        _end_at_stripe(account, at=at)
    if "country" in names:
        account.country = after.country
        account.rail = choice.rail_of_country(after.country)
    if account.bank_fingerprint and names & IDENTITY:
        account.bank_changed_at = at
    if "currency" in names:
        account.minimum_minor = 0
        if account.rail == Rail.MANUAL_BANK_FILE or not account.provider_account_id:
            account.destination_currency = after.currency
    account.save()
    hold_as_account_says(account, at)


def _end_at_stripe(account: PayoutAccount, *, at: datetime) -> None:
    """Record that the account at Stripe ends. A hold keeps payments from it until compliance has seen a new one."""
    account.disconnected_at = at
    audit(
        by=None,
        action="payout_account_ended",
        subject=f"contributor:{account.contributor_id}",
        at=at,
        before={"account": account.provider_account_id},
    )
    note = f"The Stripe account {account.provider_account_id} ended: the country or the kind has changed."
    hold_unless_held(contributor=account.contributor, reason=HoldReason.FRAUD_REVIEW, at=at, note=note)


def _changes(before: Details, after: Details) -> str:
    old, new = before.as_json(), after.as_json()
    said = [
        f"{LABELS[name]}: {shown(name, old[name])} → {shown(name, new[name])}"
        for name in LABELS
        if old[name] != new[name]
    ]
    return "; ".join(said)


def _tell(contributor: Contributor, kind: str, subject: str, words: str, at: datetime) -> None:
    Notice.objects.create(contributor=contributor, kind=kind, subject=subject, created_at=at, words=words[:1000])


def of_rejections(at: datetime) -> list[Notice]:
    """List the notices of changes that were rejected in the last days. A notice is stored once for its subject."""
    rows = DetailsChange.objects.filter(state=DetailsChange.State.REJECTED, decided_at__gte=at - REJECTIONS_TOLD)
    return [
        Notice(
            contributor_id=row.contributor_id,
            kind="details_rejected",
            subject=f"details:{row.pk}:rejected",
            created_at=at,
            words=f"Everything stays as it is. {row.rejection or 'Write to us if you have questions.'}",
        )
        for row in rows
    ]


def _facts(row: DetailsChange) -> Facts:
    before, after = Details(**row.former), read_details(row)
    old, new = before.as_json(), after.as_json()
    facts: Facts = [
        (LABELS[name], f"{shown(name, old[name])} → {shown(name, new[name])}")
        for name in LABELS
        if old[name] != new[name]
    ]
    if row.state == DetailsChange.State.PROPOSED:
        facts += [(f"Then {n}", said) for n, said in enumerate(consequences(row.contributor, after)[1:], start=1)]
    return [*facts, ("Reason", row.reason)]


KIND: ProposalKind[DetailsChange] = ProposalKind(
    key="details",
    model=DetailsChange,
    name="change of details",
    heading="Changed details of contributors",
    mail="Changed details of a contributor wait for a decision",
    proposers=DECIDERS,
    approvers=DECIDERS,
    readers=WITH_COMPLIANCE,
    asks=lambda row, by: _owns(row.contributor, by),
    apply=_apply,
    lock=_lock,
    conflict=lambda row, by: acts_for(by=by, contributors=[row.contributor_id]),
    refusal=UnableToChangeDetails,
    unique="one_change_of_details_waits",
    equal=lambda row: "A change of these details waits already. Withdraw it first, or wait for the decision.",
    needs_fresh_factor=True,
    rejected_as_approved=True,
    title=lambda row: f"Changed details of {row.contributor}",
    summary=lambda row: row.reason,
    facts=_facts,
    effect="The details change now, for payments and papers from now on. Earlier papers keep the old ones.",
    approved=lambda row: "Approved. The details are changed, and the contributor was told.",
    page=lambda row: reverse("payouts:payee_account", args=[row.contributor.public_id]),
    parent=("Payees", "payouts:payees"),
    subject=lambda row: f"contributor:{row.contributor_id}",
    fields=("kind", "legal_name", "display_name", "country", "currency", "former", "reason"),
    related=("contributor",),
)
