"""The demo's month and its money: the plan, the close, the accounts, the payout run, and the check of the books."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

import requests
from django.conf import settings
from django.utils import timezone

from attribution.models import ModelService
from attribution.operations import model_services
from config import books
from config.demo import people
from config.demo.dates import Calendar
from config.demo.progress import Stages, UnableToDemonstrate
from contributors.models import Contributor
from ledger.models import Period
from ledger.money import PPB, format_amount, parse_amount
from ledger.operations import closing, periods, plans, sealing, verbs
from ledger.queries.balances import balances_of
from payouts.models import LeftOut, Payout, PayoutAttempt, PayoutRun
from payouts.operations import accounts, approval, building, funding, policies, runs
from payouts.queries.policies import terms_in_force
from payouts.reconciliation import comparison
from people.actor import Presence
from people.models import User
from people.operations.proposals import approve

PRICE = "0.05"
CURRENCY = "USD"


@dataclass
class Month:
    """The month of the demo, with its stages."""

    stages: Stages
    calendar: Calendar
    figures: dict[str, Any] = field(default_factory=dict)

    def adopt_plan(self, *, texts: int, drawings: int) -> tuple[ModelService, ModelService]:
        """The plan of the demo: a price a generation, a fifth to the platform; both services pay in advance.

        Returns the service that writes and the one that draws.
        """
        at = self.calendar.month_start
        maker, checker = staff("finance_maker"), staff("finance_checker")
        with self.stages.stage("plan"):
            writing, drawing = (
                model_services.register_service(name=name, at=self.calendar.trained_at)
                for name in ("State of the Union writer", "Icon painter")
            )
            # Its icons are no secrets: receipts show them to the makers.
            model_services.show_outputs(service=drawing, shown=True, at=self.calendar.trained_at)
            periods.open_periods(at=self.calendar.now)
            plan = plans.propose_plan(
                by=maker,
                currency=CURRENCY,
                effective_from=at,
                at=at,
                terms={
                    "basis": "price",
                    "price": parse_amount(PRICE, CURRENCY),
                    "take_ppb": PPB // 5,
                    "floor_ppb": PPB // 5,
                    "note": "A fifth to the platform, a fifth to the floor.",
                },
            )
            approve(plan, by=checker, at=at)
            for number, (service, count) in enumerate(((writing, texts), (drawing, drawings)), 1):
                verbs.post_verb(
                    verb="prefund_service",
                    service=service,
                    currency=CURRENCY,
                    reference=f"bank transfer {number}",
                    at=at,
                    amount=count * parse_amount(PRICE, CURRENCY),
                )
            verbs.post_verb(
                verb="capital", amount=parse_amount("1000", CURRENCY), currency=CURRENCY, reference="founding", at=at
            )
        return writing, drawing

    def close_month(self) -> None:
        """Nothing dated in the month after this; the base pool is distributed; the root is published."""
        with self.stages.stage("close"):
            # Early in a month, the one before last is still open too: months close in their order.
            for period in Period.objects.filter(ends__lte=self.calendar.month_end.date()).order_by("pk"):
                closing.close_period(period=period, at=timezone.now())
                sealing.seal_period(period=period, at=timezone.now())

    def onboard_contributors(self) -> None:
        """Each contributor but one follows the account link and completes Stripe's hosted page; webhooks tell us."""
        with self.stages.stage("onboard") as advance:
            self._pay_small_sums_at_once()
            willing = [person for person in people.CONTRIBUTORS if person.name != people.NOT_ONBOARDED]
            for done, person in enumerate(willing, 1):
                user = User.objects.get(email=person.email)
                account = accounts.open_payout_account(contributor=user.contributors.get(), by=user, at=timezone.now())
                complete_onboarding(accounts.onboarding_link(account=account, by=user, at=timezone.now()))
                accounts.sync_account(account=account, at=timezone.now())
                advance(done, len(willing))

    def _pay_small_sums_at_once(self) -> None:
        """Two people approve a policy without delays, before the first account would wait for them."""
        delays = {"maturity_days": 0, "bank_change_days": 0, "probation_days": 0}
        seen = Presence(mfa_age_seconds=0, request_id="demo")
        proposed = policies.propose_policy(
            currency=CURRENCY,
            figures={**terms_in_force(CURRENCY).figures, "minimum_minor": THRESHOLD_MINOR, **delays},
            reason="The demo pays small sums at once",
            by=staff("finance_maker"),
            at=timezone.now(),
            seen=seen,
        )
        approve(proposed, by=staff("finance_checker"), at=timezone.now(), seen=seen)

    def build_and_approve_run(self) -> PayoutRun:
        """One person builds, another approves the frozen run; the balance at Stripe is topped up beforehand."""
        maker, checker = staff("finance_maker"), staff("finance_checker")
        # The demo's people have just shown their second factor; the audit log says that it was the demo.
        seen = Presence(mfa_age_seconds=0, request_id="demo")
        with self.stages.stage("approve"):
            funding.fund_platform(currency=CURRENCY, amount_minor=10_000, by=maker, at=timezone.now(), seen=seen)
            run = building.build_run(currency=CURRENCY, cut_off=timezone.now(), by=maker, at=timezone.now(), seen=seen)
            run = runs.submit_run(run=run, by=maker, at=timezone.now(), seen=seen)
            assert run.content_hash is not None
            return approval.approve_run(
                run=run,
                by=checker,
                typed_total=run.total_minor,
                content_hash=bytes(run.content_hash),
                at=timezone.now(),
                seen=seen,
            )

    def execute_run(self, run: PayoutRun) -> None:
        seen = Presence(mfa_age_seconds=0, request_id="demo")
        with self.stages.stage("execute") as advance:
            approval.start_execution(run=run, by=staff("finance_maker"), at=timezone.now(), seen=seen)
            sent = [Payout.State.TRANSFERRED, Payout.State.SETTLED]
            self.stages.wait(lambda: run.payouts.filter(state__in=sent).count(), run.n_payouts, advance)

    def settle_and_reconcile(self, run: PayoutRun) -> None:
        """Days pass at the sandbox: the money reaches the banks, webhooks say so, every figure is matched."""
        with self.stages.stage("settle") as advance:
            for _ in range(3):
                _pass_a_day()
            settled = Payout.State.SETTLED
            self.stages.wait(lambda: run.payouts.filter(state=settled).count(), run.n_payouts, advance)
            run.refresh_from_db()
            if run.state == PayoutRun.State.EXECUTING:
                # The sweep does so too; the later of the two finds nothing new.
                comparison.reconcile_run(run=run, at=timezone.now())
                run.refresh_from_db()
        self.figures["run_state"] = run.state

    def check_books(self) -> None:
        with self.stages.stage("check"):
            checked = books.check_books(at=timezone.now())
        self.figures["invariants_checked"] = len(checked.checked)
        self.figures["invariants_violated"] = list(checked.violated)
        self.figures |= money_figures()


