"""The acts of the operator's page that close and pay a month: two people of finance, and Stripe's sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.first_day.browser import Page, UnableToGoOn
from tests.first_day.day import Day
from tests.first_day.operator import CHECKER, MAKER, approve


def prefund_the_service(day: Day) -> None:
    maker = day.browser(MAKER)
    given = {"service": "Acme", "currency": "USD", "amount": "5000.00", "reference": "transfer 1"}
    maker.press(maker.get("/console/transactions/new/prefund_service/"), "Propose", given, says="Proposed")
    approve(day, "Prefund")


def close_the_month(day: Day) -> None:
    checker = day.browser(CHECKER)
    listed = checker.get("/console/periods/")
    # Early in a month, the one before last is still open too: months close in their order.
    months = sorted(set(re.findall(r'href="/console/periods/([0-9]{4}-[0-9]{2})/"', listed.source)))
    for month in months:
        if month > day.calendar.month:
            continue
        page = checker.get(f"/console/periods/{month}/")
        page = checker.press(page, f"Close {month}", says=f"Period {month} is closed")
        checker.press(page, f"Seal {month}", says=f"Period {month} is sealed")


def top_up(day: Day) -> None:
    maker = day.browser(MAKER)
    given = {"currency": "USD", "amount": "5000.00"}
    maker.press(maker.get("/console/funding/top-up/"), "Ask Stripe for the top-up", given)


def pay_the_month(day: Day) -> None:
    maker, checker = day.browser(MAKER), day.browser(CHECKER)
    page = maker.press(maker.get("/console/runs/"), "Build a draft")
    if " 0 payouts" in page.main:
        raise UnableToGoOn(f"The run pays nobody: {page.main[-3000:]}")
    page = maker.press(page, "Submit for review", says="somebody else has to approve it")
    run = page.url
    if "You cannot approve this run" not in maker.get(f"{run}approve/").words:
        raise UnableToGoOn("The page lets the builder of a run approve it.")
    page = checker.get(checker.get(run).link("Review and approve"))
    found = re.search(r"([0-9][0-9,]*\.[0-9]{2})", _total_of(page))
    if found is None:
        raise UnableToGoOn(f"The page shows no control total: {page.main[:1500]}")
    page = checker.press(page, "Approve*", {"typed_total": found[1].replace(",", "")}, says="Approved")
    page = checker.get(page.link("Execute"))
    checker.press(page, "Send*")
    day.figures["paid"] = found[1]

    def is_sent() -> bool:
        said = checker.get(run).words
        return "Reconcile" in said and "executing" not in said.lower()

    day.wait(is_sent, "the run is not sent")
    page = checker.get(run)
    if any(words == "Reconcile" for form in page.forms() for words, _, _ in form.buttons):
        page = checker.press(page, "Reconcile", says="figures agree")
    checker.press(checker.get(run), "Close the run", says="closed")


def _total_of(page: Page) -> str:
    """The words of the page about the signed total."""
    _, _, after = page.main.partition("You sign for")
    return after.partition("exactly as shown here")[0]


ACTS: dict[str, Callable[[Day], None]] = {
    act.__name__: act for act in (prefund_the_service, close_the_month, top_up, pay_the_month)
}
