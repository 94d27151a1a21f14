"""The receipt page: a payee reads it, redoes it with a calculator and recomputes it with a button."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from attribution.models import Attribution
from contributors.models import PPB
from contributors.operations.people import record_split_sheet
from ledger.models import Entry
from ledger.money import asset
from ledger.operations import plans
from ledger.queries import receipt
from people.operations.proposals import approve
from people.presentation import percent
from people.presentation.amounts import text_in_minor
from tests.worlds.pages import receipt_page, text_of
from tests.worlds.programme import AT, REGISTERED, Programme

pytestmark = pytest.mark.django_db


@pytest.fixture
def one(programme: Programme) -> Programme:
    """One generation of which the three authors caused a half, five and three sixteenths."""
    programme.attribute(programme.generate(1), scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    return programme


def test_the_plain_sentence_comes_first(one: Programme) -> None:
    response = one.client(0).get(f"/portal/receipts/{one.generations[0].pk}/")
    main = text_of(response.content.partition(b"<main")[2])
    found = receipt.receipt_for_contributor(one.generations[0].pk, one.contributors[0].pk)
    assert found is not None
    likely = percent.likely(found.shares[0].ppb, found.shares[0].se_ppb)
    sentence = (
        f"You earned {text_in_minor(found.credited, asset('USD'))}. About 50.0 % of the contributors' influence on "
        f"this output of press-1 came from your works (likely {likely}). Most of it came from “First Annual Message”."
    )
    assert sentence in main
    assert main.index(sentence) < main.index("The arithmetic")


def test_a_payee_can_redo_every_step_with_a_calculator(one: Programme) -> None:
    """Each step's words hold the figures of the steps above, and come to the figure beside them."""
    found = one.client(0).get(f"/portal/receipts/{one.generations[0].pk}/").context["steps"]
    amounts = {step.title: step.amount for step in found}
    assert amounts["Gross of this generation"] == 50_000_000
    assert amounts["The platform's take"] == 50_000_000 * 20 // 100
    assert amounts["Pool"] == amounts["Gross of this generation"] - amounts["The platform's take"]
    assert amounts["Base part"] == amounts["Pool"] * 20 // 100
    assert amounts["Open to attribution"] == amounts["Pool"] - amounts["Base part"]
    assert amounts["Goes by attribution"] == amounts["Open to attribution"] // 2
    assert amounts["Your share"] == amounts["Goes by attribution"] * 5 // 10 == 8_000_000
    words = {step.title: step.how for step in found}
    assert words["The platform's take"] == "0.050000000 × 20 %, cut"
    assert words["Pool"] == "0.050000000 − 0.010000000"
    assert words["Goes by attribution"].startswith("0.032000000 × 50 %")


