"""The world of the tests of ledger and payouts: people, a service, plans, generations, runs; all made by operations.

Generations and attributions are written as the attribution app writes them, because their gradients are not under
test. Debts of `credit` are posted by hand, because their origin is not under test.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from attribution.models import Attribution, AttributionIndex, Generation, ModelService, ModelVersion
from attribution.operations.attributions import NOBODY, GeneralShares, to_base_pool
from contributors.models import PPB, Contributor, Holder
from contributors.operations.people import register_contributor
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import RoyaltyPlan
from ledger.money import apportion, from_minor, tie_key
from ledger.operations import accruals, periods, plans, programme, verbs
from payouts.attempts import crew
from payouts.models import Payout, PayoutAccount, PayoutRun, TaxProfile
from payouts.operations import accounts, approval, building, funding, policies, runs, tax_forms
from payouts.queries import balances
from payouts.rails.bank.pain import Address
from payouts.rails.stripe import calls
from people.actor import Presence
from people.models import User
from people.operations.proposals import approve
from people.operations.users import register_user
from tests.sandbox_server import StripeSandbox
from tests.worlds.manual import finance, post_by_hand

SEEN = Presence(ip="192.0.2.7", mfa_age_seconds=60)
CENT = 10_000_000
PRICE = 5 * CENT
# The address of payees with a bank account in a country that wants one.
ADDRESS = Address("Recife", "BR", "Rua da Aurora", "12", "50050-000")
# The figures of a policy that a test does not name.
OTHER_FIGURES: dict[str, Any] = {
    "second_approval_minor": None,
    "bank_change_days": 3,
    "requires_tax_form": False,
    "probation_days": 0,
    "approval_limit_minor": None,
    "daily_approval_minor": None,
}
_numbers = itertools.count(1)

TERMS: dict[str, Any] = {
    "basis": "price",
    "price": PRICE,
    "take_ppb": PPB // 5,
    "floor_ppb": PPB // 5,
    "floor_rule": "general",
}


def evenly(n: int, subject: bytes = b"even") -> list[int]:
    """n parts of a billion, as equal as integers allow."""
    return apportion(PPB, [1] * n, [tie_key(subject, i) for i in range(n)])


@dataclass
class World:
    """`sandbox` None: no call goes to Stripe. The service and its audited index are made when a test asks for them."""

    at: datetime
    sandbox: StripeSandbox | None = None
    currency: str = "USD"
    contributors: list[Contributor] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    plan: RoyaltyPlan | None = None
    generations: list[Generation] = field(default_factory=list)

    def __post_init__(self) -> None:
        periods.open_periods(at=self.at)

    # --- generations and their attribution ------------------------------------------------------------------------
    @cached_property
    def service(self) -> ModelService:
        return ModelService.objects.create(name=f"service {next(_numbers)}", created_at=self.at)

    @cached_property
    def index(self) -> AttributionIndex:
        version = ModelVersion.objects.create(
            service=self.service,
            name="m1",
            adapter="causal_lm",
            factory="demo",
            purpose="train_generative",
            checkpoint_sha256=bytes(32),
            trained_at=self.at - timedelta(days=50),
            created_at=self.at,
        )
        return AttributionIndex.objects.create(
            model_version=version,
            config_sha256=bytes(32),
            sha256=bytes(32),
            state="audited",
            weight_ppb=PPB // 2,
            created_at=self.at,
            noise_z=2.0,
        )

    @property
    def staff(self) -> list[User]:
        """Two people: one proposes and the other decides; they act for no contributor."""
        return finance(self.at)

    @property
    def floor(self) -> AccountKey:
        """The base pool of the first plan."""
        assert self.plan is not None
        return AccountKey("floor_pool", "USD", f"plan:{self.plan.pk}")

    @property
    def holders(self) -> list[Holder]:
        return [Holder.objects.get(created_by=c, is_default=True) for c in self.contributors]

    def key(self, kind: str, place: int = 0, currency: str = "USD") -> AccountKey:
        return AccountKey(kind, currency, f"contributor:{self.contributors[place].pk}")

    def balance(self, kind: str, place: int = 0, currency: str = "USD") -> int:
        return journal.balance(self.key(kind, place, currency))

    def adopt(self, *, currency: str = "USD", effective_from: datetime | None = None, **terms: Any) -> RoyaltyPlan:
        """A plan proposed by one and approved by another."""
        plan = plans.propose_plan(
            by=self.staff[0],
            currency=currency,
            effective_from=effective_from or self.at - timedelta(days=30),
            at=self.at,
            terms={**TERMS, **terms},
        )
        return approve(plan, by=self.staff[1], at=self.at)

    def generate(
        self,
        n: int = 1,
        *,
        occurred_at: datetime | None = None,
        gross: int | None = None,
        currency: str = "USD",
    ) -> list[Generation]:
        """Report generations as the attribution app stores them."""
        occurred_at = occurred_at or self.at - timedelta(hours=1)
        made = [
            Generation(
                service=self.service,
                external_id=f"g{next(_numbers)}",
                model_version=self.index.model_version,
                output_text="text",
                output_sha256=hashlib.sha256(b"text").digest(),
                occurred_at=occurred_at,
                received_at=self.at,
                gross=gross,
                currency=currency,
                request_sha256=hashlib.sha256(b"request").digest(),
            )
            for _ in range(n)
        ]
        Generation.objects.bulk_create(made)
        self.generations += made
        return made

    def attribute(
        self,
        generations: Sequence[Generation],
        *,
        holders: Sequence[Holder] | None = None,
        shares: Sequence[int] | None = None,
        general: Sequence[int] | None = None,
        weight_ppb: int = PPB // 2,
        revision: int = 1,
        evidence: Mapping[str, Sequence[tuple[int, float]]] | None = None,
    ) -> list[Attribution]:
        """Attribute generations to holders: equal shares by default; the part missing to 10^9 is unattributed.

        `evidence`: the works behind each holder's share, (work id, score).
        """
        holders = self.holders if holders is None else holders
        shares = evenly(len(holders)) if shares is None else shares
        general = evenly(len(holders)) if general is None else general
        rows = Attribution.objects.bulk_create(
            Attribution(
                generation=generation,
                revision=revision,
                index=self.index,
                weight_ppb=weight_ppb,
                noise_z=2.0,
                holder_ids=[h.pk for h in holders],
                scores=[float(s) for s in shares],
                se=[0.0] * len(shares),
                shares_ppb=list(shares),
                unattributed_ppb=PPB - sum(shares),
                general_scores=[float(s) for s in general],
                general_se=[0.0] * len(general),
                general_ppb=list(general),
                general_unattributed_ppb=PPB - sum(general),
                top_works=dict(evidence or {}),
                prompt_tokens=0,
                scored_tokens=10,
                created_at=self.at,
            )
            for generation in generations
        )
        Generation.objects.filter(pk__in=[g.pk for g in generations], state="received").update(state="attributed")
        return rows

    def give_up(self, generations: Sequence[Generation], *, reason: str = "The output is empty.") -> list[Attribution]:
        """Store the result of a worker for generations that cannot be attributed."""
        holders = [holder.pk for holder in self.holders]
        taught = replace(
            NOBODY,
            holder_ids=tuple(holders),
            specific=[0.0] * len(holders),
            specific_se=[0.0] * len(holders),
            general=[1.0] * len(holders),
            general_se=[0.0] * len(holders),
        )
        general = GeneralShares(self.index)
        rows = Attribution.objects.bulk_create(
            to_base_pool(self.index, generation, taught, general, at=self.at) for generation in generations
        )
        Generation.objects.filter(pk__in=[g.pk for g in generations]).update(state="unattributable", error=reason)
        return rows

    def accrue_all(self) -> int:
        return sum(iter(lambda: accruals.accrue(at=self.at), 0))

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
        figures = {"minimum_minor": minimum_minor, "maturity_days": maturity_days, **OTHER_FIGURES, **terms}
        proposed = policies.propose_policy(
            currency=self.currency, figures=figures, reason="a test needs it", by=self.maker, at=self.at
        )
        approve(proposed, by=self.checker, at=self.at, seen=SEEN)

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


def build_world(at: datetime, *, contributors: int = 3, plan: bool = True) -> World:
    """People, one service with an audited index, open periods and, unless told otherwise, a plan at $0.05."""
    number = next(_numbers)
    users = [
        register_user(email=f"u{number}x{i}@example.org", password="correct horse", name=f"U{i}", at=at)
        for i in range(2)
    ]
    people = [
        register_contributor(
            user=users[0],
            kind="person",
            legal_name=f"Author {i}",
            display_name=f"Author {i}",
            country="US",
            at=at - timedelta(days=60),
        )
        for i in range(contributors)
    ]
    world = World(at, contributors=people, users=users)
    assert world.index.model_version.service == world.service
    if plan:
        world.plan = world.adopt()
    return world


def states(run: PayoutRun) -> list[str]:
    return list(run.payouts.order_by("contributor_id").values_list("state", flat=True))


def only(run: PayoutRun) -> Payout:
    return run.payouts.get()
