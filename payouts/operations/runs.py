"""Building a run: who is paid how much and where, who is not and why, and the hash of all that.

A run pays matured payable: the balance less what was credited after the maturity delay began, less what the
contributor owes back. Everybody with money either has a payout or a row that says why not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Q, Sum

from contributors.models import Contributor, User
from ledger.money import asset, format_amount
from ledger.queries.taxes import withholding_rate
from payouts import money, queries, rails
from payouts.holds import RULES
from payouts.models import Hold, HoldReason, LeftOut, Payout, PayoutAccount, PayoutRun, Rail, TaxProfile
from payouts.operations.accounts import tax_problem
from payouts.operations.audit import ADMIN, MAKER, NOBODY, Presence, audit, require_role
from payouts.operations.holds import open_holds_q
from payouts.operations.policies import Terms, terms_in_force

PAYOUTS_MAX = 100_000
A_DAY = timedelta(days=1)


class UnableToBuildRun(Exception):
    """Another run of the currency is open, or the dates make no sense."""

    status = 409
    problem = "run-not-built"


class UnableToSubmitRun(Exception):
    """The run is no draft, pays nobody, or a destination changed since it was built."""

    status = 409
    problem = "run-not-submitted"


class UnableToChangeRun(Exception):
    """The run is in no state in which this may be done."""

    status = 409
    problem = "run-not-changed"


class UnableToExclude(Exception):
    """Somebody named is not in the run, or nobody would be left in it."""

    status = 422
    problem = "nothing-to-exclude"


# --- canonical bytes ----------------------------------------------------------------------------------------------
def _digest(value: Any) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).digest()


def row_sha256(payout: Payout) -> bytes:
    """The digest of what an approver agrees to for one payout, the destination included."""
    return _digest(
        [
            payout.public_id.hex, payout.contributor_id, payout.account_id, payout.rail, payout.currency,
            payout.gross_minor, payout.tax_minor, payout.tax_jurisdiction, payout.tax_basis, payout.amount_minor,
            payout.destination, payout.destination_currency,
        ]
    )  # fmt: skip


def content_hash(run: PayoutRun) -> bytes:
    """SHA-256 over the run's terms and its payouts in the order of their contributors, computed from the rows now."""
    whole = hashlib.sha256(
        _digest(
            [
                run.public_id.hex, run.currency, run.rail, run.cut_off.isoformat(), run.matured_before.isoformat(),
                run.configuration,
            ]
        )
    )  # fmt: skip
    for payout in run.payouts.order_by("contributor_id").iterator(chunk_size=2000):
        whole.update(row_sha256(payout))
    return whole.digest()


# --- build --------------------------------------------------------------------------------------------------------
def build_run(
    *,
    currency: str,
    cut_off: datetime,
    by: User,
    at: datetime,
    rail: Rail | str = Rail.STRIPE_TRANSFER,
    seen: Presence = NOBODY,
) -> PayoutRun:
    """Work out a run of one currency and rail as a draft: its payouts, and everybody left out with the reason."""
    return _build(currency=currency, rail=Rail(rail), cut_off=cut_off, by=by, at=at, seen=seen, supersedes=None)


def rebuild_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """Build the successor of a rejected run, of the same currency and cut-off, from what the ledger says now."""
    require_role(by, MAKER, ADMIN)
    if run.state != PayoutRun.State.REJECTED or PayoutRun.objects.filter(supersedes=run).exists():
        raise UnableToBuildRun("Only a rejected run without a successor is built again.")
    return _build(
        currency=run.currency, rail=Rail(run.rail), cut_off=run.cut_off, by=by, at=at, seen=seen, supersedes=run
    )


