"""The demo: the whole job on real text, through the same operations, workers, web pages and API as in earnest.

Decides the story (the acts, their persons and their days) and nothing else. Every stage can be looked at afterwards:
the rows that it makes are ordinary rows. The model service is a process of its own (config/demo/service.py).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from rich.console import Console

from attribution.models import Attribution, AttributionIndex, Generation, ModelService, ModelVersion
from attribution.operations import indexes, manifests, model_services, model_versions
from config import books
from config.demo import corpus, people
from config.demo.painter import Painter
from config.demo.progress import Stages, UnableToDemonstrate, path_of, processor_seconds
from config.demo.reporting import Reported, start_service, watch_report
from config.engine.installation import Running
from contributors.models import Contributor, Work
from contributors.operations import consents
from contributors.operations import works as works_operations
from contributors.operations.people import register_contributor
from ledger.models import Accrual, Period
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
from people.operations.users import enrol_totp, register_user

MODEL_NAME = "sotu-1"
GENERATIONS = 2000
TEXTS_PER_DRAWING = 5
PRICE = "0.05"
CURRENCY = "USD"
WAIT_SECONDS_MAX = 900.0
AUDIT_SEED = 2026
CORES = max(2, len(os.sched_getaffinity(0)))
CORES_BESIDE = CORES // 2
"""For the work beside the stages."""


@dataclass(frozen=True)
class Calendar:
    """The demo's dates. Everything takes place around the last calendar month.

    A generation may be reported up to 35 days late, so that of a long month only the last days can be reported now.
    """

    now: datetime

    @property
    def month_start(self) -> datetime:
        return (self.month_end - timedelta(days=1)).replace(day=1)

    @property
    def month_end(self) -> datetime:
        return self.now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    @property
    def reported_since(self) -> datetime:
        return max(self.month_start, self.now - timedelta(days=34))

    @property
    def registered_at(self) -> datetime:
        return self.month_start - timedelta(days=60)

    @property
    def trained_at(self) -> datetime:
        return self.month_start - timedelta(days=10)


@dataclass
class Demo:
    """One run of the demo: its stages in order, each a method named after its act."""

    running: Running
    console: Console
    calendar: Calendar
    generations: int = GENERATIONS
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stages = Stages(self.console, path_of(settings.TRIBUTARY_DATA))
        self.logins = people.logins(settings.TRIBUTARY_DATA / "demo" / "logins.json")
        self.painter = Painter(self.stages, max(self.generations // TEXTS_PER_DRAWING, 1))

    # --- the story ------------------------------------------------------------------------------------------------
    def run(self, *, opened: Callable[[], None]) -> dict[str, Any]:
        """Every stage once, on an empty database. Returns the figures, which the database can confirm.

        `opened` is called when people, works, consent and the empty month are there. Raises UnableToDemonstrate.

        Two things go on beside the stages: the coalitions of the evaluations are retrained from the moment when the
        works are there, and the model services sample while an index is built. Neither changes a result.
        """
        started = time.monotonic()
        # The numerical libraries read this when torch is first loaded, below: one process a core, one thread each.
        os.environ.setdefault("OMP_NUM_THREADS", str(CORES - CORES_BESIDE))
        self.register_people()
        works = self.register_works()
        self.painter.register_works(at=self.calendar.registered_at)
        writing, drawing = self.adopt_plan()
        opened()
        with self.painter.retrain_coalitions(processes=CORES_BESIDE):
            drawn = self.painter.build_index(drawing, at=self.calendar.trained_at)
            with self.retrain_coalitions(works):
                reporting = self.write(writing, drawing, drawn, works)
        self.wait_for_attribution()
        self.wait_for_accrual()
        # From the first sampled token to the last posted entry; sampling went on beside other stages.
        sampled = self.figures["service_sampled"]["seconds"] + self.figures["drawing_sampled"]["seconds"]
        self.figures["generations_per_second"] = round(self.total / (sampled + time.monotonic() - reporting), 1)
        self.withdraw_consent()
        self.close_month()
        self.onboard_contributors()
        run = self.build_and_approve_run()
        self.execute_run(run)
        self.settle_and_reconcile(run)
        self.check_books()
        self.figures["seconds"] = {**self.stages.seconds, "total": round(time.monotonic() - started, 2)}
        used = round(processor_seconds(), 2)
        self.figures["processor_seconds"] = {**self.stages.processor_seconds, "total": used}
        return self.figures

    def write(
        self,
        writing: ModelService,
        drawing: ModelService,
        drawn: AttributionIndex,
        works: dict[corpus.Address, Work],
    ) -> float:
        """Train, index and evaluate the model that writes, evaluate the one that draws, and let both services report.

        Returns the moment at which the reports began.
        """
        directory = self.train_model(works)
        version = self.register_model(writing, directory, works)
        since, until = self.calendar.reported_since, self.calendar.month_end
        with (
            self.model_service(writing, directory) as reporter,
            self.painter.reports(drawing, url=self.running.url, since=since, until=until),
        ):
            index = self.build_index(version)
            self.painter.audit_index(drawn, processes=CORES - CORES_BESIDE, at=self.calendar.trained_at)
            self.audit_index(index)
            reporting = time.monotonic()
            self.report_generations(reporter)
        return reporting

    @property
    def total(self) -> int:
        """The number of generations of both services."""
        return self.generations + self.painter.count

    # --- people, works --------------------------------------------------------------------------------------------
    def _user(self, person: people.Person) -> User:
        """A user with an address that is known to be theirs; for staff, with a second factor."""
        login = self.logins[person.email]
        user = register_user(
            email=person.email,
            password=login.password,
            name=person.name,
            roles=person.roles,
            at=self.calendar.registered_at,
        )
        if person.roles:
            enrol_totp(user=user, secret=login.totp_secret)
        return user

    def _staff(self, role: str) -> User:
        return User.objects.get(groups__name=role)

    @transaction.atomic
    def register_people(self) -> None:
        with self.stages.stage("people"):
            for person in people.STAFF:
                self._user(person)
            for person in people.CONTRIBUTORS:
                register_contributor(
                    user=self._user(person),
                    kind=Contributor.Kind.PERSON,
                    legal_name=person.name,
                    display_name=person.name,
                    country="US",
                    at=self.calendar.registered_at,
                )

    def register_works(self) -> dict[corpus.Address, Work]:
        """Each address is a work of its author; each author allows training, from the day of registration on."""
        at = self.calendar.registered_at
        addresses = corpus.plant_copies(corpus.read_addresses())
        registered: dict[corpus.Address, Work] = {}
        with self.stages.stage("works") as advance:
            for person in people.AUTHORS:
                user = User.objects.get(email=person.email)
                contributor = user.contributors.get()
                own = [address for address in addresses if address.author.name == person.name]
                dataset = works_operations.register_dataset(
                    contributor=contributor,
                    name="Annual messages to Congress",
                    description="Public domain text from the package `sotu`.",
                    licence="CC0-1.0",
                    at=at,
                )
                works = works_operations.register_works(
                    dataset=dataset,
                    works=[
                        works_operations.NewWork(
                            title=address.title,
                            modality=Work.Modality.TEXT,
                            content=address.content.encode(),
                            published_on=address.date,
                        )
                        for address in own
                    ],
                    at=at,
                )
                registered |= dict(zip(own, works, strict=True))
                consents.grant_consent(
                    contributor=contributor, scope="train_generative", valid_from=at, by=user, source="portal", at=at
                )
                advance(len(registered), len(addresses))
        return registered

    def withdraw_consent(self) -> None:
        """One author withdraws after the fact: no new model may use the works; this one carries a status."""
        user = User.objects.get(name=people.WITHDRAWN)
        consents.withdraw_consent(
            contributor=user.contributors.get(),
            scope="train_generative",
            valid_from=self.calendar.now,
            by=user,
            at=self.calendar.now,
        )

    # --- the model ------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def retrain_coalitions(self, works: dict[corpus.Address, Work]) -> Iterator[None]:
        """Retrain the coalitions of the evaluation while the block runs, on the cores that the stages leave free."""
        from config.demo import model
        from influence.evaluation import lds
        from influence.scorers import IndexItem

        addresses = list(works)
        tokeniser = model.Tokeniser.train(address.body for address in addresses)
        cut = corpus.cut_works(addresses, encode=tokeniser.encode)
        held = [works[addresses[item.work]] for item in cut.items]
        items = [
            IndexItem(example, work.pk, work.holder_id)
            for example, work in zip(model.examples(tokeniser, addresses, cut.items), held, strict=True)
        ]
        with (
            lds.retrain_ahead(
                model.retraining(), items, cache=self._retrained, processes=CORES_BESIDE, seed=AUDIT_SEED
            ) as running,
            self.stages.beside("retrain", lambda: (running.done(), running.total)),
        ):
            yield

    @property
    def _retrained(self) -> Path:
        # Beside the model, and not below the model version that is yet to be registered: an interrupted demo begins
        # anew with both.
        return Path(settings.TRIBUTARY_DATA) / "demo" / "retrained"

    def train_model(self, works: dict[corpus.Address, Work]) -> Path:
        """Train once and keep the checkpoint: an interrupted demo need not train again."""
        from config.demo import model

        directory: Path = settings.TRIBUTARY_DATA / "demo" / "model"
        complete = directory.with_suffix(".complete")
        with self.stages.stage("train") as advance:
            if complete.exists():
                return directory
            addresses = list(works)
            tokeniser = model.Tokeniser.train(address.body for address in addresses)
            cut = corpus.cut_works(addresses, encode=tokeniser.encode)
            model.train(
                directory,
                items=model.examples(tokeniser, addresses, cut.items),
                held_out=model.examples(tokeniser, addresses, cut.held_out),
                tokeniser=tokeniser,
                progress=lambda _stage, done, total: advance(done, total),
            )
            complete.touch()
        return directory

    def register_model(self, service: ModelService, directory: Path, works: dict[corpus.Address, Work]) -> ModelVersion:
        """The service registers its model with the manifest: exactly the items that it was trained on."""
        from config.demo import model

        with self.stages.stage("manifest"):
            at = self.calendar.trained_at
            version = model_versions.register_model_version(
                service=service,
                name=MODEL_NAME,
                adapter="causal_lm",
                factory="demo",
                purpose="train_generative",
                directory=directory,
                trained_at=at,
                at=at,
            )
            addresses = list(works)
            tokeniser = model.load(directory).tokeniser
            cut = corpus.cut_works(addresses, encode=tokeniser.encode)
            manifests.register_manifest(
                model_version=version,
                items=[
                    manifests.NewItem(
                        work_id=works[addresses[item.work]].pk,
                        ordinal=ordinal,
                        token_start=item.token_start,
                        token_end=item.token_end,
                    )
                    for ordinal, item in enumerate(cut.items)
                ],
                at=at,
            )
        return version

    def build_index(self, version: ModelVersion) -> AttributionIndex:
        with self.stages.stage("index") as advance:
            return indexes.build_index(
                model_version=version,
                # Damping and checkpoints were chosen on the coalitions of seed 0: the audit draws others.
                config={"seed": AUDIT_SEED},
                at=self.calendar.trained_at,
                progress=lambda _stage, done, total: advance(done, total),
            )

    def audit_index(self, index: AttributionIndex) -> None:
        with self.stages.stage("audit") as advance:
            audited = indexes.audit_index(
                index=index,
                at=self.calendar.trained_at,
                # One more training with noise and a copier in it: `manage.py audit_index` has the time for it.
                controls=False,
                processes=CORES - CORES_BESIDE,
                cache=self._retrained,
                progress=lambda _stage, done, total: advance(done, total),
            )
        self.figures["audit"] = {"weight_ppb": audited.weight_ppb, **(audited.audit or {})}

    # --- generations ----------------------------------------------------------------------------------------------
    def adopt_plan(self) -> tuple[ModelService, ModelService]:
        """The plan of the demo: a price a generation, a fifth to the platform; both services pay in advance."""
        at = self.calendar.month_start
        maker, checker = self._staff("finance_maker"), self._staff("finance_checker")
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
            for number, (service, count) in enumerate(((writing, self.generations), (drawing, self.painter.count)), 1):
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

    def model_service(
        self, service: ModelService, directory: Path
    ) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        since, until = self.calendar.reported_since, self.calendar.month_end
        wanted = Reported("text", MODEL_NAME, directory, self.generations, since, until)
        return start_service(service, wanted, url=self.running.url)

    def report_generations(self, process: subprocess.Popen[str]) -> None:
        """Let both model services report, one after the other, and watch them."""
        with self.stages.stage("report") as advance:
            said = watch_report(process, advance)
        self.figures |= {f"service_{name}": each for name, each in said.items()}
        self.painter.report()
        self.figures |= self.painter.figures
        self.figures["generations_reported"] = Generation.objects.count()

    def wait_for_attribution(self) -> None:
        with self.stages.stage("attribute") as advance:
            self._wait(lambda: Generation.objects.exclude(state=Generation.State.RECEIVED).count(), self.total, advance)
        self.figures["generations_attributed"] = Attribution.objects.count()

    def _wait(self, count: Callable[[], int], total: int, advance: Callable[[int, int], None]) -> None:
        """Until the workers have done `total`; the sweeps on the beat guarantee that they will."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while (done := count()) < total:
            if time.monotonic() > deadline:
                raise UnableToDemonstrate(
                    f"Only {done} of {total} after {WAIT_SECONDS_MAX:.0f} s; see {settings.TRIBUTARY_DATA / 'logs'}."
                )
            advance(done, total)
            time.sleep(0.2)
        advance(total, total)

    def wait_for_accrual(self) -> None:
        total = Attribution.objects.count()
        with self.stages.stage("accrue") as advance:
            self._wait(lambda: Accrual.objects.count(), total, advance)
        self.figures["generations_accrued"] = Accrual.objects.count()

    # --- the month, the money -------------------------------------------------------------------------------------
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
            willing = [person for person in people.CONTRIBUTORS if person.name != people.NOT_ONBOARDED]
            for done, person in enumerate(willing, 1):
                user = User.objects.get(email=person.email)
                account = accounts.open_payout_account(contributor=user.contributors.get(), by=user, at=timezone.now())
                complete_onboarding(accounts.onboarding_link(account=account, by=user, at=timezone.now()))
                accounts.sync_account(account=account, at=timezone.now())
                advance(done, len(willing))

    def build_and_approve_run(self) -> PayoutRun:
        """One person builds, another approves the frozen run; the balance at Stripe is topped up beforehand."""
        maker, checker = self._staff("finance_maker"), self._staff("finance_checker")
        # The demo's people have just shown their second factor; the audit log says that it was the demo.
        seen = Presence(mfa_age_seconds=0, request_id="demo")
        with self.stages.stage("approve"):
            figures = terms_in_force(CURRENCY).figures
            proposed = policies.propose_policy(
                currency=CURRENCY,
                figures={**figures, "minimum_minor": THRESHOLD_MINOR, "maturity_days": 0, "bank_change_days": 0},
                reason="The demo pays small sums at once",
                by=maker,
                at=timezone.now(),
                seen=seen,
            )
            approve(proposed, by=checker, at=timezone.now(), seen=seen)
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
            approval.start_execution(run=run, by=self._staff("finance_maker"), at=timezone.now(), seen=seen)
            sent = [Payout.State.TRANSFERRED, Payout.State.SETTLED]
            self._wait(lambda: run.payouts.filter(state__in=sent).count(), run.n_payouts, advance)

    def settle_and_reconcile(self, run: PayoutRun) -> None:
        """Days pass at the sandbox: the money reaches the banks, webhooks say so, every figure is matched."""
        with self.stages.stage("settle") as advance:
            for _ in range(3):
                _pass_a_day()
            settled = Payout.State.SETTLED
            self._wait(lambda: run.payouts.filter(state=settled).count(), run.n_payouts, advance)
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
