import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.journal import CHART
from ledger.models import Asset
from ledger.money import (
    ASSETS,
    PPB,
    UNITS_MAX,
    UnableToApportion,
    UnableToParseAmount,
    apportion,
    apportion_rows,
    format_amount,
    parse_amount,
    tie_key,
    to_minor,
    whole_minor,
)


@pytest.mark.parametrize(
    ("text", "code", "units"),
    [
        ("0.05", "USD", 50_000_000),
        ("12", "JPY", 120_000_000),
        ("0.000000001", "USD", 1),
        ("-1.5", "KWD", -1_500_000_000),
        ("9223372036.854775807", "USD", UNITS_MAX),
    ],
)
def test_a_decimal_string_is_read_exactly(text: str, code: str, units: int) -> None:
    assert parse_amount(text, code) == units


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("0.0000000001", "USD", "10 decimals"),
        ("1e3", "USD", "no decimal amount"),
        ("", "USD", "no decimal amount"),
        ("1,5", "USD", "no decimal amount"),
        ("+1", "USD", "no decimal amount"),
        ("NaN", "USD", "no decimal amount"),
        ("9223372036.854775808", "USD", "larger than"),
        ("1", "XXX", "no currency"),
        ("1.", "USD", "no decimal amount"),
        ("٣", "USD", "no decimal amount"),
    ],
)
def test_a_string_that_is_no_amount_is_refused_by_name(text: str, code: str, named: str) -> None:
    with pytest.raises(UnableToParseAmount, match=named):
        parse_amount(text, code)


@given(st.integers(-UNITS_MAX, UNITS_MAX), st.sampled_from(sorted(ASSETS)))
def test_every_amount_survives_being_written_and_read(units: int, code: str) -> None:
    assert parse_amount(format_amount(units, code), code) == units
    assert parse_amount(format_amount(units, code, decimals=2), code) == units


def test_an_amount_may_be_shown_with_fewer_decimals_but_never_rounded() -> None:
    assert format_amount(50_000_000, "USD", decimals=2) == "0.05"
    assert format_amount(50_000_001, "USD", decimals=2) == "0.050000001"
    assert format_amount(120_000_000, "JPY", decimals=0) == "12"
    assert format_amount(-1, "JPY") == "-0.0000001"


@pytest.mark.parametrize(("code", "minor"), [("USD", 10_000_000), ("JPY", 10_000_000), ("KWD", 1_000_000)])
def test_what_is_paid_is_whole_minor_units_and_the_rest_stays(code: str, minor: int) -> None:
    assert whole_minor(3 * minor + 1, code) == 3 * minor
    assert to_minor(3 * minor, code) == 3
    with pytest.raises(UnableToParseAmount, match="not payable"):
        to_minor(3 * minor + 1, code)


# --- apportionment ------------------------------------------------------------------------------------------------
weights = st.lists(st.integers(0, PPB), min_size=1, max_size=30).filter(sum)
totals = st.one_of(st.integers(0, 200), st.integers(0, UNITS_MAX))


@given(totals, weights)
def test_parts_sum_exactly_and_are_within_one_unit_of_their_quota(total: int, ppb: list[int]) -> None:
    parts = apportion(total, ppb, [tie_key(b"x", i) for i in range(len(ppb))])
    assert sum(parts) == total
    for part, weight in zip(parts, ppb, strict=True):
        assert abs(part * sum(ppb) - total * weight) < sum(ppb)
        assert part == 0 or weight > 0


@given(totals, weights, st.randoms())
def test_the_order_in_which_shares_are_listed_changes_nothing(total: int, ppb: list[int], random: object) -> None:
    names = list(range(len(ppb)))
    straight = dict(zip(names, apportion(total, ppb, [tie_key(b"x", i) for i in names]), strict=True))
    random.shuffle(names)  # type: ignore[attr-defined]
    shuffled = apportion(total, [ppb[i] for i in names], [tie_key(b"x", i) for i in names])
    assert dict(zip(names, shuffled, strict=True)) == straight


@given(st.data())
@settings(max_examples=200)
def test_many_rows_at_once_give_what_each_alone_gives(data: st.DataObject) -> None:
    n, m = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 9))
    rows = []
    for _ in range(n):
        raw = data.draw(st.lists(st.sampled_from([0, 1, 1, 3, 7]), min_size=m, max_size=m).filter(sum))
        rows.append(apportion(PPB, raw, [tie_key(b"w", i) for i in range(m)]))
    amounts = data.draw(st.lists(totals, min_size=n, max_size=n))
    subjects = [bytes([i]) for i in range(n)]
    numbers = data.draw(st.permutations(range(m)))
    found = apportion_rows(np.array(amounts), np.array(rows), subjects, numbers)
    for i in range(n):
        assert found[i].tolist() == apportion(amounts[i], rows[i], [tie_key(subjects[i], j) for j in numbers])


def test_ties_fall_on_everybody_alike() -> None:
    n, rounds = 4, 20_000
    subjects = [hashlib.sha256(str(i).encode()).digest()[:16] for i in range(rounds)]
    parts = apportion_rows(np.full(rounds, 1), np.full((rounds, n), PPB // n), subjects, range(n))
    wins = parts.sum(axis=0)
    # Four standard deviations of a fair draw.
    assert abs(wins - rounds / n).max() < 4 * (rounds / n * (1 - 1 / n)) ** 0.5


@pytest.mark.parametrize("bad", [[PPB - 1], [PPB + 1], [-1, PPB + 1], [0, 0]])
def test_shares_that_do_not_sum_to_a_billion_are_refused(bad: list[int]) -> None:
    with pytest.raises(UnableToApportion):
        apportion_rows(np.array([5]), np.array([bad]), [b"x"], range(len(bad)))


def test_nothing_is_divided_by_no_weight_at_all() -> None:
    with pytest.raises(UnableToApportion):
        apportion(5, [0, 0], [b"a", b"b"])
    with pytest.raises(UnableToApportion):
        apportion(-5, [1], [b"a"])
    with pytest.raises(UnableToApportion):
        apportion(5, [1, 1], [b"a"])


# --- data that stands in two places -------------------------------------------------------------------------------
@pytest.mark.django_db
def test_the_database_keeps_the_same_assets() -> None:
    stored = {a.code: (a.pk, a.scale, a.exponent) for a in Asset.objects.all()}
    assert stored == {code: (a.id, a.scale, a.exponent) for code, a in ASSETS.items()}


@pytest.mark.django_db
def test_the_database_has_the_same_chart_of_accounts() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT kind, normal_side, never_negative, owner_word, takes_contract FROM ledger_account_kind")
        stored = {row[0]: row[1:] for row in cursor.fetchall()}
    assert stored == {k: (v.normal_side, v.never_negative, v.owner, v.takes_contract) for k, v in CHART.items()}
