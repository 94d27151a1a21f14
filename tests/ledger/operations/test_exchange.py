"""The rate of an exchange is a plain decimal, also where no form has read it."""

from __future__ import annotations

import pytest

from ledger.operations.exchange import UnableToExchange, converted


@pytest.mark.parametrize(
    "rate",
    ["1e3", "1_000", "1/3", "\u0661.5", "\uff11", "+1", "-1", " 1", "1.", ".5", "", "nan", "1,5", "9" * 20],
    ids=ascii,
)
def test_a_rate_in_another_spelling_is_refused(rate: str) -> None:
    with pytest.raises(UnableToExchange, match=r"is no rate, such as 0\.9214"):
        converted(10**9, currency="USD", into="EUR", rate=rate)


def test_a_plain_rate_converts_rounded_down() -> None:
    assert converted(10**9, currency="USD", into="EUR", rate="0.9214") == 921_400_000
    assert converted(10**9, currency="USD", into="JPY", rate="150") == 150 * 10**7
    assert converted(1, currency="USD", into="EUR", rate="1.9") == 1
