"""A contributor's standing: five numbers that add up, the way to the next payout, and the obstacle to it.

Reads only. A hold is known here and not in the ledger, so that payable money under a hold is shown as held.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Q

from contributors.models import Contributor
from ledger.money import asset
from ledger.queries.balances import balances_of, matured
from payouts.models import HoldReason, PayoutAccount, Rail
from payouts.queries import payees, words
from payouts.queries.ended_accounts import Why, why_replaced
from payouts.queries.hold_reasons import RULES
from payouts.queries.policies import terms_in_force
from payouts.rails import amounts
from payouts.rails.choice import rail_of
from people.presentation.amounts import adds_up_in_minor

ACCOUNTS_MAX = 10_000


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
    # The same for an account at Stripe that has to be replaced.
    again: bool = False
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
    for young_too in balances_of(contributor.pk):
        currency = young_too.currency
        balances = matured(contributor.pk, young_too, at - timedelta(days=terms_in_force(currency).maturity_days))
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
    if why := why_replaced(account):
        return _task_of_replacing(why)
    asked, deadline = asked_by_stripe(account), deadline_of(account)
    if asked and is_paid_now(account):
        return Task(
            f"Stripe needs {words.listed(asked)}",
            "You are still paid. Stripe stops that if it does not have this in time.",
            at_stripe=True,
            deadline=deadline,
        )
    if asked:
        return Task(
            f"Stripe needs {words.listed(asked)}",
            "Until Stripe has it, nothing can be paid to you. Your earnings stay yours and wait here.",
            at_stripe=True,
            deadline=deadline,
        )
    holds = payees.open_holds(contributor)
    if holds and holds[0].hold.reason in PAUSED_BY_STRIPE and not account.requirements.get("pending_verification"):
        return Task(
            "Stripe has paused payments to you and asks for nothing",
            "There is nothing for you to answer at the moment. We read your account every day. "
            "Your earnings stay yours and wait here; write to us if it lasts longer than a week.",
            tone="info",
        )
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
    if account.is_onboarded and (coming := asked_in_future(account)):
        return Task(
            f"Stripe will need {words.listed(coming)}",
            "You are paid as before until then. Stripe stops that if it does not have this in time.",
            at_stripe=True,
            deadline=deadline,
        )
    if not account.is_onboarded:
        return Task(
            "Stripe has not switched on transfers to you",
            "Your answers are complete as far as we can see. Open Stripe's form to see whether something is left.",
            at_stripe=True,
        )
    return None


# The holds of an account that Stripe stops by itself, and not for a fact that the payee can give.
PAUSED_BY_STRIPE = frozenset(
    {
        HoldReason.PAYOUTS_DISABLED,
        HoldReason.TRANSFERS_CAPABILITY_INACTIVE,
        HoldReason.STRIPE_UNDER_REVIEW,
        HoldReason.REQUIREMENTS_PAST_DUE,
    }
)


def _task_of_replacing(why: str) -> Task:
    if why == Why.REJECTED:
        rule = RULES[HoldReason.REJECTED_BY_STRIPE]
        return Task(rule.words.rstrip("."), rule.remedy, tone="bad")
    titles = {
        Why.DISCONNECTED: "Your Stripe account is closed or no longer connected",
        Why.COUNTRY_CHANGED: "Your Stripe account is of your former country",
        Why.KIND_CHANGED: "Your Stripe account is of another kind than you are now",
    }
    return Task(
        titles[Why(why)],
        "Set up your payouts again. It takes about five minutes. Your earnings stay yours and wait here.",
        again=True,
    )


def is_paid_now(account: PayoutAccount) -> bool:
    """Tell whether Stripe takes payments for this account and pays them to its bank now."""
    return account.is_onboarded and account.payouts_enabled and not account.requirements.get("past_due")


def _task_by_bank(contributor: Contributor, account: PayoutAccount | None) -> Task | None:
    if account is None or not account.bank_fingerprint:
        return Task(
            "Name the bank account that you want to be paid to",
            "You are paid by bank transfer. It takes a minute: the account needs an IBAN or a local number, and your "
            "name on it. Until then your earnings stay yours and wait here.",
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


def asked_in_future(account: PayoutAccount) -> list[str]:
    """List the facts that Stripe will ask for from a known day on, in words."""
    required = account.future_requirements
    return words.requirements([*required.get("past_due", []), *required.get("currently_due", [])])


def with_deadlines(*, after: datetime, before: datetime) -> list[tuple[PayoutAccount, datetime]]:
    """List the accounts that are paid and have something to give Stripe by a deadline in this span, the nearest first;
    ACCOUNTS_MAX of them."""
    seconds = {"gte": int(after.timestamp()), "lte": int(before.timestamp())}
    near = Q()
    for field in ("requirements", "future_requirements"):
        near |= Q(**{f"{field}__current_deadline__{how}": moment for how, moment in seconds.items()})
    rows = PayoutAccount.objects.filter(
        near, rail=Rail.STRIPE_TRANSFER, provider_account_id__isnull=False, disconnected_at__isnull=True
    ).select_related("contributor")
    paid = [account for account in rows.order_by("pk")[:ACCOUNTS_MAX] if is_paid_now(account)]
    dated = [(account, deadline_of(account)) for account in paid]
    found = [(account, deadline) for account, deadline in dated if deadline and after < deadline <= before]
    return sorted(found, key=lambda pair: (pair[1], pair[0].pk))


def asked_later(account: PayoutAccount) -> list[str]:
    """List the facts that Stripe will want at some time, without a day. Payments go on without them."""
    of = (account.requirements.get("eventually_due", []), account.future_requirements.get("eventually_due", []))
    return [*dict.fromkeys([*asked_in_future(account), *words.requirements(key for keys in of for key in keys)])]


def deadline_of(account: PayoutAccount) -> datetime | None:
    """Return the time until which Stripe goes on paying without the facts that it asks for, now or from a known day
    on."""
    asked = [
        required.get("current_deadline")
        for required in (account.requirements, account.future_requirements)
        if required.get("currently_due") or required.get("past_due")
    ]
    seconds = [int(moment) for moment in asked if moment]
    return datetime.fromtimestamp(min(seconds), tz=UTC) if seconds else None
