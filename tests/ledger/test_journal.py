from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from ledger import journal
from ledger.documents import Document, on_the_wire
from ledger.journal import AccountKey, UnableToPost, post
from ledger.models import Account, Balance, Entry, Line, Period
from ledger.money import UNITS_MAX
from ledger.operations.periods import open_periods
from people.models import uuid7

pytestmark = pytest.mark.django_db

BANK = AccountKey("bank", "USD")
EQUITY = AccountKey("programme_equity", "USD")
ADA = AccountKey("contributor_payable", "USD", "contributor:1")
TODAY = date(2026, 11, 20)


@pytest.fixture(autouse=True)
def periods(at: datetime) -> None:
    open_periods(at=at)


def post_capital(key: str = "k1", amount: int = 100, **changes: Any) -> journal.Posted:
    arguments: dict[str, Any] = {
        "kind": "capital",
        "idem_key": key,
        "effective": TODAY,
        "lines": [(BANK, -amount), (EQUITY, amount)],
    }
    return post(**{**arguments, **changes})


def nothing_was_written() -> bool:
    return not Entry.objects.exists() and not Line.objects.exists()


def test_an_entry_moves_balances_and_keeps_what_stood_after_it() -> None:
    post_capital("k1", 100)
    post_capital("k2", 50)
    assert journal.balance(BANK) == -150
    assert journal.owed(BANK) == 150
    lines = Line.objects.filter(account__kind="bank").order_by("entry_id")
    assert [(line.amount, line.balance_after, line.version) for line in lines] == [(-100, -100, 1), (-50, -150, 2)]


def test_balances_are_known_as_of_an_entry_and_as_of_a_moment() -> None:
    first = post_capital("k1", 100)
    between = Entry.objects.get(pk=first.entry_id).posted_at
    post_capital("k2", 50)
    assert [journal.balance(EQUITY, as_of) for as_of in (0, 1, 2, None)] == [0, 100, 150, 150]
    assert journal.balance(EQUITY, between) == 100
    assert journal.balance(EQUITY, between - timedelta(microseconds=1)) == 0


def test_accounts_are_found_whatever_a_session_puts_before_their_table() -> None:
    post_capital("k1", 100)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE ledger_account (LIKE public.ledger_account) ON COMMIT DROP")
    assert journal.balance(EQUITY) == 100


def test_the_same_request_again_returns_the_stored_entry_and_writes_nothing() -> None:
    first = post_capital()
    again = post_capital(effective=TODAY - timedelta(days=3))
    assert (again.entry_id, again.replayed, first.replayed) == (first.entry_id, True, False)
    assert journal.balance(BANK) == -100


@pytest.mark.parametrize(
    "other",
    [
        {"amount": 101},
        {"kind": "collect"},
        {"reference": "x"},
        {"rule_version": "x"},
        {"earned_period": 202610},
        {"lines": [(BANK, -100), (ADA, 100)]},
    ],
    ids=lambda other: next(iter(other)),
)
def test_a_key_that_stands_for_another_request_is_refused(other: dict[str, Any]) -> None:
    post_capital()
    with pytest.raises(UnableToPost, match="says something else") as refused:
        post_capital(**other)
    assert (refused.value.problem, refused.value.status) == ("key-reused", 409)
    assert Entry.objects.count() == 1


