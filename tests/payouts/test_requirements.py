"""Facts that Stripe asks for: now, from a day on, or at some time; payees are warned before payouts stop."""

from __future__ import annotations

from datetime import timedelta

from django.core import mail

from contributors.models import Contributor
from payouts.models import PayoutAccount
from payouts.operations import notices
from payouts.operations.accounts import sync_account
from payouts.queries import attention, payees, standing
from payouts.queries.standing import Task
from tests.worlds.world import World

DOCUMENT = "individual.verification.document"


def _task(world: World, contributor: Contributor) -> Task | None:
    sync_account(account=PayoutAccount.objects.get(contributor=contributor), at=world.at)
    return standing.task_of(contributor)


def _warned(world: World, days: float) -> int:
    """Run the hourly notices `days` days later; returns the number of mails about the deadline."""
    moment = world.at + timedelta(days=days)
    mail.outbox.clear()
    notices.notice_what_is_due(at=moment)
    notices.send_due_notices(at=moment)
    return sum("Answer Stripe by" in one.subject for one in mail.outbox)


def test_the_payee_is_warned_once_each_at_30_14_and_3_days(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor()
    paying.sandbox.asks(paying.account(contributor), DOCUMENT, days=40)
    task = _task(paying, contributor)
    assert task is not None
    assert "still paid" in task.sentence
    assert task.deadline is not None
    assert not payees.open_holds(contributor), "a fact that is due later stops nothing"
    days = (task.deadline - paying.at) / timedelta(days=1)
    left = [35, 29, 25, 13.5, 10, 2.9, 1]
    assert [_warned(paying, days - one) for one in left] == [0, 1, 0, 1, 0, 1, 0]
    assert "photograph of an identity document" in contributor.notices.filter(kind="stripe_deadline")[0].words
    [group] = attention.groups(at=paying.at + timedelta(days=days - 10), limit=5, kind="payee_stops_soon")
    assert [item.title for item in group.items] == [str(contributor)]


def test_a_deadline_that_is_near_when_it_is_first_seen_gets_one_mail(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor()
    paying.sandbox.asks(paying.account(contributor), DOCUMENT, days=2.5, future=True)
    task = _task(paying, contributor)
    assert task is not None
    assert task.title.startswith("Stripe will need")
    assert "paid as before" in task.sentence
    account = PayoutAccount.objects.get(contributor=contributor)
    at = standing.deadline_of(account)
    assert at is not None
    days = (at - paying.at) / timedelta(days=1)
    assert (_warned(paying, days - 2), _warned(paying, days - 1)) == (1, 0)


def test_after_the_deadline_stripe_stops_and_the_page_says_so(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor()
    name = paying.account(contributor)
    paying.sandbox.asks(name, DOCUMENT, days=1, future=True)
    paying.sandbox.advance(days=2)
    task = _task(paying, contributor)
    assert task is not None
    assert "nothing can be paid" in task.sentence
    assert [one.hold.reason for one in payees.open_holds(contributor)] == ["requirements_past_due"]
    paying.sandbox.happens(name, "complete")
    assert _task(paying, contributor) is None


def test_a_fact_that_is_due_at_some_time_stops_nothing_and_is_shown(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor()
    paying.sandbox.happens(paying.account(contributor), "ask_eventually")
    assert _task(paying, contributor) is None
    account = PayoutAccount.objects.get(contributor=contributor)
    assert standing.asked_later(account) == ["a photograph of an identity document"]


def test_a_pause_with_nothing_due_says_so(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor()
    paying.sandbox.happens(paying.account(contributor), "pause_bank_payouts")
    task = _task(paying, contributor)
    assert task is not None
    assert "asks for nothing" in task.title
    assert not task.at_stripe