@transaction.atomic
def _build(
    *,
    currency: str,
    rail: Rail,
    cut_off: datetime,
    by: User,
    at: datetime,
    seen: Presence,
    supersedes: PayoutRun | None,
) -> PayoutRun:
    require_role(by, MAKER, ADMIN)
    asset(currency)
    if cut_off > at:
        raise UnableToBuildRun("The cut-off lies in the future.")
    if PayoutRun.objects.filter(currency=currency, rail=rail, state=PayoutRun.State.SET_ASIDE).exists():
        raise UnableToBuildRun("A part that was split off a run waits: take it up or cancel it first.")
    terms = terms_in_force(currency)
    try:
        with transaction.atomic():
            run = PayoutRun.objects.create(
                currency=currency, rail=rail, cut_off=cut_off,
                matured_before=cut_off - timedelta(days=terms.maturity_days),
                configuration=terms.as_json(), supersedes=supersedes, created_by=by, created_at=at,
                last_edited_by=by, last_edited_at=at,
            )  # fmt: skip
    except IntegrityError as error:
        if "one_run_at_a_time" not in str(error):
            raise
        raise UnableToBuildRun(f"A {currency} run is open already; finish or cancel it first.") from error
    _to(run, PayoutRun.State.CALCULATING)
    payouts, left_out = _calculate(run, terms, at)
    if len(payouts) > PAYOUTS_MAX:
        raise UnableToBuildRun(f"A run pays at most {PAYOUTS_MAX:,} people.")
    Payout.objects.bulk_create(payouts, batch_size=2000)
    LeftOut.objects.bulk_create(left_out, batch_size=2000)
    _count(run)
    _to(run, PayoutRun.State.DRAFT, "n_payouts", "total_minor")
    audit(
        by=by, action="build_run", subject=f"run:{run.public_id}", at=at, seen=seen,
        after={"currency": currency, "cut_off": cut_off.isoformat(), "policy": terms.version,
               "payouts": run.n_payouts, "total_minor": run.total_minor, "left_out": len(left_out)},
    )  # fmt: skip
    return run


def _calculate(run: PayoutRun, terms: Terms, at: datetime) -> tuple[list[Payout], list[LeftOut]]:
    owed = queries.owed_to_contributors(run.currency, run.matured_before)
    ids = [row.contributor_id for row in owed]
    people = Contributor.objects.in_bulk(ids)
    accounts = {row.contributor_id: row for row in PayoutAccount.objects.filter(contributor_id__in=ids)}
    holds: dict[int, list[HoldReason]] = {}
    for hold in Hold.objects.filter(open_holds_q(at), contributor_id__in=ids).order_by("reason"):
        holds.setdefault(hold.contributor_id, []).append(HoldReason(hold.reason))
    taxes = {row.contributor_id: row for row in TaxProfile.objects.filter(contributor_id__in=ids).order_by("pk")}
    live = set(
        Payout.objects.filter(contributor_id__in=ids, currency=run.currency, state__in=Payout.LIVE).values_list(
            "contributor_id", flat=True
        )
    )
    payouts: list[Payout] = []
    left_out: list[LeftOut] = []
    for row in owed:
        case = _Case(
            run, terms, row, people[row.contributor_id], accounts.get(row.contributor_id),
            holds.get(row.contributor_id, []), taxes.get(row.contributor_id), row.contributor_id in live, at,
        )  # fmt: skip
        outcome = case.decide()
        if isinstance(outcome, Payout):
            payouts.append(outcome)
        else:
            left_out.append(outcome)
    return payouts, left_out


