"""Events: verified, stored once, and then believed only as hints."""

from __future__ import annotations

import json
import random
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import RequestFactory

from payouts.api import webhooks
from payouts.crashpoints import CrashPoint
from payouts.models import BankPayout, Difference, Hold, IgnoredEvent, Payout, PayoutRun, WebhookEvent
from payouts.operations import approval, closing, holds, reversals
from payouts.rails.stripe import calls
from payouts.rails.stripe.webhooks import sign
from payouts.reconciliation import comparison, inbox, sweeping
from payouts.reconciliation.inbox import apply_webhook, back_fill, record_webhook, replay_webhook
from people import actor
from tests.worlds.world import SEEN, World, only, states


def event_of(kind: str, subject: str, *, account: str = "", number: int = 1, **members: Any) -> dict[str, Any]:
    return {
        "id": f"evt_{number}",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {"id": subject, **members}},
        **({"account": account} if account else {}),
    }


def deliver(event: dict[str, Any] | bytes, secret: str, *, connect: bool = False, age: int = 0) -> int:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    request = RequestFactory().post(
        "/webhooks/stripe/",
        body,
        content_type="application/json",
        headers={"Stripe-Signature": sign(body, secret, timestamp=int(time.time()) - age)},
    )
    view = webhooks.stripe_connect_webhook if connect else webhooks.stripe_webhook
    return view(request).status_code


@pytest.fixture
def secrets(db: None, settings: Any) -> list[str]:
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_old", "whsec_new"]
    settings.STRIPE_CONNECT_WEBHOOK_SECRETS = ["whsec_connect"]
    settings.STRIPE_SECRET_KEY = "sk_test_1"
    return ["whsec_old", "whsec_new"]


def test_either_of_two_active_secrets_is_accepted_and_an_event_is_stored_once(secrets: list[str]) -> None:
    event = event_of("balance.available", "ba_1")
    for secret in (*secrets, *secrets):
        assert deliver(event, secret) == 200
    assert WebhookEvent.objects.count() == 1
    assert deliver({**event, "id": "evt_2"}, secrets[0]) == 200
    assert WebhookEvent.objects.count() == 2


@pytest.mark.parametrize(
    ("secret", "age", "connect"), [("whsec_other", 0, False), ("whsec_old", 301, False), ("whsec_old", 0, True)]
)
def test_a_bad_signature_is_refused_and_nothing_is_stored(
    secrets: list[str], secret: str, age: int, connect: bool
) -> None:
    assert deliver(event_of("balance.available", "ba_1"), secret, age=age, connect=connect) == 400
    assert not WebhookEvent.objects.exists()


def test_a_changed_body_is_refused(secrets: list[str]) -> None:
    body = json.dumps(event_of("balance.available", "ba_1")).encode()
    signature = sign(body, "whsec_old", timestamp=int(time.time()))
    request = RequestFactory().post(
        "/webhooks/stripe/",
        body.replace(b"ba_1", b"ba_2"),
        content_type="application/json",
        headers={"Stripe-Signature": signature},
    )
    assert webhooks.stripe_webhook(request).status_code == 400
    assert (
        webhooks.stripe_webhook(RequestFactory().post("/webhooks/stripe/", body, content_type="a/b")).status_code == 400
    )
    assert webhooks.stripe_webhook(RequestFactory().get("/webhooks/stripe/")).status_code == 405
    assert not WebhookEvent.objects.exists()


@pytest.mark.parametrize(
    "body", [b"[]", b'{"object": "event"}', b"no json", b'{"object": "event", "id": "evt_1", "livemode": false}']
)
def test_what_is_signed_but_no_event_is_refused(secrets: list[str], body: bytes) -> None:
    assert deliver(body, "whsec_old") == 400
    assert not WebhookEvent.objects.exists()


