"""Everything that a row can say has words, and no cell of a table can run as a formula."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payouts import words
from payouts.exports import csv_bytes, guarded
from payouts.models import Difference, LeftOut, Payout, PayoutAttempt, PayoutRun, WebhookEvent


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (words.RUN_STATES, PayoutRun.State.values),
        (words.PAYOUT_STATES, Payout.State.values),
        (words.PAYOUT_STATES_TO_PAYEE, Payout.State.values),
        (words.ATTEMPT_STATES, PayoutAttempt.State.values),
        (words.LEFT_OUT, LeftOut.Reason.values),
        (words.DIFFERENCES, Difference.Type.values),
        (words.DIFFERENCE_STATES, Difference.State.values),
        (words.WEBHOOK_STATES, WebhookEvent.State.values),
        (words.PAUSES, PayoutRun.PauseCode.values),
    ],
)
def test_every_state_and_reason_has_words_and_nothing_else_has(table: dict[str, object], names: list[str]) -> None:
    assert set(table) == set(names)


def test_a_name_that_no_table_knows_is_still_said() -> None:
    assert words.said(words.RUN_STATES, "half_done").label == "Half done"


def test_what_stripe_asks_for_is_said_once_and_in_plain_words() -> None:
    keys = ["individual.dob.day", "individual.dob.month", "external_account", "something.new_field"]
    assert words.requirements(keys) == ["your date of birth", "a bank account to pay to", "something new field"]
    assert words.requirement("person_1Qx.verification.document") == "details about a person in your organisation"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed([]) == ""


@pytest.mark.parametrize("cell", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "|calc", "-1+1", "+1.2.3"])
def test_a_formula_is_disarmed(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-0.50", "+12", "12.34", "", "Grant, U. S.", "a=b"])
def test_a_number_and_plain_text_stay_as_they_are(cell: str) -> None:
    assert guarded(cell) == cell


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=5))
def test_a_table_reads_back_as_it_was_written(rows: list[list[str]]) -> None:
    rows = [[cell.replace("\x00", "") for cell in row] for row in rows]
    read = list(csv.reader(io.StringIO(csv_bytes(["a", "b"], rows).decode(), newline="")))
    assert read[0] == ["a", "b"]
    assert read[1:] == [[guarded(cell) for cell in row] for row in rows]
    for row in read[1:]:
        for cell in row:
            assert not cell.startswith(("=", "@", "\t"))
