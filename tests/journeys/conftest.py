"""A whole installation for the browser: every program as `manage.py up` runs it, on a database of its own. It has a
small real model, a month of generations and people with log-ins."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from pytest_django import DjangoDbBlocker

from attribution.models import Generation
from attribution.operations import attributions, indexes
from config import settings as product
from config.demo import dates, month
from config.engine import servers
from config.engine.installation import Running, installation
from contributors.operations import people
from ledger.models import Accrual, Period
from ledger.money import PPB, parse_amount
from ledger.operations import accruals, closing, periods, plans, sealing
from ledger.operations.verbs import post_verb
from payouts.operations import accounts, funding, policies
from payouts.queries.policies import terms_in_force
from people import actor
from people.models import User
from people.operations import users
from people.operations.proposals import approve
from tests.databases import cloned_database
from tests.worlds.people import totp_code
from tests.worlds.programme import Programme
from tests.worlds.trained import Trained, start_programme

PASSWORD = "a journey of a thousand miles"
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
GENERATIONS = 60
# So small a model is noisy: here a share counts as soon as it is positive.
INDEX = {"coordinates": 512, "k": 32, "fit_items": 100, "pca_items": 300, "own_generations": 64, "noise_z": 0.0}
ITEM_TOKENS = 48
CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
# `make screenshots` keeps the pictures that the README shows.
SCREENSHOTS = os.environ.get("TRIBUTARY_SCREENSHOTS")


@dataclass
class Site:
    """A running installation and its participants."""

    running: Running
    database: str
    data: Path
    programme: Programme
    contributor: User
    maker: User
    checker: User
    month: str

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def secret_key(self) -> str:
        """The key that the installation signs with: this process has another."""
        return (self.data / "secret_key").read_text()


def _staff(name: str, role: str) -> User:
    user = users.register_user(
        email=f"{name.lower()}@finance.example", password=PASSWORD, name=name, roles=(role,), at=timezone.now()
    )
    users.enrol_totp(user=user, secret=TOTP_SECRET)
    return user


def _own_generations(programme: Programme, trained: Trained, at: datetime) -> list[dict[str, Any]]:
    from config.demo import model, service

    loaded = model.load(trained.directory)
    assert loaded.sample is not None
    return [
        service.as_reported(
            example, number=number, name=programme.model_version.name, occurred_at=at, tokeniser=loaded.tokeniser
        )
        for number, example in enumerate(loaded.sample(GENERATIONS, 3), 1)
    ]


def _earn_a_month(programme: Programme, trained: Trained, calendar: dates.Calendar, maker: User, checker: User) -> None:
    """Report, attribute, accrue and close last month, by the same operations as in earnest."""
    periods.open_periods(at=calendar.now)
    plan = plans.propose_plan(
        by=maker,
        currency="USD",
        effective_from=calendar.month_start,
        at=calendar.month_start,
        terms={"basis": "price", "price": parse_amount("2.00", "USD"), "take_ppb": PPB // 5, "floor_ppb": PPB // 5},
    )
    approve(plan, by=checker, at=calendar.month_start)
    post_verb(verb="capital", amount=parse_amount("1000", "USD"), currency="USD", reference="founding", at=calendar.now)
    last_hour = calendar.month_end - timedelta(hours=1)
    results = programme.report(*_own_generations(programme, trained, last_hour))
    assert [result.status for result in results] == [201] * GENERATIONS
    while attributions.attribute_batch(at=calendar.now):
        pass
    while accruals.accrue(at=calendar.now):
        pass
    assert Generation.objects.count() == Accrual.objects.count() == GENERATIONS
    for period in Period.objects.filter(ends__lte=calendar.month_end.date()).order_by("pk"):
        closing.close_period(period=period, at=calendar.now)
        sealing.seal_period(period=period, at=calendar.now)


def _prepare_payouts(maker: User, checker: User, programme: Programme) -> None:
    seen = actor.Presence(mfa_age_seconds=0)
    figures = {
        **terms_in_force("USD").figures,
        "minimum_minor": 500,
        "maturity_days": 0,
        "bank_change_days": 0,
        "probation_days": 0,
    }
    proposed = policies.propose_policy(currency="USD", figures=figures, reason="at once", by=maker, at=timezone.now())
    approve(proposed, by=checker, at=timezone.now(), seen=seen)
    funding.fund_platform(currency="USD", amount_minor=100_000, by=maker, at=timezone.now(), seen=seen)
    for contributor in programme.contributors[:-1]:
        account = accounts.open_payout_account(contributor=contributor, by=programme.user, at=timezone.now())
        month.complete_onboarding(accounts.onboarding_link(account=account, by=programme.user, at=timezone.now()))
        accounts.sync_account(account=account, at=timezone.now())


@pytest.fixture(scope="session")
def well_trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A few seconds of real training: as little as an index of it still passes its audit."""
    from config.demo import corpus, model

    first: dict[corpus.Author, corpus.Address] = {}
    for address in corpus.read_addresses():
        first.setdefault(address.author, address)
    addresses = tuple(
        corpus.Address(address.author, address.title, address.date, address.body[:9_000])
        for address in list(first.values())[:6]
    )
    tokeniser = model.Tokeniser.train(address.body for address in addresses)
    cut = [
        (work, start, start + ITEM_TOKENS)
        for work, address in enumerate(addresses)
        for start in range(0, len(tokeniser.encode(address.body)) - ITEM_TOKENS, ITEM_TOKENS)
    ]
    kept = [item for number, item in enumerate(cut) if number % 12 != 5]
    directory = tmp_path_factory.mktemp("well-trained")
    model.train(
        directory,
        items=[tokeniser.item(addresses[work].content, start, end) for work, start, end in kept],
        held_out=[tokeniser.item(addresses[work].content, start, end) for work, start, end in cut[5::12]],
        tokeniser=tokeniser,
        training=model.Training(epochs=8, batch=16, warmup=5),
        shape=model.Shape(width=32, layers=1, heads=2),
    )
    return Trained(directory, addresses, tuple(kept))


