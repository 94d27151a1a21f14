"""A small programme for the payout tests: staff with roles, contributors with money and accounts, all by operations.

The debt to a contributor is posted straight to the journal, because its origin is not under test here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from contributors.models import Contributor
from contributors.operations.people import register_contributor
from ledger import journal
from ledger.journal import AccountKey
from ledger.money import from_minor
from ledger.operations import periods, programme, verbs
from payouts.attempts import crew
from payouts.models import Payout, PayoutAccount, PayoutRun, TaxProfile
from payouts.operations import accounts, approval, building, funding, policies, runs, tax_forms
from payouts.queries import balances
from payouts.rails.stripe import calls
from people.actor import Presence
from people.models import User
from people.operations.users import register_user
from tests.sandbox_server import StripeSandbox
from tests.worlds.manual import post_by_hand

SEEN = Presence(ip="192.0.2.7", mfa_age_seconds=60)
_numbers = itertools.count(1)


@dataclass
class World:
    """`sandbox` None: nothing here talks to Stripe."""

    at: datetime
    sandbox: StripeSandbox | None = None
    currency: str = "USD"
    contributors: list[Contributor] = field(default_factory=list)

    def __post_init__(self) -> None:
        periods.open_periods(at=self.at)

    # --- people ---------------------------------------------------------------------------------------------------
    def _user(self, name: str, *roles: str) -> User:
        return register_user(
            email=f"{name}{next(_numbers)}@example.org",
            password="a long enough one",
            name=name,
            roles=roles,
            at=self.at,
        )

    @cached_property
    def owner(self) -> User:
        return self._user("owner")

    @cached_property
    def maker(self) -> User:
        return self._user("maker", "finance_maker", "finance_checker")

    @cached_property
    def checker(self) -> User:
        return self._user("checker", "finance_checker")

    @cached_property
    def second_checker(self) -> User:
        return self._user("second", "finance_checker")

    @cached_property
    def _editor(self) -> User:
        return self._user("editor", "finance_maker", "finance_checker")

    def second_checker_as_maker(self) -> User:
        """A user with the roles to edit and approve, so that only four eyes stop them from doing both."""
        return self._editor

    @cached_property
    def compliance(self) -> User:
        return self._user("compliance", "compliance")

    def tax_form(self, contributor: Contributor, withholding_ppb: int = 0, **said: Any) -> TaxProfile:
        """A W-8BEN of somebody resident in Germany, received today."""
        today = self.at.date()
        given: dict[str, Any] = {
            "form": "w8ben",
            "country": "DE",
            "number": "12 345 678 903",
            "signed_on": today,
            "received_on": today,
            "by": self.compliance,
            "at": self.at,
            "seen": SEEN,
            **said,
        }
        return tax_forms.record_tax_form(contributor=contributor, withholding_ppb=withholding_ppb, **given)

    # --- money ----------------------------------------------------------------------------------------------------
    def credit(self, contributor: Contributor, minor: int, *, nanos: int = 0, currency: str | None = None) -> None:
        """Owe a contributor `minor` minor units, and `nanos` units more."""
        currency = currency or self.currency
        amount = from_minor(minor, currency) + nanos
        owed = AccountKey("contributor_payable", currency, f"contributor:{contributor.pk}")
        post_by_hand([(AccountKey("programme_cost", currency), -amount), (owed, amount)], self.at)

    def payable(self, contributor: Contributor) -> int:
        return journal.balance(AccountKey("contributor_payable", self.currency, f"contributor:{contributor.pk}"))

    def fund(self, minor: int) -> None:
        funding.fund_platform(currency=self.currency, amount_minor=minor, by=self.maker, at=self.at, seen=SEEN)

    def same_balance_as_stripe(self) -> None:
        """Book the remains of earlier tests in a shared sandbox, so that the ledger begins where Stripe stands."""
        units = from_minor(calls.balance().total(self.currency), self.currency)
        if missing := units - balances.ledger_stripe_balance(self.currency):
            booked: dict[str, Any] = {"currency": self.currency, "reference": f"tu_{next(_numbers)}", "at": self.at}
            if missing > 0:
                programme.top_up_stripe(amount=missing, **booked)
            else:
                verbs.post_verb(verb="sweep_stripe", amount=-missing, **booked)

    # --- contributors ---------------------------------------------------------------------------------------------
    def contributor(self, minor: int = 0, *, outcome: str | None = "complete", country: str = "US") -> Contributor:
        """Make a payee that is owed `minor`; `outcome` is the result of onboarding, None if it was never begun."""
        number = next(_numbers)
        contributor = register_contributor(
            user=self.owner,
            kind="person",
            legal_name=f"Contributor {number}",
            display_name=f"C{number}",
            country=country,
            at=self.at,
        )
        self.contributors.append(contributor)
        if outcome is not None:
            self.onboard(contributor, outcome)
        if minor:
            self.credit(contributor, minor)
        return contributor

    def onboard(self, contributor: Contributor, outcome: str = "complete") -> PayoutAccount:
        if self.sandbox is None:
            return self.onboard_offline(contributor)
        account = accounts.open_payout_account(contributor=contributor, by=self.owner, at=self.at)
        assert account.provider_account_id is not None
        if outcome:
            self.sandbox.happens(account.provider_account_id, outcome)
        return accounts.sync_account(account=account, at=self.at)

    def crowd(self, n: int) -> list[Contributor]:
        """Make many payees with accounts at Stripe like the first one's."""
        assert self.sandbox is not None
        first = self.contributor()
        made = [first]
        for name in self.sandbox.copy_account(self.account(first), n - 1):
            contributor = self.contributor(outcome=None)
            PayoutAccount.objects.create(
                contributor=contributor,
                provider_account_id=name,
                country=contributor.country,
                destination_currency="USD",
                transfers_capability="active",
                payouts_enabled=True,
                details_submitted=True,
                created_at=self.at,
            )
            made.append(contributor)
        return made

    def account(self, contributor: Contributor) -> str:
        """The contributor's account at Stripe, by its id there."""
        return str(PayoutAccount.objects.get(contributor=contributor).provider_account_id)

    def onboard_offline(self, contributor: Contributor) -> PayoutAccount:
        """An account as Stripe would have described it, where no server is needed."""
        return PayoutAccount.objects.create(
            contributor=contributor,
            provider_account_id=f"acct_{next(_numbers)}",
            country=contributor.country,
            destination_currency="USD",
            transfers_capability="active",
            payouts_enabled=True,
            details_submitted=True,
            created_at=self.at,
        )

    # --- runs -----------------------------------------------------------------------------------------------------
    def policy(self, minimum_minor: int = 500, maturity_days: int = 0, **terms: Any) -> None:
        policies.adopt_policy(
            currency=self.currency,
            minimum_minor=minimum_minor,
            maturity_days=maturity_days,
            by=self.maker,
            approved_by=self.checker,
            at=self.at,
            seen=SEEN,
            **terms,
        )

    def built(self) -> PayoutRun:
        return building.build_run(currency=self.currency, cut_off=self.at, by=self.maker, at=self.at, seen=SEEN)

    def in_review(self) -> PayoutRun:
        return runs.submit_run(run=self.built(), by=self.maker, at=self.at, seen=SEEN)

    def approve(self, run: PayoutRun, by: User | None = None, at: datetime | None = None) -> PayoutRun:
        return approval.approve_run(
            run=run,
            by=by or self.checker,
            typed_total=run.total_minor,
            content_hash=bytes(run.content_hash or b""),
            at=at or self.at,
            seen=SEEN,
        )

    def approved(self) -> PayoutRun:
        return self.approve(self.in_review())

    def executing(self) -> PayoutRun:
        return approval.start_execution(run=self.approved(), by=self.checker, at=self.at, seen=SEEN)

    def pay(self, run: PayoutRun, *, seconds: float = 0) -> PayoutRun:
        """Work off the payouts due `seconds` after the world's moment."""
        moment = self.at + timedelta(seconds=seconds)
        crew.execute_run(run_id=run.pk, threads=1, clock=lambda: moment)
        run.refresh_from_db()
        return run


def states(run: PayoutRun) -> list[str]:
    return list(run.payouts.order_by("contributor_id").values_list("state", flat=True))


def only(run: PayoutRun) -> Payout:
    return run.payouts.get()
