"""The demo: the whole job on real works, through the same operations, workers, web pages and API as in earnest.

Decides the story (the acts, their persons and their days) and nothing else. Every stage can be looked at afterwards:
the rows that it makes are ordinary rows. The model services are processes of their own (config/demo/service.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import transaction
from rich.console import Console

from attribution.models import Attribution, AttributionIndex, Generation, ModelService
from config.demo import people
from config.demo.dates import Calendar
from config.demo.month import Month
from config.demo.painter import Painter
from config.demo.progress import Stages, path_of, processor_seconds
from config.demo.writer import Writer
from config.engine.installation import Running
from contributors.models import Contributor
from contributors.operations import consents
from contributors.operations.people import register_contributor
from ledger.models import Accrual
from people.models import User
from people.operations.users import enrol_totp, register_user

GENERATIONS = 2000
TEXTS_PER_DRAWING = 5
CORES = max(2, len(os.sched_getaffinity(0)))
CORES_BESIDE = CORES // 2
"""For the work beside the stages."""


@dataclass
class Demo:
    """One run of the demo: its stages in order, each a method named after its act."""

    running: Running
    console: Console
    calendar: Calendar
    generations: int = GENERATIONS
    """Of the service that writes. The one that draws makes a fifth as many."""
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stages = Stages(self.console, path_of(settings.TRIBUTARY_DATA))
        self.logins = people.logins(settings.TRIBUTARY_DATA / "demo" / "logins.json")
        self.writer = Writer(self.stages, self.generations)
        self.painter = Painter(self.stages, max(self.generations // TEXTS_PER_DRAWING, 1))
        self.month = Month(self.stages, self.calendar)

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
        self.writer.register_works(at=self.calendar.registered_at)
        self.painter.register_works(at=self.calendar.registered_at)
        writing, drawing = self.month.adopt_plan(texts=self.writer.count, drawings=self.painter.count)
        opened()
        with self.painter.retrain_coalitions(processes=CORES_BESIDE):
            self.painter.train()
            drawn_by = self.painter.register(drawing, at=self.calendar.trained_at)
            drawn = self.painter.build_index(drawn_by, at=self.calendar.trained_at)
            with self.writer.retrain_coalitions(processes=CORES_BESIDE):
                reporting = self.write(writing, drawing, drawn)
        self.wait_for_attribution()
        self.wait_for_accrual()
        self.figures |= {**self.writer.figures, **self.painter.figures}
        # From the first sampled token to the last posted entry; sampling went on beside other stages.
        sampled = self.figures["service_sampled"]["seconds"] + self.figures["drawing_sampled"]["seconds"]
        self.figures["generations_per_second"] = round(self.total / (sampled + time.monotonic() - reporting), 1)
        self.withdraw_consent()
        self.month.close_month()
        self.month.onboard_contributors()
        run = self.month.build_and_approve_run()
        self.month.execute_run(run)
        self.month.settle_and_reconcile(run)
        self.month.check_books()
        self.figures |= self.month.figures
        self.figures["seconds"] = {**self.stages.seconds, "total": round(time.monotonic() - started, 2)}
        used = round(processor_seconds(), 2)
        self.figures["processor_seconds"] = {**self.stages.processor_seconds, "total": used}
        return self.figures

    def write(self, writing: ModelService, drawing: ModelService, drawn: AttributionIndex) -> float:
        """Train, index and evaluate the model that writes, evaluate the one that draws, and let both services report.

        Returns the moment at which the reports began.
        """
        at, cores = self.calendar.trained_at, CORES - CORES_BESIDE
        self.writer.train()
        version = self.writer.register(writing, at=at)
        since, until = self.calendar.reported_since, self.calendar.month_end
        with (
            self.writer.reports(writing, url=self.running.url, since=since, until=until),
            self.painter.reports(drawing, url=self.running.url, since=since, until=until),
        ):
            index = self.writer.build_index(version, at=at)
            self.painter.audit_index(drawn, processes=cores, at=at)
            self.writer.audit_index(index, processes=cores, at=at)
            reporting = time.monotonic()
            self.writer.report()
            self.painter.report()
        self.figures["generations_reported"] = Generation.objects.count()
        return reporting

    @property
    def total(self) -> int:
        """The number of generations of both services."""
        return self.writer.count + self.painter.count

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

    def wait_for_attribution(self) -> None:
        with self.stages.stage("attribute") as advance:
            self.stages.wait(
                lambda: Generation.objects.exclude(state=Generation.State.RECEIVED).count(), self.total, advance
            )
        self.figures["generations_attributed"] = Attribution.objects.count()

    def wait_for_accrual(self) -> None:
        total = Attribution.objects.count()
        with self.stages.stage("accrue") as advance:
            self.stages.wait(lambda: Accrual.objects.count(), total, advance)
        self.figures["generations_accrued"] = Accrual.objects.count()