BAD_LINES: dict[str, tuple[Callable[[], Any], str]] = {
    "unbalanced": (lambda: [(BANK, -100), (EQUITY, 99)], "unbalanced"),
    "one line": (lambda: [(BANK, -100)], "unbalanced"),
    "no line": (list, "unbalanced"),
    "two assets that net": (lambda: [(BANK, -100), (AccountKey("bank", "EUR"), 100)], "unbalanced"),
    "zero": (lambda: [(BANK, 0), (EQUITY, 0)], "amount-invalid"),
    "a float": (lambda: [(BANK, -1.5), (EQUITY, 1.5)], "amount-invalid"),
    "a bool": (lambda: [(BANK, True), (EQUITY, -1)], "amount-invalid"),
    "lines that cancel on one account": (lambda: [(BANK, -1), (BANK, 1)], "amount-invalid"),
    "too large": (lambda: [(BANK, -UNITS_MAX - 1), (EQUITY, UNITS_MAX + 1)], "amount-out-of-range"),
    "a sum too large": (lambda: [(EQUITY, UNITS_MAX), (EQUITY, 1), (BANK, -UNITS_MAX), (BANK, -1)],
                        "amount-out-of-range"),
    "an unknown kind": (lambda: [(AccountKey("wallet", "USD"), -1), (EQUITY, 1)], "unknown-account"),
    "an unknown currency": (lambda: [(AccountKey("bank", "XXX"), -1), (EQUITY, 1)], "unknown-asset"),
    "an owner too many": (lambda: [(AccountKey("bank", "USD", "rail:x"), -1), (EQUITY, 1)], "unknown-account"),
    "an owner that lacks": (lambda: [(AccountKey("contributor_payable", "USD"), -1), (EQUITY, 1)], "unknown-account"),
    "an owner without a number": (lambda: [(AccountKey("contributor_payable", "USD", "contributor:"), 1), (BANK, -1)],
                                  "unknown-account"),
    "another's owner": (lambda: [(AccountKey("contributor_payable", "USD", "service:1"), 1), (BANK, -1)],
                        "unknown-account"),
    "a contract where there is none": (lambda: [(AccountKey("bank", "USD", "", "c1"), -1), (EQUITY, 1)],
                                       "unknown-account"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_lines_are_refused_with_the_reason_named(case: str) -> None:
    lines, problem = BAD_LINES[case]
    with pytest.raises(UnableToPost) as refused:
        post_capital(lines=lines())
    assert refused.value.problem == problem
    assert nothing_was_written()


@pytest.mark.parametrize("case", ["unbalanced", "two assets that net", "zero", "lines that cancel on one account"])
def test_the_database_refuses_bad_lines_by_itself(case: str) -> None:
    keys, amounts = zip(*BAD_LINES[case][0](), strict=True)
    with pytest.raises(UnableToPost):
        journal._fetch(
            "SELECT * FROM ledger_post('capital', 'k', %s, ledger_open_accounts(%s::text[], %s::text[], %s::text[],"
            " %s::text[]), %s::bigint[], NULL, NULL, '', '')",
            [TODAY, *journal._columns(keys), list(amounts)],
        )
    assert nothing_was_written()


def test_the_database_opens_no_account_that_the_chart_lacks() -> None:
    for key in [
        ("wallet", "USD", "", ""),
        ("bank", "USD", "rail:x", ""),
        ("contributor_payable", "USD", "", ""),
        ("contributor_payable", "USD", "contributor:", ""),
        ("bank", "USD", "", "c"),
        ("bank", "XX", "", ""),
    ]:
        with pytest.raises(UnableToPost) as refused:
            journal._fetch(
                "SELECT ledger_open_accounts(%s::text[], %s::text[], %s::text[], %s::text[])", [[x] for x in key]
            )
        assert refused.value.problem == "unknown-account"
    assert not Account.objects.exists()


def test_no_account_falls_below_its_minimum() -> None:
    post(kind="bank_return", idem_key="k1", effective=TODAY, lines=[(BANK, -100), (ADA, 100)])
    with pytest.raises(UnableToPost, match="below its minimum") as refused:
        post(kind="bank_return", idem_key="k2", effective=TODAY, lines=[(BANK, 101), (ADA, -101)])
    assert refused.value.problem == "below-minimum"
    assert journal.balance(ADA) == 100
    advance = AccountKey("advance", "USD", "contributor:1", "book")
    with pytest.raises(UnableToPost, match="below its minimum"):
        post(kind="capital", idem_key="k3", effective=TODAY, lines=[(BANK, -1), (advance, 1)])


def test_an_entry_is_dated_in_an_open_period_only() -> None:
    for day in (date(2026, 8, 31), date(2027, 1, 1)):
        with pytest.raises(UnableToPost, match="not open yet") as refused:
            post_capital(effective=day)
        assert refused.value.problem == "period-not-open"
    Period.objects.filter(pk=202610).update(state="closing")
    with pytest.raises(UnableToPost, match="closing"):
        post_capital(effective=date(2026, 10, 31))
    assert post_capital(kind="close_payable", effective=date(2026, 10, 31)).entry_id == 1


def test_nothing_is_earned_in_a_period_to_come() -> None:
    with pytest.raises(UnableToPost) as refused:
        post_capital(earned_period=202612)
    assert refused.value.problem == "period-not-open"


def test_a_reversal_restores_every_balance_and_can_be_made_once() -> None:
    posted = post_capital()
    reversal = journal.reverse(entry_id=posted.entry_id, idem_key="r1", effective=TODAY, reference="wrong")
    assert journal.balance(BANK) == journal.balance(EQUITY) == 0
    assert Entry.objects.get(pk=reversal.entry_id).reverses_id == posted.entry_id
    assert journal.reverse(entry_id=1, idem_key="r1", effective=TODAY, reference="wrong").replayed
    with pytest.raises(UnableToPost, match="reversed already"):
        journal.reverse(entry_id=posted.entry_id, idem_key="r2", effective=TODAY, reference="again")
    with pytest.raises(UnableToPost, match="a reversal itself"):
        journal.reverse(entry_id=reversal.entry_id, idem_key="r3", effective=TODAY, reference="back")
    with pytest.raises(UnableToPost, match="there is none"):
        journal.reverse(entry_id=99, idem_key="r4", effective=TODAY, reference="?")


def test_an_entry_that_claims_to_reverse_another_is_its_opposite() -> None:
    post_capital()
    with pytest.raises(UnableToPost, match="not the opposite"):
        post_capital("r", lines=[(BANK, 99), (EQUITY, -99)], reverses=1)


def test_numbers_are_gapless_although_postings_fail_between() -> None:
    for n in range(5):
        post_capital(f"k{n}")
        with pytest.raises(UnableToPost):
            post(kind="bank_return", idem_key=f"f{n}", effective=TODAY, lines=[(BANK, 1), (ADA, -1)])
    assert list(Entry.objects.order_by("id").values_list("id", flat=True)) == [1, 2, 3, 4, 5]


# --- documents ----------------------------------------------------------------------------------------------------
def document(**changes: Any) -> Document:
    source, one, two = journal.open_accounts([AccountKey("service_unbilled", "USD", "service:1"), *accrued(1, 2)])
    arguments: dict[str, Any] = {
        "generation_id": uuid7(),
        "revision": 1,
        "plan_id": 1,
        "source_id": source,
        "gross": 10,
        "account_ids": [one, two],
        "amounts": [3, 7],
    }
    return Document(**{**arguments, **changes})


def accrued(*numbers: int, asset: str = "USD") -> list[AccountKey]:
    return [AccountKey("contributor_accrued", asset, f"contributor:{n}") for n in numbers]


def post_documents(*documents: Document, key: str = "b1", **changes: Any) -> journal.Posted:
    arguments: dict[str, Any] = {"effective": TODAY, "earned_period": 202611, "idem_key": key}
    return journal.post_accruals(documents=documents, **{**arguments, **changes})


def opposite(d: Document, **changes: Any) -> Document:
    arguments = {
        "generation_id": d.generation_id,
        "revision": -d.revision,
        "plan_id": d.plan_id,
        "source_id": d.source_id,
        "gross": -d.gross,
        "account_ids": d.account_ids,
        "amounts": [-m for m in d.amounts],
    }
    return Document(**{**arguments, **changes})


def test_documents_are_summed_into_one_line_an_account() -> None:
    posted = post_documents(document(), document())
    assert [journal.balance(key) for key in accrued(1, 2)] == [6, 14]
    entry = Entry.objects.get(pk=posted.entry_id)
    assert (entry.n_docs, entry.n_lines, entry.total) == (2, 3, 20)


def test_a_batch_delivered_again_is_recognised_before_a_row_is_copied() -> None:
    documents = [document(), document()]
    first = post_documents(*documents)
    again = post_documents(*reversed(documents), effective=TODAY + timedelta(days=1))
    assert (again.entry_id, again.replayed) == (first.entry_id, True)
    assert journal.balance(accrued(1)[0]) == 6


def test_a_batch_with_the_key_of_another_is_refused() -> None:
    post_documents(document())
    with pytest.raises(UnableToPost) as refused:
        post_documents(document())
    assert refused.value.problem == "key-reused"


def test_the_same_generation_twice_is_impossible() -> None:
    one = document()
    post_documents(one)
    with pytest.raises(UnableToPost) as refused:
        post_documents(one, key="b2")
    assert refused.value.problem == "document-exists"
    with pytest.raises(UnableToPost, match="has an accrual already"):
        post_documents(document(generation_id=one.generation_id, revision=2), key="b3")


def test_a_restatement_reverses_and_posts_again_in_one_entry() -> None:
    one = document()
    post_documents(one)
    again = document(generation_id=one.generation_id, revision=2, amounts=[9, 1])
    post_documents(opposite(one), again, key="b2", kind="restate")
    assert [journal.balance(key) for key in accrued(1, 2)] == [9, 1]


def test_a_restatement_that_changes_nothing_is_an_entry_without_lines() -> None:
    one = document()
    post_documents(one)
    same = document(generation_id=one.generation_id, revision=2)
    posted = post_documents(opposite(one), same, key="b2", kind="restate")
    entry = Entry.objects.get(pk=posted.entry_id)
    assert (entry.n_lines, entry.n_docs, entry.total) == (0, 2, 0)


def test_a_voided_generation_leaves_no_accrual() -> None:
    one = document()
    post_documents(one)
    post_documents(opposite(one), key="b2", kind="void_generations")
    assert [journal.balance(key) for key in accrued(1, 2)] == [0, 0]


@pytest.mark.parametrize(
    "changes",
    [{"amounts": [-2, -8]}, {"gross": -11, "amounts": [-4, -7]}, {"plan_id": 2}, {"revision": -2}],
    ids=["amounts", "gross", "plan", "revision"],
)
def test_a_reversal_of_documents_is_exact(changes: dict[str, Any]) -> None:
    one = document()
    post_documents(one)
    with pytest.raises(UnableToPost) as refused:
        post_documents(opposite(one, **changes), key="b2", kind="restate")
    assert refused.value.problem == "document-refused"


BAD_DOCUMENTS: dict[str, dict[str, Any]] = {
    "a sum that is off": {"amounts": [3, 8]},
    "a zero credit": {"amounts": [10, 0]},
    "a negative credit": {"amounts": [11, -1]},
    "a negative gross": {"gross": -10, "amounts": [-3, -7]},
    "no credits": {"account_ids": [], "amounts": []},
    "more amounts than accounts": {"amounts": [3, 3, 4]},
    "accounts that do not exist": {"account_ids": [256 * 10**9 + 1, 256 * 10**8 + 1]},
    "accounts that do not exist, before all others": {"account_ids": [1 - 2 * 256, 1 - 256]},
    "a first account that was never opened": {"account_ids": [1, 256 * 10**9 + 1]},
    "revision zero": {"revision": 0},
}


@pytest.mark.parametrize("case", BAD_DOCUMENTS)
def test_bad_documents_are_refused(case: str) -> None:
    with pytest.raises(UnableToPost):
        post_documents(document(**BAD_DOCUMENTS[case]))
    assert nothing_was_written()


def test_the_accounts_of_a_document_have_one_asset() -> None:
    euro = journal.open_accounts(accrued(1, 2, asset="EUR"))
    with pytest.raises(UnableToPost, match="another asset"):
        post_documents(document(account_ids=euro))
    source = journal.open_accounts([AccountKey("service_unbilled", "EUR", "service:1")])[0]
    with pytest.raises(UnableToPost, match="one asset"):
        post_documents(document(), document(source_id=source, account_ids=euro))
    assert nothing_was_written()


def test_an_entry_with_documents_is_not_simply_reversed() -> None:
    post_documents(document())
    with pytest.raises(UnableToPost, match="restated instead"):
        journal.reverse(entry_id=1, idem_key="r", effective=TODAY, reference="no")


def test_a_matured_payable_leaves_out_what_late_closes_brought_and_keeps_what_came_back() -> None:
    for month, amount in [(10, 100), (11, 30)]:
        day = date(2026, month, 30)
        post(
            kind="close_payable",
            idem_key=f"close{month}",
            effective=day,
            lines=[(accrued(1)[0], -amount), (ADA, amount)],
        )
    assert [journal.matured(ADA, day) for day in (date(2026, 11, 30), date(2026, 12, 1))] == [100, 130]
    taken = post(
        kind="payout_reserve",
        idem_key="p",
        effective=TODAY,
        lines=[(ADA, -90), (AccountKey("payouts_in_transit", "USD", "rail:stripe"), 90)],
    )
    assert journal.matured(ADA, date(2026, 11, 30)) == 10
    journal.reverse(entry_id=taken.entry_id, idem_key="r", effective=TODAY, reference="refused")
    assert journal.matured(ADA, date(2026, 11, 30)) == 100
    nobody, late = (AccountKey("contributor_payable", "USD", f"contributor:{number}") for number in (9, 2))
    post(kind="close_payable", idem_key="d", effective=TODAY, lines=[(accrued(2)[0], -7), (late, 7)])
    assert journal.matured_balances([nobody, ADA, late], TODAY) == {nobody: 0, ADA: 100, late: 0}
    assert journal.matured_balances([], TODAY) == {}


def test_accounts_carry_their_asset_in_their_number() -> None:
    for code, number in [("USD", 1), ("JPY", 3), ("BHD", 16)]:
        account_id = journal.open_accounts([AccountKey("bank", code)])[0]
        assert account_id % 256 == number
        assert Balance.objects.get(pk=account_id).posted == 0
    assert journal.open_accounts([AccountKey("bank", "USD")] * 3) == [journal.open_accounts([BANK])[0]] * 3


def test_the_digest_made_before_the_copy_is_that_of_the_stored_rows() -> None:
    documents = [document(), document(amounts=[1, 9])]
    digest = on_the_wire(documents).digest
    post_documents(*documents)
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_digest_documents(batch_id) FROM ledger_entry")
        assert bytes(cursor.fetchone()[0]) == digest