@dataclass(frozen=True)
class _Case:
    """One contributor in one run: either a payout or the reason why not."""

    run: PayoutRun
    terms: Terms
    owed: queries.Owed
    contributor: Contributor
    account: PayoutAccount | None
    holds: list[HoldReason]
    tax: TaxProfile | None
    is_live: bool
    at: datetime

    def decide(self) -> Payout | LeftOut:
        currency = self.run.currency
        account = self.account
        rail = account.rail if account else rails.rail_of_country(self.contributor.country)
        if rail != self.run.rail:
            return self._out(
                LeftOut.Reason.OTHER_RAIL, f"You are paid by {rails.RAIL_NAMES[Rail(rail)]}, in a run of its own.",
                "Nothing to do.",
            )  # fmt: skip
        if self.is_live:
            return self._out(
                LeftOut.Reason.LIVE_ELSEWHERE, "An earlier payout to you has not come to its end.",
                "Nothing to do: the next run pays this.",
            )  # fmt: skip
        if self.owed.available <= 0 and self.owed.receivable > 0:
            return self._out(
                LeftOut.Reason.NEGATIVE_BALANCE, "A correction left more owed by you than to you.",
                RULES[HoldReason.NEGATIVE_BALANCE].remedy,
            )  # fmt: skip
        if self.holds and not self._is_only_onboarding():
            return self._held(self.holds[0])
        if account is None or not account.is_onboarded or self.holds:
            rule = RULES[HoldReason.ONBOARDING_INCOMPLETE]
            return self._out(LeftOut.Reason.NOT_ONBOARDED, rule.words, rule.remedy, HoldReason.ONBOARDING_INCOMPLETE)
        if self.terms.requires_tax_form and (reason := tax_problem(self.tax, self.at)):
            return self._held(reason)
        payable_minor = self.owed.available // asset(currency).minor
        ppb, basis = self._withholding()
        gross, tax, net = money.split(payable_minor, withholding_ppb=ppb, currency=currency)
        least = max(self.terms.minimum_minor, account.minimum_minor, self._rail_minimum(account))
        if net < least:
            return self._small(least)
        assert net > 0
        payout = Payout(
            run=self.run, contributor=self.contributor, account=account, rail=self.run.rail, currency=currency,
            gross_minor=gross, tax_minor=tax, tax_jurisdiction=self.tax.jurisdiction if self.tax and tax else "",
            tax_basis=basis if tax else "",
            amount_minor=net, destination=account.destination,
            destination_currency=account.destination_currency if rail == Rail.STRIPE_TRANSFER else currency,
            created_at=self.at,
        )  # fmt: skip
        payout.row_sha256 = row_sha256(payout)
        return payout

    def _withholding(self) -> tuple[int, str]:
        """The rate and its basis: of the ledger's table where it has one for the form and its country, else what
        was recorded with the form. Without a form on record nothing is withheld: whether one is needed, the policy
        says."""
        if self.tax is None:
            return 0, ""
        country = self.tax.country or self.contributor.country
        row = withholding_rate(
            jurisdiction=self.tax.jurisdiction, country=country, form=self.tax.form, on=self.at.date()
        )
        return (row.rate_ppb, row.basis) if row else (self.tax.withholding_ppb, "")

    def _is_only_onboarding(self) -> bool:
        """Said as "not onboarded", which tells the contributor more than a hold does."""
        return set(self.holds) <= {HoldReason.ONBOARDING_INCOMPLETE}

    def _rail_minimum(self, account: PayoutAccount) -> int:
        return money.rail_minimum(account.country, self.run.currency, rail=self.run.rail)

    def _small(self, least: int) -> LeftOut:
        currency = self.run.currency
        minimum = format_amount(least * asset(currency).minor, currency, decimals=asset(currency).exponent)
        if self.owed.balance - self.owed.receivable >= least * asset(currency).minor:
            return self._out(
                LeftOut.Reason.IMMATURE,
                f"What you earned becomes payable {self.terms.maturity_days} days after it was credited; what has "
                f"become so is below the least payout of {minimum} {currency}.",
                "Nothing to do: a later run pays it.",
            )
        return self._out(
            LeftOut.Reason.BELOW_THRESHOLD,
            f"It is below the least payout of {minimum} {currency}.",
            "Nothing to do: it is carried over and paid once it is enough.",
        )

    def _held(self, reason: HoldReason) -> LeftOut:
        return self._out(LeftOut.Reason.HELD, RULES[reason].words, RULES[reason].remedy, reason)

    def _out(self, reason: str, words: str, remedy: str, hold: HoldReason | None = None) -> LeftOut:
        return LeftOut(
            run=self.run, contributor=self.contributor, currency=self.run.currency, amount=self.owed.balance,
            reason=reason, hold_reason=hold or "", words=words, remedy=remedy, created_at=self.at,
        )  # fmt: skip


# --- moves of a run before approval -------------------------------------------------------------------------------
def lock(run: PayoutRun) -> PayoutRun:
    """The run as it is now, locked until commit. Runs are locked before payouts, payouts before attempts."""
    return PayoutRun.objects.select_for_update(no_key=True).get(pk=run.pk)


def _to(run: PayoutRun, state: str, *fields: str) -> None:
    run.state = state
    run.save(update_fields=["state", *fields])


def _count(run: PayoutRun) -> None:
    run.n_payouts = run.payouts.count()
    run.total_minor = run.payouts.aggregate(total=Sum("amount_minor"))["total"] or 0