def staff(role: str) -> User:
    return User.objects.get(groups__name=role)


# More than the few icons of one maker earn, less than anybody else does.
THRESHOLD_MINOR = 100


def complete_onboarding(link: str) -> None:
    """Act as a person on Stripe's page: open it and finish it."""
    with requests.Session() as session:
        page = session.get(link, timeout=20)
        page.raise_for_status()
        action = re.search(r'action="([^"]+)"', page.text)
        if action is None:
            raise UnableToDemonstrate("The onboarding page has no form; the demo runs against the sandbox only.")
        url = urllib.parse.urljoin(link, action[1])
        # The page leads back to the portal, where the demo's contributor is not logged in.
        session.post(url, data={"outcome": "complete"}, timeout=20, allow_redirects=False).raise_for_status()


def _pass_a_day() -> None:
    answer = requests.post(
        f"{settings.STRIPE_API_BASE}/_sandbox/advance",
        json={"seconds": 86_400},
        headers={"Authorization": f"Bearer {settings.STRIPE_SECRET_KEY}"},
        timeout=30,
    )
    answer.raise_for_status()


def money_figures() -> dict[str, Any]:
    """The present places of the money, from the database as it stands."""
    balances = [
        row
        for contributor in Contributor.objects.order_by("pk")
        for row in balances_of(contributor.pk)
        if row.currency == CURRENCY
    ]
    stopped = LeftOut.objects.filter(reason__in=[LeftOut.Reason.NOT_ONBOARDED, LeftOut.Reason.HELD])
    held = sum(row.amount for row in stopped) + sum(row.held for row in balances)
    owed = sum(row.pending + row.payable + row.held + row.in_transit for row in balances)
    transfers = PayoutAttempt.objects.filter(state="succeeded")
    left_out = LeftOut.objects.select_related("contributor").order_by("contributor")

    def amount(units: int) -> str:
        return format_amount(units, CURRENCY)

    return {
        "contributors_paid": Payout.objects.filter(state__in=["transferred", "settled"]).count(),
        "not_paid": [f"{row.contributor} ({row.get_reason_display().lower()})" for row in left_out],
        "accrued": amount(sum(row.earned for row in balances)),
        "paid": amount(sum(row.paid for row in balances)),
        # Below the threshold, or less than a cent: owed, and paid with a later run.
        "carried": amount(owed - held),
        "held": amount(held),
        "double_payments": transfers.count() - transfers.values("payout").distinct().count(),
    }