def test_events_of_the_other_mode_are_answered_and_counted(secrets: list[str], settings: Any) -> None:
    """Stripe sends test events to live endpoints of Connect, and switches an endpoint off that refuses them."""
    event = event_of("balance.available", "ba_1")
    assert deliver({**event, "livemode": True}, "whsec_old") == 200
    settings.STRIPE_SECRET_KEY = "sk_live_1"
    assert deliver(event, "whsec_old") == 200
    assert not WebhookEvent.objects.exists()
    row = IgnoredEvent.objects.get()
    assert (row.n, row.reason, row.type, row.endpoint) == (2, "other_mode", "balance.available", "platform")
    assert deliver({**event, "livemode": True}, "whsec_old") == 200
    assert WebhookEvent.objects.count() == 1


def test_a_thin_event_of_v2_is_answered_and_counted(secrets: list[str]) -> None:
    thin = {
        "id": "evt_test_61",
        "object": "v2.core.event",
        "type": "v2.core.account[requirements].updated",
        "livemode": False,
        "created": "2026-11-30T10:00:00.000Z",
        "related_object": {"id": "acct_x", "type": "v2.core.account", "url": "/v2/core/accounts/acct_x"},
    }
    body = json.dumps(thin).encode()
    assert deliver(body, "whsec_connect", connect=True) == 200
    assert deliver(body, "whsec_old", connect=True) == 400
    assert not WebhookEvent.objects.exists()
    assert IgnoredEvent.objects.get().reason == "thin"


def test_a_body_over_the_limit_is_not_read(secrets: list[str]) -> None:
    large = event_of("balance.available", "ba_1", padding="x" * 256 * 1024)
    assert deliver(large, "whsec_old") == 413
    assert not WebhookEvent.objects.exists()


def apply(event: dict[str, Any], world: World, *, endpoint: str = "platform", later: timedelta = timedelta()) -> str:
    stored = record_webhook(endpoint=endpoint, event=event, payload=json.dumps(event), headers={}, at=world.at)
    assert stored is not None
    return apply_webhook(event_id=stored, at=world.at + later)


def test_wrong_signatures_are_throttled_and_right_ones_never_are(secrets: list[str]) -> None:
    event = event_of("balance.available", "ba_1")
    answers = [deliver(event, "whsec_other") for _ in range(webhooks.REFUSED_PER_MINUTE_MAX + 1)]
    assert set(answers[:-1]) == {400}
    # At most one of two calendar minutes is full; the last one is over the limit unless a minute has just begun.
    again = [deliver(event, "whsec_other") for _ in range(webhooks.REFUSED_PER_MINUTE_MAX + 1)]
    assert 429 in (answers[-1], again[-1])
    assert deliver(event, secrets[0]) == 200


def test_an_event_brings_the_answer_that_was_lost(paying: World) -> None:
    assert paying.sandbox is not None
    paying.contributor(1_000)
    paying.sandbox.queue_faults("drop_after")
    run = paying.pay(paying.executing())
    assert states(run) == ["unknown"]
    (transfer,) = calls.find_transfers(only(run).transfer_group)
    assert apply(event_of("transfer.created", transfer.id), paying) == "applied"
    assert states(run) == ["transferred"]
    assert apply(event_of("transfer.created", transfer.id, number=2), paying) == "applied"
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean


def test_events_of_other_applications_are_ignored_with_a_reason(paying: World) -> None:
    assert paying.sandbox is not None
    account = paying.sandbox.add_account()
    stranger = paying.sandbox.client().v1.transfers.create(
        {"amount": 100, "currency": "usd", "destination": account}, {"idempotency_key": f"stranger-{account}"}
    )
    assert apply(event_of("transfer.created", stranger.id), paying) == "ignored"
    for number, kind in enumerate(("account.updated", "payout.paid", "account.application.deauthorized"), start=2):
        event = event_of(kind, "po_1", account=account, number=number)
        assert apply(event, paying, endpoint="connect") == "ignored"
    assert WebhookEvent.objects.filter(tries=1).exclude(error="").count() == 4


