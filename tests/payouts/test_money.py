"""The amounts that a rail can pay: multiples, minimums, and the split into gross, tax and net."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payouts.rails import amounts


@given(
    st.integers(0, 10**12),
    st.sampled_from([0, 1, 100_000_000, 150_000_000, 240_000_000, 300_000_000, 999_999_999]),
    st.sampled_from(["USD", "JPY", "KWD", "HUF", "TWD"]),
)
def test_gross_is_tax_plus_net_and_nothing_is_lost(payable: int, ppb: int, currency: str) -> None:
    gross, tax, net = amounts.split(payable, withholding_ppb=ppb, currency=currency)
    assert gross == tax + net
    assert 0 <= gross <= payable
    assert net % amounts.multiple(currency) == 0
    assert tax == gross * ppb // 1_000_000_000
    # The available sum could not have paid a further multiple.
    more = net + amounts.multiple(currency)
    assert payable - payable * ppb // 1_000_000_000 < more


@pytest.mark.parametrize(
    ("currency", "payable", "net"),
    [("USD", 1_234, 1_234), ("HUF", 123_456, 123_400), ("TWD", 99, 0), ("KWD", 12_345, 12_340), ("JPY", 7, 7)],
)
def test_what_is_below_a_payable_multiple_stays_owed(currency: str, payable: int, net: int) -> None:
    assert amounts.split(payable, withholding_ppb=0, currency=currency) == (net, 0, net)
