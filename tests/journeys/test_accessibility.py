"""Every page is usable by everybody: axe finds nothing in it, wide and narrow, light and dark, with messages on it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from allauth.account.forms import default_token_generator
from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from allauth.account.utils import user_pk_to_url_str
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from axe_playwright_python.sync_playwright import Axe
from django.contrib import messages
from django.contrib.messages.storage.base import Message
from django.contrib.messages.storage.cookie import CookieStorage
from django.http import HttpRequest
from django.test import override_settings
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, Page, ViewportSize

from config import settings as product
from people.models import STAFF_ROLES, User
from people.operations import users
from tests.journeys import pages
from tests.journeys.conftest import PASSWORD, TOTP_SECRET, Site, log_in
from tests.journeys.open_work import Left, leave_open
from tests.worlds.people import totp_code

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
ALL = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
# The scheme changes colours and nothing else.
COLOURS = {
    "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
    "resultTypes": ["violations"],
}
WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 360, "height": 800}
ADDRESSES = """found => found.map(
    each => each.getAttribute("href") || each.getAttribute("action") || each.getAttribute("hx-get") || ""
)"""
PAGES = pages.patterns()
# Addresses that show no page of their own, with the reason.
NO_PAGE = {
    "account_confirm_login_code": "Log-in codes are switched off.",
    "account_reauthenticate": "It leads to the page of the second factor, or back.",
    "account_set_password": "Everybody has a password.",
    "ledger:plan_preview_csv": "A file.",
    "mfa_activate_totp": "It asks for a fresh proof of the person first.",
    "mfa_add_webauthn": "It asks for a fresh proof of the person first.",
    "mfa_deactivate_totp": "It asks for a fresh proof of the person first.",
    "mfa_download_recovery_codes": "A file.",
    "mfa_generate_recovery_codes": "It asks for a fresh proof of the person first.",
    "mfa_view_recovery_codes": "It asks for a fresh proof of the person first.",
    "payouts:lines_template": "A file.",
    "contributors:thumbnail": "A picture.",
    "ledger:receipt_output": "A picture.",
    "contributors:after_login": "It leads to the portal, the console or the registration.",
    "demo": "A demonstration alone has it: tests/config/test_demo_progress.py.",
    "demo_stages": "A demonstration alone has it: tests/config/test_demo_progress.py.",
    "ledger:recompute": "It leads back to the receipt.",
    "mfa_authenticate": "A log-in alone has it, and each journey of staff goes through it.",
    "mfa_login_webauthn": "A part of the log-in in JSON.",
    "mfa_reauthenticate_webauthn": "A browser with a passkey alone has it.",
    "mfa_edit_webauthn": "A browser with a passkey alone has it.",
    "mfa_remove_webauthn": "A browser with a passkey alone has it.",
    "payouts:decide": "A payout without an answer for a day has it: tests/payouts/console.",
    "payouts:onboarding": "It leads to Stripe.",
    "payouts:returned": "It leads back to the payouts.",
    "payouts:reverse": "A payout through Stripe has it: tests/payouts/console.",
    "payouts:stripe_balance": "A part of the page of a run, which loads it and is looked at with it.",
    "attribution:work_models": "A part of the page of a work, which loads it and is looked at with it.",
    "payouts:remittance": "A payout through Stripe has it, as a file.",
    "payouts:payee_pdf": "A payout through Stripe has it, as a file.",
}
# How many pages of one address are looked at, over all people; one where nothing is said.
OF_EACH_MAX = {
    "people:proposal": 14,
    "payouts:run": 9,
    "payouts:bank_files": 4,
    "ledger:plan": 6,
    "contributors:splits": 2,
    "payouts:home": 2,
    "payouts:payouts": 3,
    "ledger:earnings": 2,
    "ledger:receipts": 2,
    "ledger:statements": 2,
    "contributors:consent": 2,
    "contributors:works": 2,
}
# Forms that are sent empty, so that each field shows its error.
FORMS_OF_VISITOR = ("/accounts/login/", "/accounts/signup/", "/accounts/password/reset/")
FORMS_OF_CONTRIBUTOR = (
    "/portal/consent/grant/",
    "/portal/consent/withdraw/",
    "/portal/datasets/new/",
    "/portal/works/upload/",
)
FORMS_OF_STAFF = (
    "/console/manual-entries/new/",
    "/console/plans/propose/",
    "/console/contracts/new/",
    "/console/links/propose/",
    "/console/funding/top-up/",
    "/console/policies/USD/propose/",
    "/console/transactions/new/capital/",
)


@dataclass
class Checker:
    """One person's browser: visits a page once, looks at it four times, and keeps each fault."""

    page: Page
    site: Site
    # Shared by all people, so that a page that looks the same to two of them is looked at once.
    seen: Counter[str]
    faults: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)

    def tell(self) -> None:
        """Leave two flash messages for the next page, as the product itself would."""
        with override_settings(SECRET_KEY=self.site.secret_key):
            storage = CookieStorage(HttpRequest())
            text = "The run was built; it holds two payouts of USD 8.73 in all."
            value = storage._encode(  # type: ignore[attr-defined]
                [Message(messages.SUCCESS, text), Message(messages.ERROR, f"Refused. {text}")]
            )
        self.page.context.add_cookies([{"name": "messages", "value": value, "url": self.site.url}])

    def look(self, address: str) -> None:
        """Keep the faults of the open page: both widths, both schemes."""
        if self.page.locator("[hx-trigger=load]").count():
            self.page.wait_for_load_state("networkidle")
        self.page.evaluate(Axe().axe_script)
        for size, scheme, options in (
            (WIDE, "light", ALL),
            (WIDE, "dark", COLOURS),
            (NARROW, "dark", COLOURS),
            (NARROW, "light", ALL),
        ):
            self._look_once(address, size, scheme, options)

    def _look_once(self, address: str, size: Any, scheme: Any, options: dict[str, Any]) -> None:
        self.page.set_viewport_size(size)
        self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        where = f"{address} at {size['width']} px, {scheme}"
        for found in self.page.evaluate("options => axe.run(document, options)", options)["violations"]:
            nodes = "; ".join(f"{node['target']} {node['html'][:160]}" for node in found["nodes"][:3])
            self.faults.append(f"{where}: {found['id']}: {found['help']}: {nodes}")
        wide = self.page.evaluate("document.documentElement.scrollWidth")
        if wide > size["width"]:
            self.faults.append(f"{where}: the page is {wide} px wide")

    def _is_page(self, name: str, address: str) -> bool:
        """Whether the address answers with a page and not with a file, a part of a page, or the way elsewhere."""
        answer = self.page.context.request.get(address, max_redirects=0)
        elsewhere = answer.headers.get("location", "")
        if urlsplit(elsewhere).path == "/accounts/2fa/reauthenticate/":
            # On a busy machine the walk takes longer than a proof of the person lasts.
            self.page.goto(elsewhere)
            self.page.locator("input[name=code]").fill(totp_code(TOTP_SECRET))
            self.page.locator("input[name=code]").press("Enter")
            self.page.wait_for_load_state()
            answer = self.page.context.request.get(address, max_redirects=0)
        if answer.status != 200:
            self.refused[name] = f"{address} answers {answer.status}"
            return False
        if not answer.headers.get("content-type", "").startswith("text/html") or "<html" not in answer.text()[:300]:
            self.files.add(name)
            return False
        return True

    def walk(self, *first: str, prefix: str) -> None:
        """Look at every page below `prefix`: those without parameters, `first`, and those that these link to."""
        plain = (f"/{found.route}" for found in PAGES.values() if not found.has_parameters)
        waiting = deque([*first, *(address for address in plain if address.startswith(prefix))])
        asked: set[str] = set()
        while waiting:
            address = waiting.popleft()
            name = pages.name_of(address)
            if name not in PAGES or address in asked or self.seen[name] >= OF_EACH_MAX.get(name, 1):
                continue
            asked.add(address)
            if not self._is_page(name, address):
                continue
            self.seen[name] += 1
            self.tell()
            self.page.goto(address)
            self.look(address)
            waiting.extend(self.page.locator("[href], [action], [hx-get]").evaluate_all(ADDRESSES))

    def open(self, address: str) -> None:
        """Look at the page that an address leads to, also one that only says why there is nothing to see."""
        self.tell()
        self.page.goto(address)
        self.seen[pages.name_of(self.page.url.removeprefix(self.site.url)) or ""] += 1
        self.look(address)

    def send_empty(self, address: str) -> None:
        """Look at the page that answers a form without a value in it."""
        self.page.goto(address)
        self.tell()
        with self.page.expect_navigation():
            self.page.locator("main form[method=post]").first.evaluate(
                "form => { form.noValidate = true; form.reset(); form.requestSubmit(); }"
            )
        self.look(f"{address}, sent empty")


