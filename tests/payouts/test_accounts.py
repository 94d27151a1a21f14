"""A contributor's account at Stripe: opened once, onboarded by a link, read again."""

from __future__ import annotations

import pytest
import stripe

from payouts.models import Hold, PayoutAccount
from payouts.operations import accounts, holds
from payouts.queries import payees
from people import actor
from people.actor import Presence
from people.models import AuditEvent
from tests.worlds.world import SEEN, World


def test_an_account_is_opened_once_however_often_it_is_asked_for(paying: World) -> None:
    contributor = paying.contributor(outcome=None)
    first = accounts.open_payout_account(contributor=contributor, by=paying.owner, at=paying.at)
    again = accounts.open_payout_account(contributor=contributor, by=paying.owner, at=paying.at)
    assert first.provider_account_id == again.provider_account_id
    assert not again.is_onboarded
    assert [held.hold.reason for held in payees.open_holds(contributor)] == ["onboarding_incomplete"]


def test_a_connection_that_breaks_on_the_way_opens_one_account_and_bothers_nobody(paying: World) -> None:
    """Also where Stripe had opened it already and only the answer was lost."""
    assert paying.sandbox is not None
    paying.sandbox.queue_faults("drop_before", "drop_after", path="/v1/accounts")
    paying.sandbox.queue_faults("drop_before", path="/v1/account_links")
    contributor = paying.contributor(outcome=None)
    account = accounts.open_payout_account(contributor=contributor, by=paying.owner, at=paying.at)
    theirs = stripe.StripeClient(paying.sandbox.key, base_addresses={"api": paying.sandbox.url})
    opened = [
        found.id
        for found in theirs.v1.accounts.list({"limit": 100}).auto_paging_iter()
        if found.metadata and found.metadata.to_dict().get("contributor") == str(contributor.public_id)
    ]
    assert opened == [account.provider_account_id]
    assert accounts.onboarding_link(account=account, by=paying.owner, at=paying.at).startswith("http")


def test_only_who_manages_a_contributor_opens_its_account_or_sets_its_threshold(paying: World) -> None:
    contributor = paying.contributor()
    with pytest.raises(accounts.UnableToOpenAccount, match="does not manage"):
        accounts.open_payout_account(contributor=contributor, by=paying.maker, at=paying.at)
    account = PayoutAccount.objects.get(contributor=contributor)
    with pytest.raises(accounts.UnableToOpenAccount, match="does not manage"):
        accounts.set_own_threshold(account=account, minimum_minor=1, by=paying.maker, at=paying.at)
    with pytest.raises(accounts.UnableToSetThreshold):
        accounts.set_own_threshold(account=account, minimum_minor=-1, by=paying.owner, at=paying.at)


def test_each_link_is_a_new_one(paying: World) -> None:
    contributor = paying.contributor(outcome="")
    account = PayoutAccount.objects.get(contributor=contributor)
    links = {accounts.onboarding_link(account=account, by=paying.owner, at=paying.at) for _ in range(2)}
    assert len(links) == 2
    assert all(link.startswith("http") for link in links)


def test_onboarding_ends_the_hold_and_says_so(paying: World) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(outcome="")
    assert payees.open_holds(contributor)
    paying.sandbox.happens(paying.account(contributor), "complete")
    account = accounts.sync_account(account=PayoutAccount.objects.get(contributor=contributor), at=paying.at)
    assert account.is_onboarded
    assert not payees.open_holds(contributor)
    assert contributor.notices.filter(kind="hold_released").exists()


def test_a_hold_has_one_owner_and_takes_a_fresh_second_factor_to_release(paying: World) -> None:
    contributor = paying.contributor()
    hold = holds.place_hold(
        contributor=contributor, reason="dispute_or_claim", by=paying.maker, note="case 7", at=paying.at, seen=SEEN
    )
    with pytest.raises(holds.UnableToPlaceHold):
        holds.place_hold(contributor=contributor, reason="dispute_or_claim", by=paying.maker, at=paying.at)
    with pytest.raises(actor.UnableToTrustPresence):
        holds.release_hold(hold=hold, by=paying.checker, at=paying.at, seen=Presence(mfa_age_seconds=400))
    holds.release_hold(hold=hold, by=paying.checker, at=paying.at, seen=SEEN)
    assert not payees.open_holds(contributor)
    with pytest.raises(holds.UnableToReleaseHold, match="ended already"):
        holds.release_hold(hold=hold, by=paying.checker, at=paying.at, seen=SEEN)
    events = AuditEvent.objects.filter(subject=f"contributor:{contributor.pk}").order_by("sequence")
    assert [event.action for event in events][-2:] == ["place_hold", "release_hold"]
    assert events[len(events) - 1].mfa_age_seconds == 60


def test_nobody_releases_by_hand_what_stripe_must_end(paying: World) -> None:
    contributor = paying.contributor(outcome="")
    hold = Hold.objects.get(contributor=contributor, released_at__isnull=True)
    with pytest.raises(holds.UnableToReleaseHold, match="by itself"):
        holds.release_hold(hold=hold, by=paying.checker, at=paying.at, seen=SEEN)
