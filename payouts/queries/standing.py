"""A contributor's standing: five numbers that add up, the way to the next payout, and the obstacle to it.

Reads only. A hold is known here and not in the ledger, so that payable money under a hold is shown as held.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from contributors.models import Contributor
from ledger.money import asset
from ledger.queries.balances import balances_of
from payouts.models import HoldReason, PayoutAccount, Rail
from payouts.queries import payees, words
from payouts.queries.policies import terms_in_force
from payouts.rails import amounts
from payouts.rails.choice import rail_of
from people.presentation.amounts import adds_up_in_minor


@dataclass(frozen=True, slots=True)
class Purse:
    """One currency of a contributor, in ledger units. The parts sum to the earned amount; `withheld` went to tax."""

    currency: str
    pending: int
    payable: int
    held: int
    in_transit: int
    paid: int
    withheld: int
    threshold: int
    under_hold: int

    @property
    def earned(self) -> int:
        return self.pending + self.payable + self.held + self.in_transit + self.paid + self.withheld

    @property
    def ready(self) -> int:
        """Return the units that count towards the threshold: matured, under a hold or not."""
        return self.payable + self.under_hold

    @property
    def progress(self) -> int:
        """Whole per cent of the threshold, 100 at most; never 100 while something is missing."""
        return min(100, max(0, self.ready) * 100 // self.threshold) if self.threshold else 100

    @property
    def missing(self) -> int:
        return max(0, self.threshold - self.ready)

    @property
    def adds_up(self) -> bool:
        """Whether the parts in cents sum to the earned amount in cents; if not, a page shows exact amounts."""
        parts = (self.pending, self.payable, self.held, self.in_transit, self.paid, self.withheld)
        return adds_up_in_minor(parts, self.earned, asset(self.currency))


@dataclass(frozen=True, slots=True)
class Task:
    """The one thing that stands between a contributor and the next payout."""

    title: str
    sentence: str
    # Whether the contributor does something about it at Stripe; otherwise it is ours, or time's.
    at_stripe: bool = False
    begins: bool = False
    # The same for a bank account that is paid directly.
    at_bank: bool = False
    tone: str = "warn"
    deadline: datetime | None = None
    ends_at: datetime | None = None


def purses_of(contributor: Contributor, *, at: datetime) -> list[Purse]:
    """One for each currency in which there is or was money; one of zeros where there never was any."""
    account = payees.account_of(contributor)
    is_held = bool(payees.open_holds(contributor))
    found = []
    for currency in [balances.currency for balances in balances_of(contributor.pk)]:
        policy = terms_in_force(currency)
        matured_before = at - timedelta(days=policy.maturity_days)
        [balances] = [
            balances
            for balances in balances_of(contributor.pk, matured_before=matured_before)
            if balances.currency == currency
        ]
        under_hold = balances.payable if is_held else 0
        least_minor = least_payout_minor(contributor, account, currency)
        found.append(
            Purse(
                currency=currency,
                pending=balances.pending,
                payable=balances.payable - under_hold,
                held=balances.held + under_hold,
                in_transit=balances.in_transit,
                paid=balances.paid,
                withheld=balances.withheld,
                threshold=least_minor * asset(currency).minor,
                under_hold=under_hold,
            )
        )
    return found


def least_payout_minor(contributor: Contributor, account: PayoutAccount | None, currency: str) -> int:
    """Return the least payout of the contributor in minor units: the largest of the policy's, the rail's and their
    own."""
    rail = rail_of(contributor, account)
    country = account.country if account else contributor.country
    return max(
        terms_in_force(currency).minimum_minor,
        amounts.rail_minimum(country, currency, rail=rail),
        account.minimum_minor if account and currency == contributor.currency else 0,
    )


def task_of(contributor: Contributor) -> Task | None:
    """Return the first thing that blocks the next payout; None where only time or the threshold does."""
    account = payees.account_of(contributor)
    if rail_of(contributor, account) == Rail.MANUAL_BANK_FILE:
        return _task_by_bank(contributor, account)
    if account is None or account.provider_account_id is None:
        return Task(
            "Say where you want to be paid",
            "Stripe pays you and needs to know your identity and your bank account. It takes about five "
            "minutes. Until then your earnings stay yours and wait here.",
            begins=True,
        )
    asked = asked_by_stripe(account)
    if asked:
        return Task(
            f"Stripe needs {words.listed(asked)}",
            "Until Stripe has it, nothing can be paid to you. Your earnings stay yours and wait here.",
            at_stripe=True,
            deadline=deadline_of(account),
        )
    holds = payees.open_holds(contributor)
    if holds:
        first = holds[0]
        return Task(
            first.words.rstrip("."),
            first.remedy,
            at_stripe=not account.is_onboarded and first.hold.reason != HoldReason.CONTRIBUTOR_PAUSED,
            tone="warn" if first.automatic else "bad",
            ends_at=first.hold.ends_at,
        )
    checking = words.requirements(account.requirements.get("pending_verification", []))
    if checking and not account.is_onboarded:
        return Task(
            f"Stripe is checking {words.listed(checking)}",
            "You need do nothing. Stripe usually answers within two days.",
            tone="info",
        )
    if not account.is_onboarded:
        return Task(
            "Stripe has not switched on transfers to you",
            "Your answers are complete as far as we can see. Open Stripe's form to see whether something is left.",
            at_stripe=True,
        )
    return None


def _task_by_bank(contributor: Contributor, account: PayoutAccount | None) -> Task | None:
    if account is None or not account.bank_fingerprint:
        return Task(
            "Name the bank account that you want to be paid to",
            "You are paid by bank transfer. It takes a minute: the account needs an IBAN and your name on it. "
            "Until then your earnings stay yours and wait here.",
            at_bank=True,
        )
    holds = payees.open_holds(contributor)
    if not holds:
        return None
    first = holds[0]
    return Task(
        first.words.rstrip("."),
        first.remedy,
        at_bank=first.hold.reason == HoldReason.REFUSED_BY_BANK,
        tone="warn" if first.automatic else "bad",
        ends_at=first.hold.ends_at,
    )


def asked_by_stripe(account: PayoutAccount) -> list[str]:
    """List the facts that Stripe waits for, in words, the overdue ones first."""
    required = account.requirements
    return words.requirements([*required.get("past_due", []), *required.get("currently_due", [])])


def deadline_of(account: PayoutAccount) -> datetime | None:
    """Return the time until which Stripe goes on paying without the facts that it asks for."""
    seconds = account.requirements.get("current_deadline") or account.requirements.get("deadline")
    return datetime.fromtimestamp(int(seconds), tz=UTC) if seconds else None
