"""Building a run: the amount and destination of each payee, and the reason for each contributor without a payout.

A run pays matured payable: the balance, less credits since the maturity delay began, less the contributor's debt.
Everybody with money either has a payout or a row that says why not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q

from contributors.models import Contributor
from ledger.models import Period
from ledger.money import asset
from ledger.queries.taxes import withholding_rate
from payouts.attempts.content import row_sha256
from payouts.models import Hold, HoldReason, LeftOut, Payout, PayoutAccount, PayoutRun, Rail, TaxProfile
from payouts.operations.accounts import tax_problem
from payouts.operations.holds import open_holds_q
from payouts.operations.runs import count, move
from payouts.queries import balances
from payouts.queries.hold_reasons import RULES
from payouts.queries.policies import Terms, terms_in_force
from payouts.rails import amounts as money
from payouts.rails import choice
from people.actor import ADMIN, MAKER, NOBODY, Presence, audit, require_role
from people.models import User
from people.presentation import amounts

PAYOUTS_MAX = 100_000


class UnableToBuildRun(Exception):
    """Another run of the currency is open, or the dates make no sense."""

    status = 409
    problem = "run-not-built"


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
    """Build the successor of a rejected run, of the same currency and cut-off, from the ledger's present figures.

    Raises UnableToBuildRun for a run that is not rejected, or has a successor already.
    """
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
    first_day = Period.objects.order_by("pk").values_list("starts", flat=True).first()
    if first_day is None or cut_off.astimezone(UTC).date() < first_day:
        raise UnableToBuildRun("The cut-off lies before the first month of the books; nothing was credited before it.")
    if PayoutRun.objects.filter(currency=currency, rail=rail, state=PayoutRun.State.SET_ASIDE).exists():
        raise UnableToBuildRun("A part that was split off a run waits: take it up or cancel it first.")
    terms = terms_in_force(currency)
    try:
        with transaction.atomic():
            run = PayoutRun.objects.create(
                currency=currency,
                rail=rail,
                cut_off=cut_off,
                matured_before=cut_off - timedelta(days=terms.maturity_days),
                configuration=terms.as_json(),
                supersedes=supersedes,
                created_by=by,
                created_at=at,
                last_edited_by=by,
                last_edited_at=at,
            )
    except IntegrityError as error:
        if "one_run_at_a_time" not in str(error):
            raise
        raise UnableToBuildRun(f"A {currency} run is open already; finish or cancel it first.") from error
    move(run, PayoutRun.State.CALCULATING)
    payouts, left_out = _calculate(run, terms, at)
    if len(payouts) > PAYOUTS_MAX:
        raise UnableToBuildRun(f"A run pays at most {PAYOUTS_MAX:,} people.")
    Payout.objects.bulk_create(payouts, batch_size=2000)
    LeftOut.objects.bulk_create(left_out, batch_size=2000)
    count(run)
    move(run, PayoutRun.State.DRAFT, "n_payouts", "total_minor")
    audit(
        by=by, action="build_run", subject=f"run:{run.public_id}", at=at, seen=seen,
        after={"currency": currency, "cut_off": cut_off.isoformat(), "policy": terms.version,
               "payouts": run.n_payouts, "total_minor": run.total_minor, "left_out": len(left_out)},
    )  # fmt: skip
    return run


def _calculate(run: PayoutRun, terms: Terms, at: datetime) -> tuple[list[Payout], list[LeftOut]]:
    owed = balances.owed_to_contributors(run.currency, run.matured_before)
    ids = [row.contributor_id for row in owed]
    people = Contributor.objects.in_bulk(ids)
    accounts = {row.contributor_id: row for row in PayoutAccount.objects.filter(contributor_id__in=ids)}
    holds: dict[int, list[HoldReason]] = {}
    for hold in Hold.objects.filter(open_holds_q(at), contributor_id__in=ids).order_by("reason"):
        holds.setdefault(hold.contributor_id, []).append(HoldReason(hold.reason))
    taxes = {row.contributor_id: row for row in TaxProfile.objects.filter(contributor_id__in=ids).order_by("pk")}
    # A run of the other rail that is not approved yet may still pay them.
    ended = (PayoutRun.State.REJECTED, PayoutRun.State.CANCELLED)
    under_way = Q(state__in=Payout.LIVE) | Q(state=Payout.State.READY) & ~Q(run__state__in=ended)
    live = set(
        Payout.objects.filter(under_way, contributor_id__in=ids, currency=run.currency).values_list(
            "contributor_id", flat=True
        )
    )
    payouts: list[Payout] = []
    left_out: list[LeftOut] = []
    for row in owed:
        case = _Case(
            run,
            terms,
            row,
            people[row.contributor_id],
            accounts.get(row.contributor_id),
            holds.get(row.contributor_id, []),
            taxes.get(row.contributor_id),
            row.contributor_id in live,
            at,
        )
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
    owed: balances.Owed
    contributor: Contributor
    account: PayoutAccount | None
    holds: list[HoldReason]
    tax: TaxProfile | None
    is_live: bool
    at: datetime

    def decide(self) -> Payout | LeftOut:
        currency = self.run.currency
        account = self.account
        rail = choice.rail_of(self.contributor, account)
        if rail != self.run.rail:
            return self._out(
                LeftOut.Reason.OTHER_RAIL,
                f"You are paid by {choice.RAIL_NAMES[rail]}, in a run of its own.",
                "Nothing to do.",
            )
        if self.is_live:
            return self._out(
                LeftOut.Reason.LIVE_ELSEWHERE,
                "An earlier payout to you has not come to its end.",
                "Nothing to do: the next run pays this.",
            )
        if self.owed.available <= 0 and self.owed.receivable > 0:
            return self._out(
                LeftOut.Reason.NEGATIVE_BALANCE,
                "A correction left more owed by you than to you.",
                RULES[HoldReason.NEGATIVE_BALANCE].remedy,
            )
        if self.holds and not self._is_only_onboarding():
            return self._held(self.holds[0])
        if account is None or not account.is_onboarded or self.holds:
            by_bank = rail == Rail.MANUAL_BANK_FILE
            missing = HoldReason.BANK_ACCOUNT_MISSING if by_bank else HoldReason.ONBOARDING_INCOMPLETE
            if by_bank and not choice.reaches(self.contributor.country):
                missing = HoldReason.COUNTRY_UNSUPPORTED
            missing = self.holds[0] if self.holds else missing
            return self._out(LeftOut.Reason.NOT_ONBOARDED, RULES[missing].words, RULES[missing].remedy, missing)
        if self.terms.requires_tax_form and (reason := tax_problem(self.tax, at=self.at)):
            return self._held(reason)
        payable_minor = self.owed.available // asset(currency).minor
        ppb, basis = self._withholding()
        gross, tax, net = money.split(payable_minor, withholding_ppb=ppb, currency=currency)
        own_minor = account.minimum_minor if currency == self.contributor.currency else 0
        least = max(self.terms.minimum_minor, own_minor, self._rail_minimum(account))
        if net < least:
            return self._small(least)
        assert net > 0
        payout = Payout(
            run=self.run,
            contributor=self.contributor,
            account=account,
            rail=self.run.rail,
            currency=currency,
            gross_minor=gross,
            tax_minor=tax,
            tax_jurisdiction=self.tax.jurisdiction if self.tax and tax else "",
            tax_basis=basis if tax else "",
            amount_minor=net,
            destination=account.destination,
            destination_currency=account.destination_currency if rail == Rail.STRIPE_TRANSFER else currency,
            created_at=self.at,
        )
        payout.row_sha256 = row_sha256(payout)
        return payout

    def _withholding(self) -> tuple[int, str]:
        """Return the rate and its basis. They come from the ledger's table where it has a rate for the form and its
        country, else from the record of the form. Without a form on record nothing is withheld;
        the policy says whether one is needed."""
        if self.tax is None:
            return 0, ""
        country = self.tax.country or self.contributor.country
        row = withholding_rate(
            jurisdiction=self.tax.jurisdiction, country=country, form=self.tax.form, on=self.at.date()
        )
        return (row.rate_ppb, row.basis) if row else (self.tax.withholding_ppb, "")

    def _is_only_onboarding(self) -> bool:
        """Said as "not onboarded", which tells the contributor more than a hold does."""
        return set(self.holds) <= {HoldReason.ONBOARDING_INCOMPLETE, HoldReason.BANK_ACCOUNT_MISSING}

    def _rail_minimum(self, account: PayoutAccount) -> int:
        return money.rail_minimum(account.country, self.run.currency, rail=self.run.rail)

    def _small(self, least: int) -> LeftOut:
        currency = self.run.currency
        minimum = amounts.text_of_minor(least, asset(currency))
        if self.owed.balance - self.owed.receivable >= least * asset(currency).minor:
            return self._out(
                LeftOut.Reason.IMMATURE,
                f"Earnings become payable {self.terms.maturity_days} days after their credit; the payable "
                f"sum is below the minimum payout of {minimum}.",
                "Nothing to do: a later run pays it.",
            )
        return self._out(
            LeftOut.Reason.BELOW_THRESHOLD,
            f"It is below the minimum payout of {minimum}.",
            "Nothing to do: it is carried over and paid once it is enough.",
        )

    def _held(self, reason: HoldReason) -> LeftOut:
        return self._out(LeftOut.Reason.HELD, RULES[reason].words, RULES[reason].remedy, reason)

    def _out(self, reason: str, words: str, remedy: str, hold: HoldReason | None = None) -> LeftOut:
        return LeftOut(
            run=self.run,
            contributor=self.contributor,
            currency=self.run.currency,
            amount=self.owed.balance,
            reason=reason,
            hold_reason=hold or "",
            words=words,
            remedy=remedy,
            created_at=self.at,
        )
