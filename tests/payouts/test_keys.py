"""One key to read, one to move money: reading never takes the key that moves, and the reading key moves nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.conf import settings
from django.core.management import call_command

from payouts import checks
from payouts.models import PayoutAccount, WebhookEvent
from payouts.operations import accounts
from payouts.rails.stripe import calls, errors
from payouts.reconciliation import comparison
from tests.worlds.world import World, only


def test_reading_never_uses_the_key_that_moves_money(paying: World, monkeypatch: pytest.MonkeyPatch) -> None:
    contributor = paying.contributor(1234)
    run = paying.pay(paying.executing())
    transfer = str(only(run).attempts.get().provider_transfer_id)
    monkeypatch.setattr(settings, "STRIPE_SECRET_KEY", "sk_test_revoked")
    account, since = paying.account(contributor), paying.at - timedelta(days=3650)
    calls.balance()
    calls.balance(account)
    assert calls.retrieve_transfer(transfer).id == transfer
    assert [found.id for found in calls.find_transfers(only(run).transfer_group)] == [transfer]
    assert transfer in {found.id for found in calls.list_transfers(since=since)}
    assert calls.list_reversals(transfer) == []
    assert any(row.source == transfer for row in calls.list_balance_transactions(since=since))
    assert calls.retrieve_account(account).id == account
    assert next(calls.list_events(since=since))["object"] == "event"
    accounts.sync_account(account=PayoutAccount.objects.get(contributor=contributor), at=paying.at)
    assert comparison.reconcile_run(run=run, at=paying.at).n_transfers == 1
    with pytest.raises(errors.UnableToUseStripe):
        calls.create_topup(amount_minor=1, currency="USD", description="x", idempotency_key="revoked")


def test_the_reading_key_moves_no_money(paying: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "STRIPE_SECRET_KEY", settings.STRIPE_READ_KEY)
    with pytest.raises(errors.UnableToUseStripe) as refused:
        calls.create_topup(amount_minor=100, currency="USD", description="x", idempotency_key="by the reading key")
    assert refused.value.http_status in (401, 403)
    assert refused.value.verdict.action == errors.Action.PAUSE_RUN


@pytest.mark.parametrize(
    ("key", "read_key", "found"),
    [
        ("rk_live_move", "rk_live_read", set()),
        ("rk_live_move", "rk_live_move", {"payouts.E001"}),
        ("sk_live_all", "rk_live_read", {"payouts.W001"}),
        ("sk_test_all", "sk_test_all", set()),
    ],
)
def test_a_deployment_with_one_key_for_everything_is_told_so(
    monkeypatch: pytest.MonkeyPatch, key: str, read_key: str, found: set[str]
) -> None:
    monkeypatch.setattr(settings, "STRIPE_SECRET_KEY", key)
    monkeypatch.setattr(settings, "STRIPE_READ_KEY", read_key)
    monkeypatch.setattr(settings, "STRIPE_WEBHOOK_SECRETS", ["whsec_1"])
    monkeypatch.setattr(settings, "STRIPE_CONNECT_WEBHOOK_SECRETS", ["whsec_2"])
    monkeypatch.setattr(settings, "PROGRAMME_ACCOUNTS", {})
    assert {message.id for message in checks.check_keys()} == found


def test_a_wrong_account_of_the_programme_is_found_before_the_first_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PROGRAMME_ACCOUNTS", {"EUR": "DE00370400440532013000"})
    assert "payouts.E002" in {message.id for message in checks.check_keys()}


def test_events_that_were_never_delivered_are_fetched_once(paying: World, capsys: pytest.CaptureFixture[str]) -> None:
    paying.contributor(1234)
    run = paying.pay(paying.executing())
    transfer = only(run).attempts.get().provider_transfer_id
    call_command("webhook_events", since=(paying_now() - timedelta(days=1)).isoformat())
    assert WebhookEvent.objects.filter(object_id=transfer).exists()
    capsys.readouterr()
    call_command("webhook_events", since=(paying_now() - timedelta(days=1)).isoformat())
    assert capsys.readouterr().out.startswith("0 new events")


def paying_now() -> datetime:
    from django.utils import timezone

    return timezone.now()


def test_a_deployment_that_keeps_its_mails_as_files_is_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "EMAIL_BACKEND", "django.core.mail.backends.filebased.EmailBackend")
    monkeypatch.setattr(settings, "EMAIL_FILE_PATH", "/data/mail", raising=False)
    (found,) = [one for one in checks.check_keys() if one.id == "payouts.W004"]
    assert "/data/mail" in found.msg
