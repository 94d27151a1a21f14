"""A small publishing programme for tests of pages, receipts and statements.

Authors with works and consent, two services, models trained on the works, an audited index, generations attributed
from scores through the real share arithmetic, accrued, closed, paid and sealed. Everything but the gradients comes
from operations; scores are drawn from a seed.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from allauth.mfa.models import Authenticator
from django.test import Client
from django.utils.timezone import now

from attribution.models import Attribution, AttributionIndex, Generation, ModelService, ModelVersion
from attribution.operations import manifests, model_services, model_versions, reports
from attribution.queries.generations import Group, general_key
from contributors.models import PPB, Contributor, Holder, Work
from contributors.operations import consents, people
from contributors.operations.works import NewWork, register_dataset, register_works
from influence.adapters.pushed import write_features
from influence.shares import apportion_scores
from ledger.models import Period, RoyaltyPlan
from ledger.operations import accruals, closing, payouts, periods, plans, sealing
from people.models import User
from people.operations import users
from people.operations.proposals import approve
from tests.worlds.world import TERMS

OCTOBER, NOVEMBER = 202610, 202611
REGISTERED = datetime(2026, 8, 1, tzinfo=UTC)
TRAINED = datetime(2026, 8, 20, tzinfo=UTC)
ISSUED = datetime(2026, 9, 25, tzinfo=UTC)
AT = datetime(2026, 11, 3, 9, 0, tzinfo=UTC)
OUTPUT = " and House of Representatives, the state of the Union is peace."
TOTP_SECRET = "JBSWY3DPEHPK3PXP"
PASSWORD = "a long enough phrase"
SE, GENERAL, GENERAL_SE = 0.0625, [3.0, 2.0, 1.0], 0.1
AUDIT: dict[str, Any] = {
    "passed": True,
    "lds_low": 0.31,
    "weight_ppb": 577_777_777,
    "coalitions": 16,
    "seed": 0,
    "own_generations": {"specific": {"lds": 0.44, "low": 0.31, "high": 0.56}, "pro_rata": {"lds": -0.01}},
}
AUTHORS = (
    ("Abraham Lincoln", ("First Annual Message", "Second Annual Message", "Fourth Annual Message")),
    ("Ulysses S. Grant", ("Annual Message 1869", "Annual Message 1870")),
    ("Łucja Żółć", ("=SUM(A1:A9) and other poems",)),
)
SENTENCES = (
    "It has pleased Almighty God to bless us with the return of peace and with abundant harvests.",
    "Our foreign relations are in a condition which demands the calm attention of the nation.",
    "The report of the Secretary of the Treasury exhibits the receipts and the expenditures of the year.",
    "Labor is prior to and independent of capital, and deserves much the higher consideration.",
    "The public debt has been reduced, and the credit of the Government stands unimpaired.",
    "Let us then, with firm reliance upon each other, go forward without fear and with manly hearts.",
)
_numbers = itertools.count(1)


@dataclass
class Programme:
    """The participants, the services' models with their indexes, and the keys with which the services report.

    `build_programme` makes one with attributions drawn from a seed. `tests.worlds.trained` makes one with a real
    model, a single service and no plan.
    """

    contributors: list[Contributor]
    members: list[User]
    works: list[Work]
    services: list[ModelService]
    keys: list[str]
    versions: list[ModelVersion]
    indexes: list[AttributionIndex] = field(default_factory=list)
    plan: RoyaltyPlan | None = None
    staff: dict[str, User] = field(default_factory=dict)
    random: random.Random = field(default_factory=lambda: random.Random(7))
    generations: list[Generation] = field(default_factory=list)
    at: datetime = AT
    api: Client = field(default_factory=lambda: Client(headers={"Host": "127.0.0.1"}))

    @property
    def user(self) -> User:
        """The first member."""
        return self.members[0]

    @property
    def service(self) -> ModelService:
        """The first service."""
        return self.services[0]

    @property
    def key(self) -> str:
        """The key of the first service."""
        return self.keys[0]

    @property
    def model_version(self) -> ModelVersion:
        """The first model version."""
        return self.versions[0]

    @property
    def index(self) -> AttributionIndex | None:
        """The first index, where one was built."""
        return self.indexes[0] if self.indexes else None

    def works_of(self, place: int) -> list[Work]:
        """The works of one contributor, in the order of their registration."""
        return [work for work in self.works if work.dataset.contributor_id == self.contributors[place].pk]

    @property
    def holders(self) -> list[Holder]:
        return [Holder.objects.get(created_by=c, is_default=True) for c in self.contributors]

    def client(self, place: int) -> Client:
        """A browser in which the member of a contributor is logged in."""
        client = Client(headers={"Host": "127.0.0.1"})
        client.force_login(self.members[place], backend="allauth.account.auth_backends.AuthenticationBackend")
        return client

    def generate(
        self,
        n: int,
        *,
        first: datetime = datetime(2026, 10, 2, 8, tzinfo=UTC),
        every: timedelta = timedelta(hours=3),
        version: int = 0,
        gross: tuple[str, str] | None = None,
    ) -> list[Generation]:
        """Report generations through the operation that the API calls."""
        rows = [
            {
                "external_id": f"g-{next(_numbers)}",
                "model_version": self.versions[version].name,
                "occurred_at": (first + every * i).isoformat(),
                "prompt": {"text": "Fellow citizens"},
                "output": {"text": " ".join(self.random.sample(SENTENCES, 2))},
                **({"gross": {"amount": gross[0], "currency": gross[1]}} if gross else {}),
            }
            for i in range(n)
        ]
        results = reports.report_generations(service=self.services[version], generations=rows, at=AT)
        assert [result.status for result in results] == [201] * n
        made = {str(g.pk): g for g in Generation.objects.filter(pk__in=[result.id for result in results])}
        found = [made[result.id] for result in results if result.id]
        self.generations += found
        return found

    def attribute(
        self,
        generations: Sequence[Generation],
        *,
        scores: Sequence[float] | None = None,
        revision: int = 1,
        weight_ppb: int | None = None,
        as_one: Sequence[int] = (),
    ) -> list[Attribution]:
        """Store the results of an attribution worker: scores, their errors, the shares made of them, and the evidence.

        `as_one`: the places of authors with linked accounts.
        """
        holders = self.holders
        rows = []
        for generation in generations:
            version = next(i for i, v in enumerate(self.versions) if v.pk == generation.model_version_id)
            drawn = [self.random.gauss(0.4, 0.5) for _ in holders] if scores is None else list(scores)
            linked = [_group(holders, drawn, as_one)] if as_one else []
            rows.append(
                self._attribution(generation, self.indexes[version], holders, drawn, revision, weight_ppb, linked)
            )
        Attribution.objects.bulk_create(rows)
        Generation.objects.filter(pk__in=[g.pk for g in generations], state="received").update(state="attributed")
        return rows

    def _attribution(
        self,
        generation: Generation,
        index: AttributionIndex,
        holders: Sequence[Holder],
        scores: Sequence[float],
        revision: int,
        weight_ppb: int | None,
        groups: Sequence[Group],
    ) -> Attribution:
        ids = [holder.pk for holder in holders]
        se, general, general_se = [SE] * len(ids), GENERAL[: len(ids)], [GENERAL_SE] * len(ids)
        specific = apportion_scores(
            holder_ids=ids,
            scores=scores,
            standard_errors=se,
            noise_z=2.0,
            key=str(generation.pk),
            groups=[group.specific for group in groups],
        )
        taught = apportion_scores(
            holder_ids=ids,
            scores=general,
            standard_errors=general_se,
            noise_z=2.0,
            key=general_key(index),
            groups=[group.general for group in groups],
        )
        evidence = {
            str(holder.pk): [
                [work.pk, round(score / (place + 1), 9)] for place, work in enumerate(self.works_of(holder_place))
            ]
            for holder_place, (holder, score, ppb) in enumerate(zip(holders, scores, specific.ppb, strict=True))
            if ppb
        }
        return Attribution(
            generation=generation,
            revision=revision,
            index=index,
            weight_ppb=index.weight_ppb if weight_ppb is None else weight_ppb,
            noise_z=2.0,
            holder_ids=ids,
            scores=list(scores),
            se=se,
            shares_ppb=list(specific.ppb),
            unattributed_ppb=specific.unattributed_ppb,
            general_scores=general,
            general_se=general_se,
            general_ppb=list(taught.ppb),
            general_unattributed_ppb=taught.unattributed_ppb,
            groups=[group.to_json() for group in groups],
            top_works=evidence,
            prompt_tokens=2,
            scored_tokens=40,
            created_at=AT,
        )

    def generation(self, external_id: str = "g1", **changes: Any) -> dict[str, Any]:
        """A well-formed generation, as a service would report it."""
        body: dict[str, Any] = {
            "external_id": external_id,
            "model_version": self.model_version.name,
            "occurred_at": (self.at - timedelta(hours=1)).isoformat(),
            "prompt": {"text": "Fellow citizens of the Senate"},
            "output": {"text": OUTPUT},
        }
        return {**body, **changes}

    def recent(self, external_id: str, **changes: Any) -> dict[str, Any]:
        """A generation of a minute ago by the real clock, for processes that read it."""
        moment = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        return self.generation(external_id, occurred_at=moment, **changes)

    def report(self, *generations: Any) -> list[reports.ReportResult]:
        return reports.report_generations(service=self.service, generations=generations, at=self.at)

    def post(self, body: Any, *, key: str | None = None) -> Any:
        """The same through the API; `body` is sent as JSON unless it is bytes already."""
        return self.api.post(
            "/api/v1/generations",
            body,
            content_type="application/json",
            headers={"Authorization": f"Bearer {self.key if key is None else key}"},
        )

    def accrue(self, *, at: datetime = AT) -> int:
        return sum(iter(lambda: accruals.accrue(at=at), 0))

    def close(self, period: int = OCTOBER, *, at: datetime = AT, seal: bool = False) -> Period:
        for number in Period.objects.filter(pk__lte=period).order_by("id").values_list("id", flat=True):
            closed = closing.close_period(period=number, at=at)
            if seal:
                closed = sealing.seal_period(period=number, at=at)
        return closed

    def pay(self, place: int, gross: int, *, tax: int = 0, at: datetime = AT, ends: str = "paid") -> tuple[int, str]:
        """A payout that is paid, refused or still in transit; returns its reserve entry and its key."""
        key = f"payout-{next(_numbers)}"
        entry = payouts.reserve_payout(
            contributor_id=self.contributors[place].pk,
            currency="USD",
            gross=gross,
            tax=tax,
            rail="stripe",
            attempt_key=key,
            at=at,
        )
        if ends == "paid":
            payouts.succeed_payout(reserve_entry=entry, attempt_key=key, currency="USD", net=gross - tax, at=at)
        elif ends == "refused":
            payouts.refuse_payout(reserve_entry=entry, attempt_key=key, at=at)
        return entry, key

    def staff_client(self, role: str) -> Client:
        """A browser in which a member of staff has just used the second factor."""
        client = Client(headers={"Host": "127.0.0.1"})
        user = self.staff[role]
        client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
        session = client.session
        factor = Authenticator.objects.get(user=user)
        session["account_authentication_methods_user"] = str(user.pk)
        session["account_authentication_methods"] = [
            {"method": "mfa", "at": now().timestamp(), "id": factor.pk, "type": str(factor.type)}
        ]
        session.save()
        return client


def _group(holders: Sequence[Holder], scores: Sequence[float], places: Sequence[int]) -> Group:
    return Group(
        holder_ids=tuple(holders[place].pk for place in places),
        score=sum(scores[place] for place in places),
        se=SE,
        general_score=sum(GENERAL[place] for place in places),
        general_se=GENERAL_SE,
    )


def build_programme(directory: Path, *, seed: int = 7, price: int = 50_000_000) -> Programme:
    members, contributors, works = [], [], []
    drawn = random.Random(seed)
    for place, (name, titles) in enumerate(AUTHORS):
        user = users.register_user(email=f"author{place}@example.org", password=PASSWORD, name=name, at=REGISTERED)
        contributor = people.register_contributor(
            user=user, kind="person", legal_name=f"{name} Estate", display_name=name, country="US", at=REGISTERED
        )
        dataset = register_dataset(
            contributor=contributor, name="Messages", description="", licence="public domain", at=REGISTERED
        )
        works += register_works(dataset=dataset, works=_new_works(name, titles, drawn), at=REGISTERED)
        consents.grant_consent(
            contributor=contributor,
            scope="train_generative",
            valid_from=REGISTERED,
            by=user,
            source="portal",
            at=REGISTERED,
        )
        members.append(user)
        contributors.append(contributor)
    staff = {
        role: users.register_user(
            email=f"{role}@example.org", password=PASSWORD, name=role, roles=[role], at=REGISTERED
        )
        for role in ("finance_maker", "finance_checker", "auditor", "compliance")
    }
    for user in staff.values():
        users.enrol_totp(user=user, secret=TOTP_SECRET)
    periods.open_periods(at=datetime(2026, 10, 5, tzinfo=UTC))
    periods.open_periods(at=AT)
    services, keys, versions, indexes = [], [], [], []
    for place, name in enumerate(("Gutenberg Press", "Orator Labs")):
        service = model_services.register_service(name=name, at=ISSUED)
        services.append(service)
        keys.append(model_services.issue_key(service=service, scopes=["generations:read"], at=now())[1])
        versions.append(_version(service, f"press-{place + 1}", directory, works))
        indexes.append(_index(versions[-1]))
    plan = plans.propose_plan(
        by=staff["finance_maker"], currency="USD", effective_from=ISSUED, at=ISSUED, terms={**TERMS, "price": price}
    )
    plan = approve(plan, by=staff["finance_checker"], at=ISSUED)
    return Programme(contributors, members, works, services, keys, versions, indexes, plan, staff, random.Random(seed))


def _new_works(name: str, titles: Sequence[str], drawn: random.Random) -> list[NewWork]:
    return [
        NewWork(
            title,
            Work.Modality.TEXT,
            f"{title}\nBy {name}\n\n{' '.join(drawn.choices(SENTENCES, k=40))} {title}.".encode(),
            date(1861 + place, 12, 3),
        )
        for place, title in enumerate(titles)
    ]


def _version(service: ModelService, name: str, directory: Path, works: Sequence[Work]) -> ModelVersion:
    files = directory / name
    write_features(files, items=np.full((len(works), 2), len(name)), mean_query=None, measures="influence")
    version = model_versions.register_model_version(
        service=service,
        name=name,
        adapter="pushed",
        factory="pushed",
        purpose="train_generative",
        directory=files,
        trained_at=TRAINED,
        at=ISSUED,
    )
    items = [manifests.NewItem(work.pk, place, 0, 64) for place, work in enumerate(works)]
    manifests.register_manifest(model_version=version, items=items, at=ISSUED)
    version.refresh_from_db()
    return version


def _index(version: ModelVersion) -> AttributionIndex:
    digest = hashlib.sha256(version.name.encode()).digest()
    return AttributionIndex.objects.create(
        model_version=version, method="midpoint", config_sha256=digest, sha256=digest, state="audited", audit=AUDIT,
        weight_ppb=PPB // 2, noise_z=2.0, serving=True, created_at=ISSUED, audited_at=ISSUED,
    )  # fmt: skip
