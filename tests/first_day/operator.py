"""The acts of the operator's page that are done by hand: pages and mails, by the people that the page names."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

from tests.first_day import material
from tests.first_day.browser import Page, UnableToGoOn
from tests.first_day.day import PASSWORD, Day

ADMIN, MAKER, CHECKER, TEAM = "ada@example.org", "mara@example.org", "chidi@example.org", "theo@example.org"
PRICE = "10.00"


def join_as_first_administrator(day: Day) -> None:
    page = _join(day, day.kept["FIRST_ADDRESS"], ADMIN, "Ada Admin")
    page = day.browser(ADMIN).get(page.link("I have them, go on"), says="Set up")
    if not page.url.endswith("/console/setup/"):
        raise UnableToGoOn(f"The recovery codes lead to {page.url}.")


def join_as_staff(day: Day) -> None:
    addresses = re.findall(r"(http\S+/join/\S+)", day.output)
    if len(addresses) != 3:
        raise UnableToGoOn(f"invite_staff printed {len(addresses)} addresses: {day.output}")
    for address, email, name in zip(
        addresses, (MAKER, CHECKER, TEAM), ("Mara Maker", "Chidi Checker", "Theo Trainer"), strict=True
    ):
        day.mail_to(email, "/join/")
        _join(day, address, email, name)


def _join(day: Day, address: str, email: str, name: str) -> Page:
    browser = day.new_browser(email)
    page = browser.get(address)
    found = re.search(r'id="totp_secret"[^>]*value="([A-Z2-7]+)"', page.source)
    if found is None:
        raise UnableToGoOn(f"{address} shows no secret: {page.main[:500]}")
    browser.secret = found[1]
    given = {"name": name, "password": PASSWORD, "password_again": PASSWORD, "code": browser.code()}
    if "email" in page.form("Join")[0].names:
        given["email"] = email
    return browser.press(page, "Join", given, says="Keep these codes")


def send_a_test_mail(day: Day) -> None:
    admin = day.browser(ADMIN)
    admin.press(admin.get("/console/mail/"), "Send me a test")
    day.mail_to(ADMIN, "A test of the mail settings")


def approve_a_plan(day: Day) -> None:
    maker = day.browser(MAKER)
    maker.press(
        maker.get("/console/plans/propose/"),
        "Propose",
        {
            "currency": "USD",
            "effective_from": f"{day.calendar.month_start:%Y-%m-%d}",
            "basis": "price",
            "price": PRICE,
            "take": "20",
            "floor": "20",
            "note": "The first plan",
        },
    )
    approve(day, "USD plan 1")


def approve(day: Day, subject: str) -> None:
    """The checker finds the proposal under "Needs attention", opens it, and approves."""
    checker = day.browser(CHECKER)
    page = checker.get(checker.get("/console/attention/").link(f"{subject}*"))
    checker.press(page, "Approve", says="Approved")


def approve_a_policy(day: Day) -> None:
    maker = day.browser(MAKER)
    page = maker.get("/console/policies/")
    # A first payout usually waits some days; this programme pays on its first day.
    at_once = dict.fromkeys(("maturity_days", "bank_change_days", "probation_days"), "0")
    given = {"minimum_minor": "1.00", **at_once, "reason": "Small sums, paid at once"}
    maker.press(maker.get(page.link("Propose a change*")), "Propose it", given)
    approve(day, "USD")


def import_the_other_contributors(day: Day) -> None:
    admin = day.browser(ADMIN)
    table = material.as_table(day.people[2:]).encode()
    page = admin.press(
        admin.get("/console/contributors/import/"),
        "Show a preview",
        files=[("file", ("contributors.csv", table, "text/csv"))],
    )
    admin.press(page, f"Register {len(day.people) - 2} and invite them", says="are registered and invited")


def register_a_service(day: Day) -> None:
    team = day.browser(TEAM)
    page = team.press(team.get("/console/services/"), "Register", {"name": "Acme"}, says="It needs a key")
    scopes = ["works:read", "works:write", "models:write", "generations:write", "generations:read"]
    page = team.press(page, "Issue key", {"scopes": scopes})
    found = re.search(r'<code id="key">([^<]+)</code>', page.source)
    if found is None:
        raise UnableToGoOn(f"No key is shown: {page.main[:500]}")
    day.kept["SERVICE_KEY"] = found[1].strip()


def look_again(day: Day) -> None:
    """Ask the doctor. Mails go to files here, so that one step stays open, and its exit status is 1."""
    command = [".venv/bin/python", "manage.py", "doctor", "--json"]
    done = subprocess.run(
        command, cwd=day.at_work, env=day.environment, capture_output=True, text=True, check=False, timeout=120
    )
    told = json.loads(done.stdout)
    still_open = [step["step"] for step in told["steps"] if step["state"] in {"to do", "broken"}]
    if (done.returncode, still_open) != (1, ["mail"]):
        raise UnableToGoOn(f"The doctor ends with {done.returncode}: {done.stdout}{done.stderr}")


ACTS: dict[str, Callable[[Day], None]] = {
    act.__name__: act
    for act in (
        join_as_first_administrator,
        send_a_test_mail,
        join_as_staff,
        approve_a_plan,
        approve_a_policy,
        import_the_other_contributors,
        register_a_service,
        look_again,
    )
}
