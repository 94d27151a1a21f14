"""Replacing an account at Stripe, through the portal and the console."""

from __future__ import annotations

from payouts.models import PayoutAccount
from payouts.operations import accounts
from tests.worlds.browser import LogIn
from tests.worlds.world import World


def test_the_portal_sets_up_again_and_the_console_opens_the_way(paying: World, log_in: LogIn) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor()
    old = paying.account(contributor)
    paying.sandbox.happens(old, "disconnect")
    accounts.sync_account(account=PayoutAccount.objects.get(contributor=contributor), at=paying.at)
    portal = log_in(paying.owner)
    assert b"Set up again" in portal.get("/portal/payouts/").content
    assert portal.get("/portal/payouts/onboarding/")["Location"] == "/portal/payouts/set-up/"
    assert b"Open a new account" in portal.get("/portal/payouts/set-up/").content
    assert portal.post("/portal/payouts/set-up/").status_code == 200
    assert paying.account(contributor) not in ("None", old)
    console = log_in(paying.checker)
    page = f"/console/payees/{contributor.public_id}/"
    assert "disconnected" in console.get(page).content.decode()
    assert b"present account" in console.get(f"{page}new-account/").content
    assert console.post(f"{page}new-account/", {"reason": ""}).status_code == 422
    assert console.post(f"{page}new-account/", {"reason": "the bank asked"})["Location"] == page
    assert PayoutAccount.objects.get(contributor=contributor).provider_account_id is None
    assert contributor.notices.filter(kind="set_up_again").exists()
