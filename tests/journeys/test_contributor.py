"""A contributor finds out why they were paid, and verifies it without us."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from playwright.sync_api import BrowserContext, expect

from tests.journeys.conftest import Site, keep, log_in

ROOT = Path(__file__).resolve().parent.parent.parent


def test_a_contributor_reads_why_it_was_paid(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    log_in(page, site.contributor.email)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.url == f"{site.url}/portal/"
    keep(page, "portal-home")

    page.goto("/portal/receipts/")
    page.locator("main a[href^='/portal/receipts/']").first.click()
    expect(page.get_by_role("heading", name="The arithmetic, step by step")).to_be_visible()
    expect(page.get_by_text("midpoint").first).to_be_visible()
    keep(page, "receipt")
    page.get_by_role("button", name="Recompute now").click()
    expect(page.locator("#recomputed")).to_contain_text("Identical")


def test_a_statement_taken_home_is_verified_without_a_database(
    site: Site, context: BrowserContext, tmp_path: Path
) -> None:
    page = context.new_page()
    log_in(page, site.contributor.email)
    page.goto(f"/portal/statements/{site.month}/")
    keep(page, "statement")
    answer = context.request.get(f"/portal/statements/{site.month}/csv")
    statement = tmp_path / "statement.csv"
    statement.write_bytes(answer.body())

    verified = _verify(statement, tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr

    # One digit more, anywhere in the figures, and the proof no longer holds.
    text = statement.read_text()
    figure = next(word for word in text.replace("\r\n", ",").split(",") if word.startswith("0.") and len(word) > 8)
    statement.write_text(text.replace(figure, figure[:-1] + str((int(figure[-1]) + 1) % 10), 1))
    assert _verify(statement, tmp_path).returncode != 0


def _verify(statement: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """With nothing but Python: no settings, no database, no package of ours on the path."""
    alone = home / "proof.py"
    alone.write_bytes((ROOT / "ledger" / "proof.py").read_bytes())
    command = [sys.executable, "-I", str(alone), str(statement)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=home, check=False)


def test_another_contributors_receipt_is_not_to_be_seen(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    answer = page.goto("/portal/receipts/")
    assert answer is not None
    assert "/accounts/login/" in page.url
    log_in(page, site.maker.email, second_factor=True)
    refused = context.request.get("/portal/receipts/", max_redirects=0)
    assert refused.status in {302, 403}


def test_the_portal_fits_a_telephone(site: Site, context: BrowserContext) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 360, "height": 800})
    log_in(page, site.contributor.email)
    for path in ("/portal/", "/portal/receipts/", "/portal/works/", "/portal/consent/", "/portal/statements/",
                 f"/portal/statements/{site.month}/", "/portal/payouts/", "/portal/earnings/"):  # fmt: skip
        page.goto(path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{path} is {wide} px wide"
