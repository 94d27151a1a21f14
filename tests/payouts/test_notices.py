"""Telling people: each thing once, by mail where it is wanted, again where the mail server failed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend

from contributors.operations.people import add_member
from ledger import journal
from ledger.journal import AccountKey
from ledger.operations import closing, periods, sealing
from ledger.queries import books
from payouts.models import Difference, LeftOut, Notice, PayoutRun
from payouts.operations import holds, notice_kinds
from payouts.operations.notices import UnableToChooseNotices, choose_notices, notice_what_is_due, send_due_notices
from tests.worlds.world import SEEN, World


class FailingServer(BaseEmailBackend):
    """A mail server that takes nothing."""

    def send_messages(self, email_messages: Any) -> int:
        raise TimeoutError("no answer for 15 seconds")


def hold(world: World) -> Any:
    contributor = world.contributor(1000)
    return holds.place_hold(contributor=contributor, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)


def send(world: World, *, minutes: float = 0) -> int:
    return send_due_notices(at=world.at + timedelta(minutes=minutes))


def test_a_notice_is_mailed_once_to_those_who_manage_the_contributor(world: World) -> None:
    held = hold(world)
    viewer = world._user("viewer")
    add_member(contributor=held.contributor, user=viewer, role="viewer", at=world.at)
    assert (send(world), send(world, minutes=600)) == (1, 0)
    [message] = mail.outbox
    assert message.to == [world.owner.email]
    assert message.subject == "Tributary: Payments to you are on hold"
    assert "We are checking this account before we pay it." in message.body
    assert f"{settings.SITE_URL}/portal/payouts/#holds" in message.body
    assert Notice.objects.get(kind="hold_placed").sent_at == world.at


def test_what_stops_money_is_mailed_before_what_everybody_hears(world: World) -> None:
    told = world.contributor(1000)
    for number in range(3):
        Notice.objects.create(
            contributor=told,
            kind="month_sealed",
            subject=f"month:2026-0{number + 1}:{told.pk}",
            words="Sealed.",
            created_at=world.at,
        )
    hold(world)
    assert send_due_notices(at=world.at, limit=1) == 1
    assert [message.subject for message in mail.outbox] == ["Tributary: Payments to you are on hold"]
    assert send(world) == 3


def test_a_mail_server_that_fails_is_tried_again_with_the_same_message_id_and_given_up_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(world)
    working = settings.EMAIL_BACKEND
    monkeypatch.setattr(settings, "EMAIL_BACKEND", "tests.payouts.test_notices.FailingServer")
    assert send(world) == 0
    notice = Notice.objects.get()
    assert (notice.tries, notice.error) == (1, "TimeoutError: no answer for 15 seconds")
    assert send(world, minutes=0.5) == 0
    assert Notice.objects.get().tries == 1
    monkeypatch.setattr(settings, "EMAIL_BACKEND", working)
    assert send(world, minutes=2) == 1
    assert mail.outbox[0].extra_headers["Message-ID"].startswith(f"<notice-{notice.pk}-")
    monkeypatch.setattr(settings, "EMAIL_BACKEND", "tests.payouts.test_notices.FailingServer")
    hold(world)
    for hours in range(0, 65, 7):
        send(world, minutes=60 * hours)
    notice = Notice.objects.latest("pk")
    assert (notice.tries, notice.sent_at, notice.given_up_at is None) == (8, None, False)


def test_one_failing_address_does_not_stop_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = hold(world), hold(world)
    Notice.objects.filter(contributor=first.contributor).update(words="a line\nbreak in a subject is fine")
    taken: list[int] = []

    def fails_for_the_first(notice: Notice, *arguments: Any) -> Any:
        taken.append(notice.pk)
        if notice.contributor_id == first.contributor_id:
            raise OSError("mailbox unavailable")
        return made(notice, *arguments)

    from payouts.operations import notices as module

    made = module._message
    monkeypatch.setattr(module, "_message", fails_for_the_first)
    assert send(world) == 1
    assert len(taken) == 2
    assert Notice.objects.get(contributor=second.contributor).sent_at == world.at


def test_a_kind_that_was_switched_off_is_not_mailed_and_still_stands_in_the_portal(world: World) -> None:
    held = hold(world)
    choose_notices(contributor=held.contributor, muted=["hold_released"], by=world.owner)
    holds.release_hold(hold=held, by=world.compliance, at=world.at, seen=SEEN)
    assert send(world) == 1
    notice = Notice.objects.get(kind="hold_released")
    assert (notice.sent_at, notice.given_up_at, notice.error) == (None, world.at, "")
    choose_notices(contributor=held.contributor, muted=[], by=world.owner)
    assert not held.contributor.muted_notices.exists()


def test_what_stops_money_cannot_be_switched_off(world: World) -> None:
    contributor = world.contributor(1000)
    essential = [name for name, kind in notice_kinds.KINDS.items() if kind.essential]
    assert {"hold_placed", "payout_held", "payout_bank_failed"} <= set(essential)
    for kind in [*essential, "run_stopped"]:
        with pytest.raises(UnableToChooseNotices, match=kind):
            choose_notices(contributor=contributor, muted=[kind], by=world.owner)


def test_what_is_days_old_is_not_mailed_any_more(world: World) -> None:
    hold(world)
    assert send(world, minutes=4 * 24 * 60) == 0
    assert Notice.objects.get().given_up_at is not None
    assert mail.outbox == []


def test_finance_hears_of_a_run_that_waits_and_of_a_difference_once(world: World) -> None:
    world.contributor(1234)
    run = world.in_review()
    Difference.objects.create(
        type="amount", currency="USD", subject="tr_1", words="Our amount is not Stripe's.", found_at=world.at
    )
    for _ in range(2):
        notice_what_is_due(at=world.at)
    told = Notice.objects.filter(kind__in=["difference_found", "run_awaiting_approval"]).order_by("kind")
    assert [notice.kind for notice in told] == ["difference_found", "run_awaiting_approval"]
    assert f"{run}. USD 12.34 to 1 payee, built by {world.maker}" in told[1].words
    _ = world.checker
    send(world)
    assert all(message.to == [] for message in mail.outbox)
    [waiting] = [message for message in mail.outbox if f"{run}. USD 12.34" in message.body]
    assert waiting.subject == "Tributary: A payout run waits for approval"
    assert f"{settings.SITE_URL}/console/runs/{run.public_id}/approve/" in waiting.body
    # The maker built it, so that somebody else approves it.
    assert world.checker.email in waiting.bcc
    assert world.maker.email not in waiting.bcc
    [found] = [message for message in mail.outbox if "Our amount is not Stripe's." in message.body]
    assert {world.maker.email, world.checker.email} <= set(found.bcc)
    assert world.owner.email not in found.bcc


def test_who_is_carried_over_or_not_onboarded_hears_it_once_a_run(world: World) -> None:
    paid, small, nowhere = world.contributor(1234), world.contributor(10), world.contributor(700, outcome=None)
    run = world.approved()
    PayoutRun.objects.filter(pk=run.pk).update(state=PayoutRun.State.EXECUTING, started_at=world.at)
    for _ in range(2):
        notice_what_is_due(at=world.at)
    told = {notice.contributor_id: notice for notice in Notice.objects.filter(subject__startswith="run:")}
    assert {key: notice.kind for key, notice in told.items()} == {
        small.pk: "carried_over",
        nowhere.pk: "onboarding_needed",
    }
    assert "did not pay your USD 0.10" in told[small.pk].words
    assert paid.pk not in told
    assert LeftOut.objects.filter(run=run).count() == 2


def test_the_root_of_a_sealed_month_goes_to_everybody_whose_accounts_it_moved(world: World) -> None:
    paid, other = world.contributor(1234), world.contributor(0)
    owed = AccountKey("contributor_accrued", "USD", f"contributor:{paid.pk}")
    journal.post(
        kind="close_guarantee",
        idem_key="earned",
        effective=world.at.date(),
        lines=[(AccountKey("programme_cost", "USD"), -8_727_331_195), (owed, 8_727_331_195)],
    )
    later = world.at + timedelta(days=15)
    periods.open_periods(at=later)
    for month in books.periods().filter(pk__lte=202611).order_by("pk"):
        closing.close_period(period=month, at=later)
        sealing.seal_period(period=month, at=later)
    for _ in range(2):
        notice_what_is_due(at=later)
    told = Notice.objects.get(kind="month_sealed")
    assert told.contributor == paid != other
    november = books.period(202611)
    assert november is not None
    assert (
        f"November 2026 is sealed, and your statement is final. Keep this: the month's root is {november.root_hex}."
        in told.words
    )
    assert told.words.startswith("You earned USD 8.73 in November 2026. ")
    assert send(world, minutes=15 * 24 * 60) == 1
    [message] = mail.outbox
    assert message.subject == "Tributary: Your November 2026 statement is final: USD 8.73"
    assert november.root_hex in message.body
    assert f"{settings.SITE_URL}/portal/statements/" in message.body


def test_a_tax_form_that_runs_out_is_announced_once_and_a_newer_one_ends_it(world: World) -> None:
    contributor = world.contributor(1000)
    ends = (world.at + timedelta(days=20)).date()
    world.tax_form(contributor, valid_until=ends)
    for _ in range(2):
        notice_what_is_due(at=world.at)
    assert "10 Dec 2026" in Notice.objects.get(kind="tax_form_expiring").words
    other = world.contributor(1000)
    for until in (ends, ends + timedelta(days=1000)):
        world.tax_form(other, valid_until=until)
    notice_what_is_due(at=world.at)
    assert not Notice.objects.filter(kind="tax_form_expiring", contributor=other).exists()


def test_every_kind_that_the_product_writes_is_in_the_table() -> None:
    """A kind without a row would be shown and never mailed."""
    import re
    from pathlib import Path

    written = set()
    for path in Path(settings.BASE_DIR, "payouts").rglob("*.py"):
        if "sandbox" not in path.parts:
            written |= set(
                re.findall(r'\bkind="((?:payout|hold|run|tax|policy|bank|difference)_\w+)"', path.read_text())
            )
    written.discard("payout_succeed")
    assert {kind for kind in written if not kind.startswith("payout_reserve")} <= set(notice_kinds.KINDS)
