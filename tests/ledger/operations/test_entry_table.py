"""The table of entries, line by line: each operation debits and credits exactly the account kinds it is there for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

# ruff: noqa: E501  (a table reads better unbroken)
import pytest

from contributors.models import PPB
from ledger.models import Entry, EntryKind, Line
from ledger.operations import closing, payouts, programme, reserves, verbs
from ledger.queries.invariants import check_all
from tests.worlds.contracts import advance, cancel, terms
from tests.worlds.manual import post_by_hand
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import CENT, World, build_world

pytestmark = pytest.mark.django_db
DECEMBER = datetime(2026, 12, 3, tzinfo=UTC)
# kind: (debited, credited), where every line of the entry is named.
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "accrue": ({"service_unbilled"}, {"platform_fee", "floor_pool", "contributor_accrued"}),
    "distribute_floor": ({"floor_pool"}, {"contributor_accrued"}),
    "restate": ({"contributor_accrued"}, {"contributor_accrued"}),
    "open_dispute": ({"contributor_payable"}, {"on_hold"}),
    "decide_dispute": ({"on_hold"}, {"contributor_payable"}),
    "find_owner": ({"suspense_unmatched"}, {"contributor_accrued"}),
    "grant_advance": ({"advance"}, {"contributor_payable"}),
    "cancel_advance": ({"contributor_payable"}, {"advance"}),
    "close_guarantee": ({"programme_cost", "service_unbilled"}, {"contributor_accrued"}),
    "close_recover": ({"contributor_accrued"}, {"contributor_receivable"}),
    "close_recoup": ({"contributor_accrued"}, {"advance"}),
    "close_reserve": ({"contributor_accrued"}, {"reserve_held"}),
    "release_reserve": ({"reserve_held"}, {"contributor_payable"}),
    "close_payable": ({"contributor_accrued"}, {"contributor_payable"}),
    "payout_reserve": ({"contributor_payable"}, {"payouts_in_transit", "tax_payable"}),
    "payout_succeed": ({"payouts_in_transit"}, {"stripe_balance"}),
    "payout_refuse": ({"payouts_in_transit", "tax_payable"}, {"contributor_payable"}),
    "transfer_reversed": ({"stripe_balance"}, {"contributor_receivable", "contributor_payable"}),
    "withholding_reversed": ({"tax_payable"}, {"contributor_payable"}),
    "bank_return": ({"bank"}, {"contributor_payable"}),
    "remit_tax": ({"tax_payable"}, {"bank"}),
    "absorb_deficit": ({"contributor_receivable"}, {"stripe_balance"}),
    "write_off": ({"programme_cost"}, {"service_receivable"}),
    "exchange_debt": ({"contributor_payable", "fx_clearing"}, {"contributor_payable", "fx_clearing"}),
    "exchange_cash": ({"fx_clearing", "stripe_balance"}, {"fx_clearing", "stripe_balance"}),
    "invoice_service": ({"service_receivable"}, {"service_unbilled", "tax_payable"}),
    "collect": ({"bank"}, {"service_receivable"}),
    "prefund_service": ({"bank"}, {"service_deposit"}),
    "apply_deposit": ({"service_deposit"}, {"service_receivable"}),
    "top_up_stripe": ({"stripe_balance"}, {"bank"}),
    "sweep_stripe": ({"bank"}, {"stripe_balance"}),
    "stripe_fee": ({"fees"}, {"stripe_balance"}),
    "receive_unidentified": ({"bank"}, {"suspense_cash"}),
    "match_cash": ({"suspense_cash"}, {"service_receivable"}),
    "mark_dormant": ({"contributor_payable"}, {"unclaimed"}),
    "reclaim": ({"unclaimed"}, {"contributor_payable"}),
    "escheat": ({"unclaimed"}, {"bank"}),
    "capital": ({"bank"}, {"programme_equity"}),
    "manual": ({"programme_cost"}, {"contributor_payable", "suspense_unmatched"}),
    "reverse": ({"programme_equity"}, {"bank"}),
}
# Posted by the plans' operations, which have tests of their own.
ELSEWHERE = {"declare_pool", "accrue_pool", "void_generations", "restate_floor"}


def moved(entry: Entry) -> tuple[set[str], set[str]]:
    lines = list(Line.objects.filter(entry=entry).select_related("account"))
    return {n.account.kind for n in lines if n.amount < 0}, {n.account.kind for n in lines if n.amount > 0}


def test_every_kind_of_entry_moves_what_the_table_says_and_each_was_seen() -> None:
    world = build_world(OCTOBER, contributors=4)
    tell(world)
    found: dict[str, tuple[set[str], set[str]]] = {}
    for entry in Entry.objects.order_by("id"):
        debits, credits = moved(entry)
        before = found.get(entry.kind, (set(), set()))
        found[entry.kind] = (before[0] | debits, before[1] | credits)
    assert found == {kind: sides for kind, sides in TABLE.items() if kind in found}
    assert set(TABLE) - set(found) == set()
    assert set(TABLE) | ELSEWHERE == set(EntryKind.values)
    assert {r.name: r.rows for r in check_all() if r.rows} == {}


def tell(world: World) -> None:
    """Each operation of the table once, or as often as it takes."""
    at, (one, two, three, four) = OCTOBER, [c.pk for c in world.contributors]
    common: dict[str, Any] = {"currency": "USD", "at": at}
    service: dict[str, Any] = {"service": world.service, **common}
    book: dict[str, Any] = {"covers_rest": True, "guarantee": 200 * CENT, "guarantee_currency": "USD"}
    verbs.post_verb(verb="capital", amount=10**6 * CENT, reference="c", **common)
    undone = verbs.post_verb(verb="capital", amount=CENT, reference="twice", **common)
    from ledger import journal

    journal.reverse(entry_id=undone.entry_id, idem_key="undo", effective=at.date(), reference="booked twice")
    programme.top_up_stripe(amount=10**5 * CENT, reference="t", **common)
    verbs.post_verb(verb="sweep_stripe", amount=CENT, reference="s", **common)
    programme.record_stripe_fee(amount=CENT, reference="f", **common)
    terms(world, "book", covers_rest=True, guarantee=200 * CENT, guarantee_currency="USD", reserve_ppb=PPB // 2,
          release_months=[1], release_ppb=[PPB])  # fmt: skip
    terms(world, "tour", place=1, guarantee_payer="service", guarantee_service=world.service, **book)
    advance(world, "book", 10 * CENT)
    cancel(advance(world, "tour", 7 * CENT, place=1), world)
    verbs.post_verb(verb="absorb_deficit", contributor_id=one, amount=5 * CENT, reference="d", **common)
    verbs.post_verb(verb="prefund_service", amount=5 * CENT, reference="p", **service)
    made = world.generate(8)
    world.attribute(made, shares=[PPB // 2, PPB // 4, PPB // 4, 0], general=[PPB // 4] * 4)
    world.accrue_all()
    verbs.post_verb(verb="invoice_service", reference="I", tax=CENT, jurisdiction="DE", **service)
    verbs.post_verb(verb="apply_deposit", reference="I", **service)
    verbs.post_verb(verb="collect", amount=CENT, reference="w1", **service)
    verbs.post_verb(verb="receive_unidentified", amount=CENT, reference="w2", **common)
    verbs.post_verb(verb="match_cash", amount=CENT, reference="w2", **service)
    verbs.post_verb(verb="write_off_service", reference="w3", **service)
    verbs.post_verb(verb="remit_tax", jurisdiction="DE", tax_kind="sales", amount=CENT, reference="q", **common)
    for month in (202609, 202610):
        closing.close_period(period=month, at=NOVEMBER)
    world.at = common["at"] = NOVEMBER
    world.attribute(made[:1], shares=[0, 0, PPB // 2, PPB // 2], general=[PPB // 4] * 4, revision=2)
    world.accrue_all()
    endings: list[Callable[..., int]] = [payouts.succeed_payout, payouts.refuse_payout]
    for n, ending in enumerate(endings):
        key = f"po{n}"
        reserve = payouts.reserve_payout(
            contributor_id=two, gross=10 * CENT, tax=CENT, rail="stripe", attempt_key=key, **common
        )
        more: dict[str, Any] = {"currency": "USD", "net": 9 * CENT} if n == 0 else {}
        ending(reserve_entry=reserve, attempt_key=key, at=NOVEMBER, **more)
    verbs.post_verb(verb="absorb_deficit", contributor_id=two, amount=CENT, reference="d2", **common)
    payouts.record_transfer_reversal(contributor_id=two, amount=9 * CENT, reversal_id="r", **common)
    payouts.reverse_withholding(contributor_id=two, amount=CENT, reversal_id="r", **common)
    payouts.record_bank_return(contributor_id=two, amount=CENT, return_id="b", **common)
    verbs.post_verb(verb="open_dispute", reference="1", contributor_id=two, amount=5 * CENT, payable=True, **common)
    verbs.post_verb(verb="decide_dispute", reference="1", awards={three: 5 * CENT}, **common)
    cost, work = (journal.AccountKey(*k) for k in (("programme_cost", "USD"), ("suspense_unmatched", "USD", "work:1")))
    post_by_hand([(cost, -3), (work, 2), (world.key("contributor_payable", 3), 1)], NOVEMBER)
    verbs.post_verb(verb="find_owner", work_id=1, contributor_id=four, reference="o", **common)
    verbs.post_verb(
        verb="exchange_debt",
        contributor_id=two,
        amount=CENT,
        into="EUR",
        rate="0.9",
        source="ECB",
        reference="x",
        **common,
    )
    verbs.post_verb(verb="exchange_cash", amount=CENT, into="EUR", rate="0.9", source="Stripe", reference="y", **common)
    for verb, reference in [
        ("mark_dormant", "1"),
        ("reclaim", "1"),
        ("mark_dormant", "2"),
        ("escheat", "2"),
    ]:
        verbs.post_verb(verb=verb, contributor_id=three, reference=reference, **common)
    reserves.release_reserves(at=DECEMBER)


# --- bad input: the reason is named, and no row is written --------------------------------------------------------
NOTHING_THERE: list[tuple[str, Callable[[World], Any], str]] = [
    ("zero", lambda w: verbs.post_verb(verb="capital", amount=0, currency="USD", reference="r", at=w.at), "whole number but 0"),
    ("range", lambda w: verbs.post_verb(verb="capital", amount=2**63, currency="USD", reference="r", at=w.at), "larger than"),
    ("currency", lambda w: verbs.post_verb(verb="capital", amount=1, currency="XXX", reference="r", at=w.at), "no currency 'XXX'"),
    ("claim", lambda w: verbs.post_verb(verb="find_owner", work_id=1, contributor_id=1, currency="USD", reference="r", at=w.at),
     "nothing on"),
    ("dispute", lambda w: verbs.post_verb(verb="open_dispute", reference="1", contributor_id=w.contributors[0].pk, currency="USD",
                                                  amount=1, payable=True, at=w.at), "below its minimum"),
    ("awards", lambda w: verbs.post_verb(verb="decide_dispute", reference="1", currency="USD", awards={1: 5}, at=w.at), "awards sum"),
    ("dormant", lambda w: verbs.post_verb(verb="mark_dormant", contributor_id=1, currency="USD", reference="r", at=w.at), "nothing on"),
    ("escheat", lambda w: verbs.post_verb(verb="escheat", contributor_id=1, currency="USD", reference="r", at=w.at), "nothing on"),
    ("write-off", lambda w: verbs.post_verb(verb="write_off_contributor", contributor_id=1, currency="USD", reference="r", at=w.at),
     "nothing on"),
    ("rate", lambda w: verbs.post_verb(verb="exchange_cash", amount=5, currency="USD", into="EUR", rate="0", source="s",
                                                reference="r", at=w.at), "is no exchange"),
    ("reserve", lambda w: payouts.reserve_payout(contributor_id=w.contributors[0].pk, currency="USD", gross=CENT,
                                                    tax=0, rail="stripe", attempt_key="k", at=w.at), "below its minimum"),
    ("fraction", lambda w: payouts.reserve_payout(contributor_id=w.contributors[0].pk, currency="USD", gross=CENT + 1,
                                                     tax=0, rail="stripe", attempt_key="k", at=w.at), "not payable"),
    ("month", lambda w: closing.close_period(period=202001, at=w.at), "no period"),
    ("terms", lambda w: terms(w, "b", begins=date(2020, 1, 1)), "not open"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("act", "named"), [(act, named) for _, act, named in NOTHING_THERE], ids=[name for name, _, _ in NOTHING_THERE]
)
def test_what_cannot_be_posted_is_refused_with_the_reason_and_no_row_is_written(
    at: datetime, act: Callable[[World], Any], named: str
) -> None:
    world = build_world(at, contributors=1)
    before = Entry.objects.count()
    with pytest.raises(Exception, match=named) as refused:
        act(world)
    assert getattr(refused.value, "problem", "")
    assert (Entry.objects.count(), Line.objects.count()) == (before, 0)