@pytest.mark.timeout(1800)
def test_axe_finds_nothing_on_any_page(site: Site, browser: Browser) -> None:
    # The installation checks the passwords, and knows the product's hasher alone.
    with override_settings(PASSWORD_HASHERS=product.PASSWORD_HASHERS):
        left = leave_open(site)
        at = timezone.now()
        newcomer = users.register_user(email="poe@authors.example", password=PASSWORD, at=at)
        clerk = users.register_user(email="reader@finance.example", password=PASSWORD, roles=STAFF_ROLES, at=at)
        users.enrol_totp(user=clerk, secret=TOTP_SECRET)
        RecoveryCodes.activate(clerk)
    found = visit_all(site, browser, left, newcomer, clerk)
    faults = [fault for each in found for fault in each.faults]
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)
    known = set(NO_PAGE).union(found[0].seen, *(each.files for each in found))
    missed = {name: [each.refused[name] for each in found if name in each.refused] for name in PAGES.keys() - known}
    assert not missed, f"No page links to these, or they refuse everybody; open_work.py can make one: {missed}"
    assert NO_PAGE.keys() <= PAGES.keys()


def visit_all(site: Site, browser: Browser, left: Left, newcomer: User, clerk: User) -> list[Checker]:
    """Walk the site as a visitor, as two contributors, as a newcomer without works, and as staff with every role."""
    found: list[Checker] = []
    with _browsing(browser, site, found) as visitor:
        visitor.walk(prefix="/")
        for address in FORMS_OF_VISITOR:
            visitor.send_empty(address)
        visitor.open("/nowhere/")
        visitor.open(_confirmation(site, newcomer))
        visitor.open(_reset(site, newcomer))
        for address in left.joining:
            visitor.open(address)
    with _browsing(browser, site, found, site.contributor) as reader:
        reader.walk(prefix="/portal/")
        reader.open("/console/")
    with _browsing(browser, site, found, left.owner) as person:
        person.walk(prefix="/portal/")
        person.walk(prefix="/accounts/")
        for address in FORMS_OF_CONTRIBUTOR:
            person.send_empty(address)
    with _browsing(browser, site, found, left.payee_by_bank) as payee:
        payee.walk(prefix="/portal/payouts/")
        payee.send_empty("/portal/payouts/bank/")
    with _browsing(browser, site, found, newcomer) as beginner:
        beginner.walk("/portal/register/", prefix="/portal/register/")
        beginner.send_empty("/portal/register/")
    with _browsing(browser, site, found, clerk) as staff:
        staff.walk(prefix="/console/")
        for address in FORMS_OF_STAFF:
            staff.send_empty(address)
        staff.walk("/accounts/2fa/recovery-codes/", prefix="/accounts/2fa/")
    return found


@contextmanager
def _browsing(browser: Browser, site: Site, found: list[Checker], user: User | None = None) -> Iterator[Checker]:
    """The browser of one person, logged in once; None for a visitor."""
    context = browser.new_context(base_url=site.url, viewport=WIDE, reduced_motion="reduce")
    context.set_default_timeout(20_000)
    page = context.new_page()
    if user is not None:
        log_in(page, user.email, second_factor=user.is_staff_member)
        page.wait_for_load_state()
    checker = Checker(page, site, found[0].seen if found else Counter())
    found.append(checker)
    yield checker
    context.close()


def _confirmation(site: Site, user: User) -> str:
    """Return the address of the mail that asks a person to confirm another e-mail address."""
    with override_settings(SECRET_KEY=site.secret_key):
        other = EmailAddress.objects.create(user=user, email=f"new-{user.email}", verified=False, primary=False)
        return reverse("account_confirm_email", args=[EmailConfirmationHMAC(other).key])


def _reset(site: Site, user: User) -> str:
    """Return the address of the mail that lets a person choose a password."""
    with override_settings(SECRET_KEY=site.secret_key):
        key = f"{user_pk_to_url_str(user)}-{default_token_generator.make_token(user)}"
    return f"/accounts/password/reset/key/{key}/"
