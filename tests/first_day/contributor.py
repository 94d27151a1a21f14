"""The acts of the contributor's page. Each contributor takes the steps of the page in a browser of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.first_day.browser import UnableToGoOn
from tests.first_day.day import PASSWORD, Day

USES = ["train_generative", "fine_tune"]
NOT_ONBOARDED = 1
"""So many contributors, from the end, do not give payout details: a run has to leave them out with a reason."""


def claim_accounts(day: Day) -> None:
    for person in day.people:
        mail = day.mail_to(person.email, "/claim/")
        found = re.search(r"(http\S+/claim/\S+)", mail.replace("=\n", ""))
        if found is None:
            raise UnableToGoOn(f"The mail to {person.email} has no address: {mail}")
        browser = day.new_browser(person.email)
        given = {"name": person.legal_name, "password": PASSWORD, "password_again": PASSWORD}
        browser.press(browser.get(found[1]), "Make my account", given, says="You act for")


def upload_works(day: Day) -> None:
    for person in day.people:
        browser = day.browser(person.email)
        page = browser.press(
            browser.get("/portal/datasets/new/"), "Open", {"name": "Collected works", "licence": "All rights reserved"}
        )
        kind = "text/plain" if person.modality == "text" else "image/png"
        files = [("uploads", (name, content, kind)) for name, content in person.files]
        browser.press(page, "Register these works", files=files, says=f"{len(files)} works registered")


def allow_uses(day: Day) -> None:
    given = {
        "target": "All my works, also those I register later",
        "scopes": USES,
        "valid_from": f"{day.calendar.month_start:%Y-%m-%d}",
    }
    for person in day.people:
        browser = day.browser(person.email)
        browser.press(browser.get("/portal/consent/grant/"), "Record", given, says="Allowed")


def set_up_payouts(day: Day) -> None:
    for person in day.people[: len(day.people) - NOT_ONBOARDED]:
        browser = day.browser(person.email)
        page = browser.press(browser.get("/portal/payouts/set-up/"), "Open my account at Stripe")
        stripe = browser.get(page.link("Continue at Stripe"))
        buttons = [button for form in stripe.forms() for button in form.buttons]
        complete = next((words for words, _, value in buttons if value == "complete"), None)
        if complete is None:
            raise UnableToGoOn(f"Stripe's page has the buttons {buttons}.")
        browser.press(stripe, complete, says="Payouts")


def read_receipts(day: Day) -> None:
    read = 0
    for person in day.people[:2]:
        browser = day.browser(person.email)
        listed = browser.get("/portal/receipts/")
        found = re.findall(r'href="(/portal/receipts/[0-9a-f-]{36}/)"', listed.source)
        if not found:
            continue
        page = browser.get(found[0], says="The arithmetic, step by step")
        if person.modality == "text":
            browser.press(page, "Recompute now", says="Identical")
        read += 1
    if not read:
        raise UnableToGoOn("Neither of the first two contributors has a receipt.")


def save_a_statement(day: Day) -> None:
    cara = day.browser(day.people[0].email)
    page = cara.get(f"/portal/statements/{day.calendar.month}/")
    folder = day.folder / "contributor"
    (folder / "statement.csv").write_bytes(cara.get(f"/portal/statements/{day.calendar.month}/csv").content)
    (folder / "verify_statement.py").write_bytes(cara.get("/portal/statements/verify_statement.py").content)
    if day.calendar.month not in page.source:
        raise UnableToGoOn(f"The statement is not of {day.calendar.month}: {page.main[:500]}")


def see_payments(day: Day) -> None:
    for person in day.people[:2]:
        browser = day.browser(person.email)
        page = browser.get("/portal/payouts/")
        found = re.search(r'href="(/portal/payouts/[0-9a-f-]{36}/remittance\.pdf)"', page.source)
        if found is None:
            raise UnableToGoOn(f"{person.email} sees no payment: {page.main[:1500]}")
        if not browser.get(found[1]).content.startswith(b"%PDF"):
            raise UnableToGoOn("The remittance advice is no PDF.")


def withdraw(day: Day) -> None:
    person = day.people[-1]
    browser = day.browser(person.email)
    page = browser.press(
        browser.get("/portal/consent/withdraw/"), "Show what changes", {"target": "all", "scopes": ["train_generative"]}
    )
    browser.press(page, "Withdraw now", says="Your withdrawal is recorded")


def prepare(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def contributors_begin(day: Day) -> None:
    day.follow("contributor", prepare(day.folder / "contributor"), ACTS)


def contributors_go_on(day: Day) -> None:
    day.follow("contributor", prepare(day.folder / "contributor"), ACTS, part=1)


ACTS: dict[str, Callable[[Day], None]] = {
    act.__name__: act
    for act in (
        claim_accounts,
        upload_works,
        allow_uses,
        set_up_payouts,
        read_receipts,
        save_a_statement,
        see_payments,
        withdraw,
        contributors_begin,
        contributors_go_on,
    )
}
