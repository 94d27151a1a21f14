"""Everything that a row can say has words."""

from __future__ import annotations

import pytest

from payouts.models import Difference, LeftOut, Payout, PayoutAttempt, PayoutRun, WebhookEvent
from payouts.queries import words


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