@pytest.fixture(scope="session")
def site(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    well_trained: Trained,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    data: Path = tmp_path_factory.mktemp("installation")
    environment = dict(line.split("=", 1) for line in servers.sandbox_environment(data).read_text().splitlines())
    with django_db_blocker.unblock(), cloned_database() as database, contextlib.ExitStack() as stack:
        # The installation checks the passwords, and knows the product's hasher alone.
        with pytest.MonkeyPatch.context() as patch, override_settings(PASSWORD_HASHERS=product.PASSWORD_HASHERS):
            patch.setitem(connection.settings_dict, "NAME", database.name)
            patch.setattr(settings, "DATABASE_URL", database.url)
            # A queue of its own: another test's worker must not take these messages.
            patch.setattr(settings, "BROKER_URL", f"{settings.BROKER_URL}?virtual_host=15")
            patch.setattr(settings, "TRIBUTARY_DATA", data)
            # Set by `installation` to where the site serves; other tests must not see it.
            patch.setattr(settings, "SITE_URL", settings.SITE_URL)
            for name, value in environment.items():
                patch.setenv(name, value)
                if name.startswith("STRIPE"):
                    patch.setattr(settings, name, value.split(",") if name.endswith("SECRETS") else value)
            made = _tell_the_story(well_trained)
            running = stack.enter_context(installation(host="127.0.0.1", port=servers.free_port(), tell=print))
            _prepare_payouts(made.maker, made.checker, made.programme)
            connection.close()
        yield Site(running, database.name, data, *made)


class _Story(NamedTuple):
    programme: Programme
    contributor: User
    maker: User
    checker: User
    month: str


def _tell_the_story(trained: Trained) -> _Story:
    """Everything before the installation runs: people, an audited index, a month of royalties."""
    calendar = dates.Calendar(timezone.now())
    maker, checker = _staff("Maker", "finance_maker"), _staff("Checker", "finance_checker")
    programme = start_programme(trained, timezone.now())
    index = indexes.build_index(model_version=programme.model_version, config=INDEX, at=timezone.now())
    index = indexes.audit_index(index=index, at=timezone.now(), coalitions=10)
    assert index.weight_ppb > 0, index.audit
    _earn_a_month(programme, trained, calendar, maker, checker)
    contributor = users.register_user(
        email="washington@authors.example", password=PASSWORD, name="G. Washington", at=timezone.now()
    )
    people.add_member(contributor=programme.contributors[0], user=contributor, role="owner", at=timezone.now())
    return _Story(programme, contributor, maker, checker, f"{calendar.month_start:%Y-%m}")


@pytest.fixture(autouse=True)
def _on_the_sites_database(
    site: Site, django_db_blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Point this process at the site's database for a journey; other tests of this process keep their own."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "NAME", site.database)
    with django_db_blocker.unblock():
        yield
        connection.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for one module: while Playwright runs, no other test of this process can start an event loop."""
    executable = next((path for path in CHROMIUM if os.path.exists(path)), None)
    assert executable, "No Chromium: run tests/browser.sh."
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=site.url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    yield context
    context.close()


def log_in(page: Page, email: str, *, second_factor: bool = False) -> None:
    page.goto("/accounts/login/")
    page.locator("input[name=login]").fill(email)
    page.locator("input[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    if second_factor:
        page.locator("input[name=code]").fill(totp_code(TOTP_SECRET))
        page.get_by_role("button", name="Log in", exact=True).click()


def keep(page: Page, name: str) -> None:
    """Keep a picture of the page where `make screenshots` asked for it."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")
