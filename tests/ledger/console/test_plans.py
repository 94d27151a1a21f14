"""Plans, pools and restatements on their pages: proposed, previewed, approved by another with a second factor."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from contributors.models import PPB
from ledger.models import Period, PeriodPool, PlanPreview, RoyaltyPlan
from ledger.operations import plans, pools
from ledger.templatetags.amounts import amount_text
from people.operations.proposals import approve
from tests.worlds.pages import sure, text_of
from tests.worlds.programme import AT, Programme

pytestmark = pytest.mark.django_db
FORM = {
    "currency": "USD", "effective_from": "2027-02-01", "basis": "price", "price": "0.08", "rate": "", "pool": "",
    "pool_service": "", "take": "20", "floor": "10", "floor_rule": "general", "general": "", "cap": "100",
    "note": "A higher price.",
}  # fmt: skip


def proposed(programme: Programme, **changes: Any) -> RoyaltyPlan:
    answer = sure(programme.staff_client("finance_maker"), "/console/plans/propose/", {**FORM, **changes})
    assert answer.status_code == 302, text_of(answer.content)
    return RoyaltyPlan.objects.order_by("-id")[0]


def test_a_plan_is_proposed_previewed_and_approved_by_somebody_else(accrued: Programme) -> None:
    accrued.close()
    plan = proposed(accrued)
    assert (plan.price, plan.take_ppb, plan.floor_ppb, plan.cap_ppb) == (80_000_000, PPB // 5, PPB // 10, PPB)
    maker, checker = accrued.staff_client("finance_maker"), accrued.staff_client("finance_checker")
    page = text_of(maker.get(f"/console/plans/{plan.pk}/").content)
    assert "You proposed this plan, so somebody else has to approve it" in page
    answer = maker.post(f"/console/plans/{plan.pk}/preview/", {"month": "2026-10"})
    made = PlanPreview.objects.get()
    assert (made.state, answer["Location"]) == ("done", f"/console/plans/{plan.pk}/preview/{made.pk}/")
    shown = text_of(maker.get(answer["Location"]).content)
    assert "3 contributors would gain and 0 would lose, over 30 generations" in shown
    for units in (sum(made.before), sum(made.after), sum(made.after) - sum(made.before)):
        assert amount_text(units, "USD") in shown
    for contributor in accrued.contributors:
        assert contributor.display_name in shown
    text = maker.get(f"{answer['Location']}csv").content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["contributor"] for row in rows} == {str(c.public_id) for c in accrued.contributors}
    decide = f"/console/proposals/plan/{plan.pk}/"
    assert f'action="{decide}"' in checker.get(f"/console/plans/{plan.pk}/").content.decode()
    assert maker.post(decide, {"decision": "approve"}).status_code == 409
    checker.post(decide, {"decision": "approve"})
    plan.refresh_from_db()
    assert (plan.state, plan.decided_by) == ("approved", accrued.staff["finance_checker"])


def test_approving_needs_the_second_factor_used_just_now(accrued: Programme) -> None:
    plan = proposed(accrued)
    stale = Client(headers={"Host": "127.0.0.1"})
    stale.force_login(accrued.staff["finance_checker"], backend="allauth.account.auth_backends.AuthenticationBackend")
    answer = stale.post(f"/console/proposals/plan/{plan.pk}/", {"decision": "approve"})
    assert answer["Location"].startswith("/accounts/2fa/reauthenticate/")
    plan.refresh_from_db()
    assert plan.state == "proposed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"price": ""}, "Give the price of one generation"),
        ({"price": "five"}, "is no number, such as 1250.50"),
        ({"price": "0.0000000001"}, "has 10 decimals"),
        ({"basis": "revenue_share", "rate": ""}, "Say which part of the revenue is shared"),
        ({"take": "100"}, "Take is a part of the whole."),
        ({"take": "120"}, "less than or equal to 100"),
        ({"effective_from": "soon"}, "Enter a valid date"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_beside_the_field(
    programme: Programme, changes: dict[str, str], words: str
) -> None:
    before = RoyaltyPlan.objects.count()
    answer = sure(programme.staff_client("finance_maker"), "/console/plans/propose/", {**FORM, **changes})
    assert answer.status_code == 422
    assert words in text_of(answer.content)
    assert RoyaltyPlan.objects.count() == before


def test_readers_read_and_do_not_propose(accrued: Programme) -> None:
    plan = proposed(accrued)
    auditor = accrued.staff_client("auditor")
    for address in ("/console/plans/", f"/console/plans/{plan.pk}/", "/console/restatements/"):
        assert auditor.get(address).status_code == 200
        assert accrued.client(0).get(address).status_code == 403
    assert "Propose a plan" not in text_of(auditor.get("/console/plans/").content)
    for address in ("propose/", f"{plan.pk}/preview/", f"{plan.pk}/pools/"):
        assert auditor.post(f"/console/plans/{address}", FORM).status_code == 403
    assert auditor.post(f"/console/proposals/plan/{plan.pk}/", {"decision": "approve"}).status_code == 403
    assert accrued.staff_client("finance_maker").get("/console/plans/9999/").status_code == 404


def test_a_pool_is_proposed_and_approved_on_the_plan_s_page_and_payees_see_an_estimate(programme: Programme) -> None:
    plan = proposed(programme, currency="EUR", basis="period_pool", price="", pool="90.00", effective_from="2026-10-01")
    approve(plan, by=programme.staff["finance_checker"], at=AT)
    maker, checker = programme.staff_client("finance_maker"), programme.staff_client("finance_checker")
    form = {"month": "202610", "amount": "60.00", "note": "a slow month"}
    bad = sure(maker, f"/console/plans/{plan.pk}/pools/", {**form, "amount": "much"})
    assert bad.status_code == 422
    assert "is no number, such as 1250.50" in text_of(bad.content)
    sure(maker, f"/console/plans/{plan.pk}/pools/", form)
    pool = PeriodPool.objects.get()
    decide = f"/console/proposals/pool/{pool.pk}/"
    assert decide in checker.get(f"/console/plans/{plan.pk}/").content.decode()
    assert maker.post(decide, {"decision": "approve"}).status_code == 409
    checker.post(decide, {"decision": "approve"})
    pool.refresh_from_db()
    assert (pool.state, pool.amount) == ("approved", 60 * 10**9)
    assert "a slow month" in text_of(checker.get(f"/console/plans/{plan.pk}/").content)


def test_receipt_api_and_earnings_say_estimate_until_the_month_closes(programme: Programme) -> None:
    """The programme's generations are reported without a gross, in US dollars; November's plan divides a pool."""
    plan = plans.propose_plan(
        by=programme.staff["finance_maker"],
        currency="USD",
        effective_from=datetime(2026, 11, 1, tzinfo=UTC),
        at=AT,
        terms={"basis": "period_pool", "pool": 20 * 10**9, "take_ppb": PPB // 5, "floor_ppb": PPB // 5},
    )
    approve(plan, by=programme.staff["finance_checker"], at=AT)
    made = programme.generate(2, first=datetime(2026, 11, 1, 8, tzinfo=UTC))
    programme.attribute(made, scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    pools.estimate_pools(at=AT)
    client = programme.client(0)
    page = text_of(client.get(f"/portal/receipts/{made[0].pk}/").content)
    # 10 dollars each: less a fifth 8, less a floor of a fifth 6.40, half of it by attribution, half of that.
    assert "Estimate until the month closes: USD 1.60." in page
    assert "not posted: the month is open" in page
    earnings = text_of(client.get("/portal/earnings/").content)
    assert "Estimate until the month closes" in earnings
    assert "USD 3.20" in earnings
    body = client.get(
        f"/api/v1/generations/{made[0].pk}", headers={"Authorization": f"Bearer {programme.keys[0]}"}
    ).json()
    assert (body["state"], body["estimate"], body["currency"], body["gross"]) == (
        "attributed",
        "10.000000000",
        "USD",
        None,
    )
    assert Period.objects.get(pk=202611).state == "open"