@transaction.atomic
def submit_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """Freeze a draft and hand it to an approver: from here on its payouts, amounts and destinations are fixed."""
    require_role(by, MAKER, ADMIN)
    _submit_alone(run.currency)
    run = lock(run)
    if run.state != PayoutRun.State.DRAFT:
        raise UnableToSubmitRun(f"The run is {run.get_state_display().lower()}, not a draft.")
    _to(run, PayoutRun.State.CALCULATING)
    moved = [
        str(payout.contributor)
        for payout in run.payouts.select_related("account", "contributor")
        if (payout.rail, payout.destination) != (payout.account.rail, payout.account.destination)
        or bytes(payout.row_sha256) != row_sha256(payout)
    ]
    if moved:
        raise UnableToSubmitRun(f"The destination changed since the run was built: {', '.join(moved[:5])}.")
    _count(run)
    if not run.n_payouts:
        raise UnableToSubmitRun("The run pays nobody.")
    limit = run.configuration.get("second_approval_minor")
    run.needs_second_approval = limit is not None and run.total_minor + _alone(run, at) > int(limit)
    run.submitted_at = at
    run.content_hash = content_hash(run)
    _to(
        run, PayoutRun.State.IN_REVIEW,
        "n_payouts", "total_minor", "needs_second_approval", "submitted_at", "content_hash",
    )  # fmt: skip
    audit(
        by=by, action="submit_run", subject=f"run:{run.public_id}", at=at, seen=seen,
        after={"content_hash": run.hash_hex, "total_minor": run.total_minor, "payouts": run.n_payouts},
    )  # fmt: skip
    return run