def test_a_receipt_says_where_accounts_counted_as_one_and_by_which_score(programme: Programme) -> None:
    # Alone the first would have 0.5 of 0.75; together with the second's -0.25, they have 0.25 of 0.5.
    programme.attribute(programme.generate(1), scores=[0.5, -0.25, 0.25], as_one=[0, 1])
    programme.accrue()
    (first, second) = (
        receipt.receipt_for_contributor(programme.generations[0].pk, programme.contributors[place].pk)
        for place in (0, 1)
    )
    assert first is not None
    assert second is not None
    assert [share.ppb for share in (*first.shares, *second.shares)] == [PPB // 2, 0]
    assert first.agrees
    assert first.shares[0].se_ppb == PPB // 8
    page = receipt_page(programme)
    assert "Score 0.5000 ± 0.0625" in page
    assert "Counted as one 0.2500 ± 0.0625 the score of 2 sets of works together" in page
    assert "Counted as one" not in receipt_page(programme, 2)


def test_a_group_below_the_noise_floor_says_so_for_each_of_its_accounts(programme: Programme) -> None:
    # 0.3 alone is no noise at two standard errors of 0.0625; the 0.1 of both together is.
    programme.attribute(programme.generate(1), scores=[0.3, -0.2, 0.5], as_one=[0, 1])
    programme.accrue()
    found = receipt.receipt_for_contributor(programme.generations[0].pk, programme.contributors[0].pk)
    assert found is not None
    assert (found.shares[0].ppb, found.shares[0].below_noise) == (0, True)


def test_the_page_names_generation_service_model_plan_method_audit_and_entry(one: Programme) -> None:
    page = receipt_page(one)
    entry = Entry.objects.get()
    for words in (
        "2 Oct 2026, 08:00 UTC", "Gutenberg Press", "press-1", "USD 0.050000000 for each generation", "USD plan 1",
        "Midpoint Shapley influence", "Passed", "0.440", "(0.310 to 0.560)", "by retraining the model 16 times",
        bytes(entry.hash).hex(), f"{entry.pk}, posted", str(one.generations[0].pk),
    ):  # fmt: skip
        assert words in page, words


def test_the_share_stands_with_its_interval_and_the_score_with_its_error(one: Programme) -> None:
    page = receipt_page(one)
    # A standard error of 0.0625 of a whole of 1.0 is 6.25 %: 1.96 of them are 12.25.
    assert "50.00 % ± 12.25" in page
    assert "0.5000 ± 0.0625" in page


def test_works_are_ranked_with_their_scores_and_a_passage(one: Programme) -> None:
    page = receipt_page(one)
    titles = ["First Annual Message", "Second Annual Message", "Fourth Annual Message"]
    places = [page.rindex(title) for title in titles]
    assert places == sorted(places)
    assert "0.5000" in page
    works = one.client(0).get(f"/portal/receipts/{one.generations[0].pk}/").context["evidence"]
    assert sum(work.amount for work in works) == 8_000_000
    assert all(work.parts for work in works)


def test_another_s_works_shares_and_money_are_not_on_the_page(one: Programme) -> None:
    page = receipt_page(one)
    for stranger in ("Grant", "Annual Message 1869", "Łucja", "SUM(A1:A9)"):
        assert stranger not in page
    assert one.generations[0].output_text
    assert one.generations[0].output_text not in page


def test_who_earned_nothing_reads_why(programme: Programme) -> None:
    programme.attribute(programme.generate(1), scores=[0.0625, 0.9, -0.2])
    programme.attribute(programme.generate(1), scores=[0.5, 0.9, 0.2], weight_ppb=0)
    programme.accrue()
    assert "could not be told from chance" in receipt_page(programme, 0)
    assert "Below the noise floor" in receipt_page(programme, 0)
    assert "no more likely than the average output" in receipt_page(programme, 2)
    assert "has not passed an evaluation" in receipt_page(programme, 0, generation=1)


def test_a_co_author_sees_its_part_of_the_split_sheet(programme: Programme) -> None:
    lincoln, grant, _ = programme.contributors
    record_split_sheet(
        holder=programme.holders[0],
        parts={lincoln: PPB // 4, grant: PPB - PPB // 4},
        effective_from=REGISTERED.replace(day=2),
        at=REGISTERED,
    )
    programme.attribute(programme.generate(1), scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    assert "8,000,000" not in receipt_page(programme)
    assert "0.008000000 × 25 % of the split sheet" in receipt_page(programme)
    assert "0.008000000 × 75 % of the split sheet" in receipt_page(programme, 1)


def test_recompute_really_recomputes_and_says_identical(one: Programme) -> None:
    client = one.client(0)
    address = f"/portal/receipts/{one.generations[0].pk}/recompute/"
    assert "Identical" not in text_of(client.get(f"/portal/receipts/{one.generations[0].pk}/").content)
    assert "Identical" in text_of(client.post(address).content)
    part = client.post(address, headers={"HX-Request": "true"}).content.decode()
    assert "Identical" in part
    assert "<html" not in part
    assert client.get(address)["Location"] == f"/portal/receipts/{one.generations[0].pk}/"


def test_recompute_says_so_when_the_stored_scores_give_other_shares(programme: Programme) -> None:
    """A row that no worker would write: its shares are not those of its scores."""
    (generation,) = programme.generate(1)
    (made,) = programme.attribute([generation], scores=[0.5, 0.3125, 0.1875])
    (forged,) = programme.generate(1)
    Attribution.objects.create(
        generation=forged, revision=1, index=made.index, weight_ppb=made.weight_ppb, noise_z=2.0,
        holder_ids=made.holder_ids, scores=[0.1, 0.3, 0.6], se=made.se, shares_ppb=made.shares_ppb,
        unattributed_ppb=made.unattributed_ppb, general_scores=made.general_scores, general_se=made.general_se,
        general_ppb=made.general_ppb, general_unattributed_ppb=made.general_unattributed_ppb, top_works={},
        prompt_tokens=0, scored_tokens=1, created_at=AT,
    )  # fmt: skip
    programme.accrue()
    page = text_of(programme.client(0).post(f"/portal/receipts/{forged.pk}/recompute/").content)
    assert "Not identical" in page
    assert "no longer give the stored shares" in page


def test_a_restated_receipt_shows_what_it_was_before(one: Programme) -> None:
    one.attribute(one.generations, scores=[0.1875, 0.3125, 0.5], revision=2)
    one.accrue()
    page = receipt_page(one)
    assert "Before restatement" in page
    assert "revision 1, entry 1, reversed" in page
    assert "18.8 %" in page


def test_a_work_whose_file_is_gone_still_has_its_receipt(one: Programme) -> None:
    for work in one.works_of(0):
        (Path(settings.TRIBUTARY_DATA) / work.content_path).unlink()
    assert "First Annual Message" in receipt_page(one)


def test_a_receipt_under_a_revenue_share_names_the_revenue(programme: Programme) -> None:
    plan = plans.propose_plan(
        by=programme.staff["finance_maker"],
        currency="EUR",
        effective_from=AT,
        at=AT,
        terms={"basis": "revenue_share", "rate_ppb": PPB // 8, "take_ppb": PPB // 5, "floor_ppb": PPB // 5},
    )
    approve(plan, by=programme.staff["finance_checker"], at=AT)
    made = programme.generate(1, first=AT, gross=("0.80", "EUR"))
    programme.attribute(made, scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    page = receipt_page(programme)
    assert "12.5 % of the revenue of each generation" in page
    assert "You earned EUR 0.02. About" in page
    assert "0.016000000" in page


def test_what_is_no_receipt_of_the_payee_is_not_found(one: Programme) -> None:
    client, unknown = one.client(0), "019e0000-0000-7000-8000-000000000000"
    assert client.get(f"/portal/receipts/{unknown}/").status_code == 404
    assert client.post(f"/portal/receipts/{unknown}/recompute/").status_code == 404
    assert client.get("/portal/receipts/not-a-number/").status_code == 404
