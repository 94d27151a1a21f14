"""The earnings of a disputed share are held, and go to the co-author that the decision names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from contributors.models import PPB, Holder, SplitDispute
from contributors.operations.people import register_holder
from contributors.operations.splits import UnableToContestShare, contest_share
from ledger import journal
from ledger.journal import AccountKey
from ledger.models import Entry
from ledger.operations import closing, contests
from ledger.queries.invariants import check_all
from tests.worlds.manual import finance
from tests.worlds.pages import text_of
from tests.worlds.programme import Programme
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import PRICE, World, build_world

pytestmark = pytest.mark.django_db
WHOLE = PRICE * 4 // 5
DECEMBER = datetime(2026, 12, 2, tzinfo=UTC)


@pytest.fixture
def world(at: datetime) -> World:
    return build_world(OCTOBER, contributors=2)


@pytest.fixture
def duo(world: World) -> Holder:
    ada, ben = world.contributors
    begin = OCTOBER - timedelta(days=30)
    return register_holder(
        contributor=ada, label="Duo", parts={ada: PPB // 2, ben: PPB // 2}, effective_from=begin, at=begin
    )


def contest(world: World, duo: Holder, ppb: int = PPB // 4) -> SplitDispute:
    ada, ben = world.contributors
    return contest_share(
        holder=duo, claimant=ada, against=ben, ppb=ppb, reason="I wrote it", by=world.users[0], at=world.at
    )


def earn(world: World, duo: Holder, n: int = 1) -> list[object]:
    made = world.generate(n)
    world.attribute(made, holders=[duo], shares=[PPB], general=[0], weight_ppb=PPB)
    world.accrue_all()
    return list(made)


def close_october() -> None:
    for month in (202609, 202610):
        closing.close_period(period=month, at=NOVEMBER)


def held(dispute: SplitDispute) -> int:
    return journal.balance(AccountKey("on_hold", "USD", f"dispute:split-{dispute.pk}"))


def the_books_hold() -> None:
    assert {r.name: r.rows for r in check_all() if r.rows} == {}


def test_a_contested_share_is_put_on_hold_and_the_rest_is_paid(world: World, duo: Holder) -> None:
    dispute = contest(world, duo)
    earn(world, duo)
    close_october()
    direct = WHOLE * 4 // 5
    assert held(dispute) == direct // 4
    assert [world.balance("contributor_payable", n) for n in range(2)] == [direct // 2, direct // 4]
    assert contests.hold_contested(at=NOVEMBER) == 0
    the_books_hold()


@pytest.mark.parametrize(("upheld", "winner"), [(True, 0), (False, 1)])
def test_what_is_held_goes_to_whom_the_decision_names(world: World, duo: Holder, upheld: bool, winner: int) -> None:
    dispute = contest(world, duo)
    earn(world, duo)
    close_october()
    before = [world.balance("contributor_payable", n) for n in range(2)]
    world.at = NOVEMBER
    earn(world, duo)
    amount = 2 * held(dispute)
    decided = contests.decide_contest(
        dispute=dispute, upheld=upheld, answer="The draft is signed.", by=finance(NOVEMBER)[0], at=NOVEMBER
    )
    assert decided.state == ("upheld" if upheld else "declined")
    after = [world.balance("contributor_payable", n) for n in range(2)]
    assert after[winner] - before[winner] == amount
    assert after[1 - winner] == before[1 - winner]
    assert held(dispute) == 0
    with pytest.raises(UnableToContestShare, match="already"):
        contests.decide_contest(dispute=dispute, upheld=True, answer="x", by=finance(NOVEMBER)[0], at=NOVEMBER)
    # Earnings after the decision are split as the sheet says.
    earn(world, duo)
    assert not SplitDispute.objects.filter(state="open").exists()
    closing.close_period(period=202611, at=DECEMBER)
    assert held(dispute) == 0
    the_books_hold()


def test_a_restatement_after_the_decision_is_recovered_as_any_other(world: World, duo: Holder) -> None:
    dispute = contest(world, duo)
    made = earn(world, duo)
    close_october()
    contests.decide_contest(
        dispute=dispute, upheld=True, answer="The draft is signed.", by=finance(NOVEMBER)[0], at=NOVEMBER
    )
    world.at = NOVEMBER
    world.attribute(made, holders=[world.holders[0]], shares=[0], general=[0], weight_ppb=PPB, revision=2)  # type: ignore[arg-type]
    world.accrue_all()
    closing.close_period(period=202611, at=DECEMBER)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(posted) FROM ledger_balance b JOIN ledger_account a ON a.id = b.account_id"
            " WHERE a.kind = 'contributor_accrued'"
        )
        assert cursor.fetchone() == (0,)
    the_books_hold()


def test_a_decision_has_words_and_is_made_by_somebody_else_and_not_during_a_close(world: World, duo: Holder) -> None:
    dispute = contest(world, duo)
    with pytest.raises(contests.UnableToSettleClaim, match="checks and findings"):
        contests.decide_contest(dispute=dispute, upheld=True, answer=" ", by=finance(NOVEMBER)[0], at=NOVEMBER)
    with pytest.raises(UnableToContestShare, match="somebody other than its claimant"):
        contests.decide_contest(dispute=dispute, upheld=True, answer="x", by=world.users[0], at=NOVEMBER)
    closing.close_period(period=202609, at=NOVEMBER)
    from ledger.models import Period

    Period.objects.filter(pk=202610).update(state="closing")
    with pytest.raises(contests.UnableToSettleClaim, match="close is finished"):
        contests.decide_contest(dispute=dispute, upheld=True, answer="x", by=finance(NOVEMBER)[0], at=NOVEMBER)
    dispute.refresh_from_db()
    assert (dispute.state, Entry.objects.filter(kind="decide_dispute").count()) == ("open", 0)


def test_a_contested_share_is_decided_on_its_page(programme: Programme) -> None:
    one, two = programme.contributors[:2]
    begin = datetime(2026, 9, 1, tzinfo=UTC)
    holder = register_holder(
        contributor=one, label="Together", parts={one: PPB // 2, two: PPB // 2}, effective_from=begin, at=begin
    )
    dispute = contest_share(
        holder=holder, claimant=one, against=two, ppb=PPB // 4, reason="mine", by=programme.members[0], at=NOVEMBER
    )
    checker = programme.staff_client("finance_checker")
    assert "Together" in text_of(checker.get("/console/contested-shares/").content)
    address = f"/console/contested-shares/{dispute.pk}/"
    assert "Nothing" in text_of(checker.get(address).content)
    assert programme.staff_client("auditor").post(address, {"decision": "upheld", "words": "x"}).status_code == 403
    assert checker.post(address, {"decision": "upheld", "words": ""}).status_code == 422
    assert checker.post(address, {"decision": "declined", "words": "The sheet is signed by both."}).status_code == 302
    page = text_of(programme.client(0).get("/portal/splits/").content)
    assert "The sheet is signed by both." in page
