"""Finance pays: one person builds and cannot approve, another does, workers pay, everything is reconciled."""

from __future__ import annotations

import re
import time

from playwright.sync_api import BrowserContext, Page, expect

from payouts.models import Payout, PayoutRun
from tests.journeys.conftest import Site, keep, log_in


def _reload_until(page: Page, text: re.Pattern[str], *, seconds_max: float = 60) -> None:
    deadline = time.monotonic() + seconds_max
    while not page.get_by_text(text).count():
        assert time.monotonic() < deadline, page.locator("main").inner_text()[:2000]
        page.wait_for_timeout(500)
        page.reload()


def test_a_run_is_built_by_one_person_and_paid_after_another_approved(site: Site, context: BrowserContext) -> None:
    maker = context.new_page()
    log_in(maker, site.maker.email, second_factor=True)
    maker.goto("/console/runs/")
    maker.locator("select[name=currency]").select_option("USD")
    maker.get_by_role("button", name="Build a draft").click()
    maker.get_by_role("button", name="Submit for review").click()
    expect(maker.locator("main")).to_contain_text("somebody else has to approve it")
    run_url = maker.url
    run = PayoutRun.objects.get(public_id=run_url.rstrip("/").rpartition("/")[2])
    assert run.state == PayoutRun.State.IN_REVIEW
    keep(maker, "run-in-review")

    # The builder opens the approval page by its address and posts the form that the page does not offer.
    maker.goto(f"{run_url}approve/")
    expect(maker.get_by_role("heading", name="You cannot approve this run")).to_be_visible()
    token = next(cookie for cookie in context.cookies() if cookie["name"] == "csrftoken")["value"]
    forged = context.request.post(
        f"{run_url}approve/",
        form={
            "csrfmiddlewaretoken": token,
            "typed_total": f"{run.total_minor / 100:.2f}",
            "content_hash": run.hash_hex,
        },
        headers={"Referer": run_url},
    )
    assert "somebody else has to approve it" in forged.text()
    run.refresh_from_db()
    assert run.state == PayoutRun.State.IN_REVIEW
    assert run.approved_by_id is None
    context.clear_cookies()

    checker = context.new_page()
    log_in(checker, site.checker.email, second_factor=True)
    checker.goto(run_url)
    checker.get_by_role("link", name="Review and approve").click()
    keep(checker, "approve")
    checker.locator("input[name=typed_total]").fill(f"{run.total_minor / 100:.2f}")
    checker.get_by_role("button", name=re.compile("^Approve")).click()
    checker.get_by_role("link", name="Execute").click()
    checker.get_by_role("button", name=re.compile("^Send")).click()
    _reload_until(checker, re.compile("Reconcile$|Reconciled", re.IGNORECASE))
    if checker.get_by_role("button", name="Reconcile").count():
        checker.get_by_role("button", name="Reconcile").click()
    _reload_until(checker, re.compile("Close the run"))
    keep(checker, "run-reconciled")

    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED
    paid = {Payout.State.TRANSFERRED.value, Payout.State.SETTLED.value}
    assert set(run.payouts.values_list("state", flat=True)) <= paid
    assert run.payouts.count() == len(site.programme.contributors) - 1
    # The last contributor never onboarded: left out, with the reason.
    assert [str(row.reason) for row in run.left_out.all()] == ["not_onboarded"]


def test_the_console_fits_a_telephone(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 360, "height": 800})
    log_in(page, site.checker.email, second_factor=True)
    for path in ("/console/", "/console/runs/", "/console/reconciliation/", "/console/trial-balance/",
                 "/console/journal/", "/console/periods/", "/console/plans/", "/console/audit/"):  # fmt: skip
        page.goto(path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{path} is {wide} px wide"