def test_an_event_that_cannot_be_applied_is_tried_nine_times_over_days_and_then_waits_for_a_person(
    paying: World,
) -> None:
    assert paying.sandbox is not None
    account = paying.sandbox.add_account()
    # Marked as one of ours, of another programme on the same account at Stripe.
    stranger = paying.sandbox.client().v1.transfers.create(
        {"amount": 100, "currency": "usd", "destination": account, "transfer_group": f"payout_{'0' * 32}"},
        {"idempotency_key": f"stranger-marked-{account}"},
    )
    assert apply(event_of("transfer.created", stranger.id), paying) == "retrying"
    event, moment = WebhookEvent.objects.get(), paying.at
    while event.state == WebhookEvent.State.RETRYING:
        assert event.next_try_at is not None
        assert event.next_try_at > moment
        moment = event.next_try_at
        assert sweeping.sweep_webhooks(at=moment - timedelta(seconds=1)) == 0
        assert sweeping.sweep_webhooks(at=moment) == 1
        event.refresh_from_db()
    assert (event.state, event.tries) == (WebhookEvent.State.DEAD, 9)
    assert timedelta(days=3) < moment - paying.at < timedelta(days=5)
    assert stranger.id in event.error
    event = replay_webhook(event=event, at=paying.at)
    assert event.state == WebhookEvent.State.RETRYING


def test_what_means_nothing_here_is_kept_and_ignored(paying: World) -> None:
    assert apply(event_of("balance.available", "ba_1"), paying) == "ignored"
    assert apply(event_of("payout.paid", "po_1", number=2), paying) == "ignored"