def _submit_alone(currency: str) -> None:
    """One run of a currency is submitted at a time, until commit: the limit for a second approver counts the runs of
    every rail, and two at once would not see each other. Taken before any run is locked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"payouts submit {currency}"])


def _alone(run: PayoutRun, at: datetime) -> int:
    """What the limit for a second approver counts beside the run itself: the other parts of what it was split from, and
    runs of the currency that went to one approver within a day. Many small runs need what one large run would."""
    dead = (PayoutRun.State.CANCELLED, PayoutRun.State.REJECTED)
    first = run
    while first.split_from is not None:
        first = first.split_from
    family, generation = {first.pk}, {first.pk}
    while generation:
        generation = set(PayoutRun.objects.filter(split_from__in=generation).values_list("pk", flat=True))
        family |= generation
    lately = Q(currency=run.currency, submitted_at__gt=at - A_DAY, needs_second_approval=False)
    counted = PayoutRun.objects.filter(Q(pk__in=family) | lately).exclude(state__in=dead).exclude(pk=run.pk)
    return int(counted.aggregate(total=Sum("total_minor"))["total"] or 0)


@transaction.atomic
def exclude(
    *, run: PayoutRun, contributors: Collection[int], by: User, at: datetime, seen: Presence = NOBODY
) -> tuple[PayoutRun, PayoutRun]:
    """Split a run in two: those named wait in a run of their own. Both parts are submitted and reviewed anew.

    Returns (what is left, as a draft; what was set aside).
    """
    require_role(by, MAKER, ADMIN)
    run = lock(run)
    if run.state not in (PayoutRun.State.DRAFT, PayoutRun.State.IN_REVIEW, PayoutRun.State.APPROVED):
        raise UnableToChangeRun(f"A run that is {run.get_state_display().lower()} cannot be split.")
    return_to_review(run)
    if run.state == PayoutRun.State.IN_REVIEW:
        _return_to_draft(run)
    leaving = list(run.payouts.filter(contributor_id__in=contributors).select_for_update(no_key=True))
    if len(leaving) != len(set(contributors)) or not leaving:
        raise UnableToExclude("Somebody named is not in this run.")
    if len(leaving) == run.payouts.count():
        raise UnableToExclude("Nobody would be left in the run; cancel it instead.")
    other = PayoutRun.objects.create(
        currency=run.currency, rail=run.rail, cut_off=run.cut_off, matured_before=run.matured_before,
        state=PayoutRun.State.SET_ASIDE, configuration=run.configuration, split_from=run, created_by=by,
        created_at=at, last_edited_by=by, last_edited_at=at,
    )  # fmt: skip
    run.payouts.filter(pk__in=[payout.pk for payout in leaving]).delete()
    for payout in leaving:
        payout.pk, payout.run, payout.created_at = None, other, at
        payout._state.adding = True
        payout.public_id = Payout._meta.get_field("public_id").get_default()
        payout.row_sha256 = row_sha256(payout)
    Payout.objects.bulk_create(leaving, batch_size=2000)
    LeftOut.objects.bulk_create(
        LeftOut(
            run=run, contributor_id=payout.contributor_id, currency=run.currency,
            amount=payout.gross_minor * asset(run.currency).minor, reason=LeftOut.Reason.EXCLUDED,
            words="Your payout was taken out of this run to be looked at once more.",
            remedy="Nothing to do: it is reviewed on its own.", created_at=at,
        )
        for payout in leaving
    )  # fmt: skip
    for part in (run, other):
        part.last_edited_by, part.last_edited_at = by, at
        _count(part)
        part.save(update_fields=["last_edited_by", "last_edited_at", "n_payouts", "total_minor"])
    audit(
        by=by, action="exclude", subject=f"run:{run.public_id}", at=at, seen=seen,
        after={"set_aside": str(other.public_id), "contributors": sorted(contributors)},
    )  # fmt: skip
    return run, other


@transaction.atomic
def take_up_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """Make a draft of what was set aside, once no other run of the currency is open."""
    require_role(by, MAKER, ADMIN)
    run = lock(run)
    if run.state != PayoutRun.State.SET_ASIDE:
        raise UnableToChangeRun("The run was not set aside.")
    run.last_edited_by, run.last_edited_at = by, at
    try:
        with transaction.atomic():
            _to(run, PayoutRun.State.DRAFT, "last_edited_by", "last_edited_at")
    except IntegrityError as error:
        raise UnableToChangeRun(f"Another {run.currency} run is open; finish it first.") from error
    audit(by=by, action="take_up_run", subject=f"run:{run.public_id}", at=at, seen=seen)
    return run


@transaction.atomic
def cancel_run(*, run: PayoutRun, by: User, at: datetime, seen: Presence = NOBODY) -> PayoutRun:
    """End a run before anything is sent; everything stays payable."""
    require_role(by, MAKER, ADMIN)
    run = lock(run)
    allowed = (
        PayoutRun.State.DRAFT, PayoutRun.State.SET_ASIDE, PayoutRun.State.IN_REVIEW, PayoutRun.State.APPROVED,
    )  # fmt: skip
    if run.state not in allowed:
        raise UnableToChangeRun(f"A run that is {run.get_state_display().lower()} cannot be cancelled.")
    before = run.state
    payouts_back_to_ready(run)
    _to(run, PayoutRun.State.CANCELLED)
    audit(
        by=by, action="cancel_run", subject=f"run:{run.public_id}", at=at, seen=seen, before={"state": before}
    )  # fmt: skip
    return run


def return_to_review(run: PayoutRun) -> None:
    """Take an approval back, in the caller's transaction: approved -> in_review, its payouts -> ready."""
    if run.state != PayoutRun.State.APPROVED:
        return
    payouts_back_to_ready(run)
    _to(run, PayoutRun.State.IN_REVIEW)
    clear_approvals(run)


def payouts_back_to_ready(run: PayoutRun) -> None:
    run.payouts.filter(state=Payout.State.APPROVED).update(state=Payout.State.READY, approved_at=None)


def clear_approvals(run: PayoutRun) -> None:
    run.approved_by = run.second_approved_by = None
    run.approved_at = run.second_approved_at = run.approval_expires_at = None
    run.approved_hash = None
    run.save(
        update_fields=[
            "approved_by", "approved_at", "approved_hash", "approval_expires_at",
            "second_approved_by", "second_approved_at",
        ]
    )  # fmt: skip


def _return_to_draft(run: PayoutRun) -> None:
    clear_approvals(run)
    run.submitted_at, run.content_hash, run.needs_second_approval = None, None, False
    _to(run, PayoutRun.State.DRAFT, "submitted_at", "content_hash", "needs_second_approval")