def test_money_is_followed_to_the_bank_and_back(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(1_000)
    run = paying.pay(paying.executing())
    payout = only(run)
    account = paying.account(contributor)
    paying.sandbox.advance(days=4)
    (bank,) = paying.sandbox.client().v1.payouts.list({}, {"stripe_account": account}).data
    paid = event_of("payout.paid", bank.id, account=account)
    assert apply(paid, paying, endpoint="connect") == "applied"
    payout.refresh_from_db()
    assert (payout.state, payout.bank_payout and payout.bank_payout.state) == ("settled", "paid")

    paying.sandbox.fail_payout(bank.id)
    # Days later, and before it an old event of the same payout: Stripe's present state counts.
    assert apply(event_of("payout.paid", bank.id, account=account, number=2), paying, endpoint="connect") == "applied"
    payout.refresh_from_db()
    assert payout.state == "bank_failed"
    assert contributor.notices.filter(kind="payout_bank_failed").exists()
    assert BankPayout.objects.get().failure_code == "account_closed"
    assert paying.payable(contributor) == 0, "the money is in the contributor's Stripe balance"


def test_the_state_of_an_account_becomes_holds_and_their_end(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor()
    account = paying.account(contributor)

    def reasons() -> set[str]:
        return set(
            Hold.objects.filter(contributor=contributor, released_at__isnull=True).values_list("reason", flat=True)
        )

    assert reasons() == set()
    for number, (outcome, expected) in enumerate(
        [
            ("under_review", {"stripe_under_review"}),
            ("complete", set()),
            ("change_bank", {"bank_details_changed_recently"}),
        ],
        start=10,
    ):
        paying.sandbox.happens(account, outcome)
        assert (
            apply(event_of("account.updated", account, account=account, number=number), paying, endpoint="connect")
            == "applied"
        )
        assert reasons() == expected, outcome


def test_a_listed_person_is_held_until_compliance_says_otherwise(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(1_000)
    account = paying.account(contributor)
    paying.sandbox.happens(account, "listed")
    apply(event_of("account.updated", account, account=account), paying, endpoint="connect")
    hold = Hold.objects.get(contributor=contributor, reason="sanctions_listed")
    assert hold.released_at is None
    with pytest.raises(actor.UnableToAct):
        holds.release_hold(hold=hold, by=paying.checker, at=paying.at, seen=SEEN)
    run = paying.built()
    assert run.left_out.get().hold_reason == "sanctions_listed"


def test_a_contributor_who_disconnects_is_held(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(1_000)
    account = paying.account(contributor)
    paying.sandbox.happens(account, "disconnect")
    event = event_of("account.application.deauthorized", "ca_1", account=account)
    assert apply(event, paying, endpoint="connect") == "applied"
    assert paying.built().left_out.get().hold_reason == "account_disconnected"


def test_a_reversal_is_booked_once_and_taken_from_what_was_paid(paying: World) -> None:
    contributor = paying.contributor(1_000)
    run = paying.pay(paying.executing())
    payout = only(run)
    reversals.reverse_payout(
        payout=payout, amount_minor=300, by=paying.checker, reason="paid for a withdrawn work", at=paying.at, seen=SEEN
    )
    payout.refresh_from_db()
    assert (payout.state, payout.reversed_minor) == ("partially_reversed", 300)
    transfer = payout.attempts.get(kind="pay").provider_transfer_id or ""
    assert apply(event_of("transfer.reversed", transfer), paying) == "applied"
    assert payout.reversals.count() == 1
    reversals.reverse_payout(
        payout=payout, amount_minor=700, by=paying.checker, reason="and the rest", at=paying.at, seen=SEEN
    )
    payout.refresh_from_db()
    assert (payout.state, payout.reversed_minor) == ("reversed", 1_000)
    assert paying.payable(contributor) == 1_000 * 10**7
    with pytest.raises(reversals.UnableToReverse):
        reversals.reverse_payout(payout=payout, amount_minor=1, by=paying.checker, reason="x", at=paying.at, seen=SEEN)
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean


def test_a_reversal_that_nobody_here_asked_for_is_booked_and_is_a_difference(paying: World) -> None:
    assert paying.sandbox is not None
    paying.contributor(1_000)
    run = paying.pay(paying.executing())
    payout = only(run)
    transfer = payout.attempts.get().provider_transfer_id or ""
    paying.sandbox.client().v1.transfers.reversals.create(transfer, {"amount": 400})
    apply(event_of("transfer.reversed", transfer), paying)
    payout.refresh_from_db()
    assert (payout.state, payout.reversed_minor) == ("partially_reversed", 400)
    record = comparison.reconcile_run(run=run, at=paying.at)
    assert record.n_differences == 1
    difference = Difference.objects.get()
    with pytest.raises(closing.UnableToSignOff, match="The creator"):
        closing.sign_off(difference=difference, by=paying.maker, note="mine", at=paying.at, seen=SEEN)
    closing.sign_off(difference=difference, by=paying.checker, note="a refund by hand", at=paying.at, seen=SEEN)
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean
    run.refresh_from_db()
    assert run.state == PayoutRun.State.RECONCILED


def test_a_second_transfer_that_is_taken_back_leaves_the_first_one_paid(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(1_000)
    run = paying.pay(paying.executing())
    payout = only(run)
    (good,) = calls.find_transfers(payout.transfer_group)
    client = paying.sandbox.client()
    second = client.v1.transfers.create(
        {
            "amount": 1_000,
            "currency": "usd",
            "destination": good.destination,
            "transfer_group": payout.transfer_group,
            "metadata": dict(good.metadata),
        }
    )
    assert apply(event_of("transfer.created", second.id), paying) == "applied"
    run.refresh_from_db()
    assert run.is_frozen
    reversal = client.v1.transfers.reversals.create(second.id, {"amount": 1_000})
    for number in (2, 3):
        assert apply(event_of("transfer.reversed", second.id, number=number), paying) == "applied"
    payout.refresh_from_db()
    assert (payout.state, payout.reversed_minor, payout.reversals.count()) == ("transferred", 0, 0)
    assert paying.payable(contributor) == 0, "they were paid once, and are owed nothing"
    found = Difference.objects.get(type="unexpected_reversal")
    assert (found.subject, found.found, found.payout) == (reversal.id, "1000", payout)
    # An explained difference stays explained after any later delivery, and the run goes on.
    for difference in Difference.objects.filter(state="open"):
        closing.sign_off(difference=difference, by=paying.checker, note="taken back", at=paying.at, seen=SEEN)
    approval.resume_run(run=run, by=paying.compliance, at=paying.at, seen=SEEN)
    assert apply(event_of("transfer.updated", second.id, number=5), paying) == "applied"
    run.refresh_from_db()
    assert (run.state, Difference.objects.filter(state="open").count()) == ("executing", 0)
    # A reversal of the first transfer is booked as before.
    client.v1.transfers.reversals.create(good.id, {"amount": 300})
    assert apply(event_of("transfer.reversed", good.id, number=4), paying) == "applied"
    assert paying.payable(contributor) == 300 * 10**7


def test_an_odd_transfer_that_is_taken_back_books_nothing_and_does_not_stop_the_inbox(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(1_000)
    paying.sandbox.queue_faults("drop_before")
    payout = only(paying.pay(paying.executing()))
    client = paying.sandbox.client()
    odd = client.v1.transfers.create(
        {
            "amount": 900,
            "currency": "usd",
            "destination": payout.destination,
            "transfer_group": payout.transfer_group,
            "metadata": {"payout": payout.public_id.hex, "attempt": "1"},
        }
    )
    client.v1.transfers.reversals.create(odd.id, {"amount": 900})
    assert apply(event_of("transfer.reversed", odd.id), paying) == "applied"
    payout.refresh_from_db()
    assert (payout.state, payout.reversed_minor, paying.payable(contributor)) == ("unknown", 0, 0)
    assert set(Difference.objects.values_list("type", flat=True)) == {"amount", "unexpected_reversal"}


def test_the_order_and_number_of_deliveries_changes_nothing(paying: World) -> None:
    """A shuffled, tripled delivery leaves the same rows as one delivery in order."""
    assert paying.sandbox is not None
    for place in range(4):
        paying.contributor(1_000 + place)
    paying.sandbox.queue_faults(*["drop_after"] * 4)
    run = paying.pay(paying.executing())
    assert states(run) == ["unknown"] * 4
    found = [t for payout in run.payouts.order_by("pk") for t in calls.find_transfers(payout.transfer_group)]
    events = [
        event_of(kind, transfer.id, number=number)
        for number, (transfer, kind) in enumerate(
            (transfer, kind) for transfer in found for kind in ("transfer.created", "transfer.updated")
        )
    ]
    deliveries = events * 3
    random.Random(3).shuffle(deliveries)
    for event in deliveries:
        stored = record_webhook(endpoint="platform", event=event, payload=json.dumps(event), headers={}, at=paying.at)
        if stored is not None:
            apply_webhook(event_id=stored, at=paying.at)
    assert WebhookEvent.objects.count() == len(events)
    assert states(run) == ["transferred"] * 4
    assert Payout.objects.filter(run=run, attempts__state="succeeded").count() == 4
    assert comparison.reconcile_run(run=run, at=paying.at).is_clean


def test_an_event_that_breaks_keeps_no_later_one_waiting(paying: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paying.sandbox is not None
    for place in range(2):
        paying.contributor(1_000 + place)
    paying.sandbox.queue_faults(*["drop_after"] * 2)
    run = paying.pay(paying.executing())
    for number, payout in enumerate(run.payouts.order_by("pk")):
        (transfer,) = calls.find_transfers(payout.transfer_group)
        event = event_of("transfer.created", transfer.id, number=number)
        record_webhook(endpoint="platform", event=event, payload=json.dumps(event), headers={}, at=paying.at)
    breaks = iter([True, False])

    def break_once(point: CrashPoint) -> None:
        if point == CrashPoint.WEBHOOK_APPLYING and next(breaks):
            raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(inbox, "crashpoint", break_once)
        assert sweeping.sweep_webhooks(at=paying.at) == 2
    assert list(WebhookEvent.objects.order_by("pk").values_list("state", flat=True)) == ["retrying", "applied"]
    assert WebhookEvent.objects.earliest("pk").error == "RuntimeError: a fault of ours"
    assert sweeping.sweep_webhooks(at=paying.at + timedelta(minutes=1)) == 1
    assert states(run) == ["transferred"] * 2


def test_events_that_were_never_delivered_are_fetched(paying: World) -> None:
    assert paying.sandbox is not None
    paying.contributor(1_000)
    paying.sandbox.queue_faults("drop_after")
    run = paying.pay(paying.executing())
    now = calls.find_transfers(only(run).transfer_group)[0].created
    assert back_fill(since=now - timedelta(seconds=5), at=paying.at) > 0
    sweeping.sweep_webhooks(at=paying.at)
    assert states(run) == ["transferred"]
    assert back_fill(since=now - timedelta(seconds=5), at=paying.at) == 0
