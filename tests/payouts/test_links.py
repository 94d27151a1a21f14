"""Finding accounts of one person by their payout destinations, and the response of compliance."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.core import mail

from contributors.models import Contributor, ContributorLink, IdentifyingDetail
from contributors.operations import links
from contributors.queries.links import linked_accounts, suspicions
from payouts.models import Notice, PayoutAccount
from payouts.operations import banks, notices, tax_forms
from payouts.operations.accounts import apply_account
from payouts.rails.stripe import calls
from people import actor
from people.actor import NOBODY
from people.models import AuditEvent, User
from people.operations.proposals import UnableToDecide, approve
from tests.worlds.world import ADDRESS, SEEN, World

IBAN = "GB33BUKB20201555555555"
OTHER_IBAN = "NL91ABNA0417164300"


def paid_to(world: World, iban: str, holder: str = "A") -> Contributor:
    contributor = world.contributor(outcome=None, country="BR")
    banks.record_bank_details(
        contributor=contributor, holder_name=holder, iban=iban, address=ADDRESS, by=world.owner, at=world.at, seen=SEEN
    )
    return contributor


def proposed(world: World, *accounts: Contributor) -> ContributorLink:
    return links.propose_link(
        contributors=accounts, reason="One bank account.", by=world.compliance, at=world.at, seen=SEEN
    )


@pytest.fixture
def colleague(world: World) -> User:
    return world._user("colleague", "compliance")


def test_the_same_account_number_under_other_names_is_found(world: World) -> None:
    one, other = paid_to(world, IBAN, "Jane Roe"), paid_to(world, "gb33 bukb 2020 1555 5555 55", "J. Roe Trading")
    paid_to(world, OTHER_IBAN)
    (found,) = suspicions(world.at)
    assert found.contributors == [one, other]
    assert (found.kind, found.shown) == ("bank account", "GB … 5555")


def test_an_account_that_somebody_has_left_again_still_tells(world: World) -> None:
    one = paid_to(world, IBAN)
    banks.record_bank_details(
        contributor=one, holder_name="A", iban=OTHER_IBAN, address=ADDRESS, by=world.owner, at=world.at, seen=SEEN
    )
    other = paid_to(world, IBAN)
    (found,) = suspicions(world.at)
    assert found.contributors == [one, other]


def test_the_same_bank_account_at_stripe_is_found_by_stripes_own_mark(paying: World) -> None:
    accounts = [paying.contributor(outcome="complete") for _ in range(3)]
    # Each named a bank account of its own at Stripe.
    assert IdentifyingDetail.objects.filter(contributor__in=accounts).count() == 3
    assert suspicions(paying.at) == []
    for contributor in accounts[:2]:
        account = PayoutAccount.objects.get(contributor=contributor)
        remote = calls.retrieve_account(str(account.provider_account_id))
        same = dataclasses.replace(remote, bank_number="Xt5EWLLDS7FJjR1c")
        apply_account(account=account, remote=same, at=paying.at)
    (found,) = suspicions(paying.at)
    assert found.contributors == accounts[:2]
    assert found.shown == "at Stripe, … 6789"


def test_the_same_tax_number_on_the_forms_of_two_accounts_is_found(world: World) -> None:
    one, other, third = (world.contributor(outcome=None, country="BR") for _ in range(3))
    for contributor, number in ((one, "123.456.789-09"), (other, "12345678909"), (third, "98765432100")):
        tax_forms.record_tax_form(
            contributor=contributor, form="w8ben", country="BR", number=number, signed_on=world.at.date(),
            received_on=world.at.date(), withholding_ppb=0, by=world.compliance, at=world.at, seen=SEEN,
        )  # fmt: skip
    (found,) = suspicions(world.at)
    assert (found.contributors, found.kind, found.shown) == ([one, other], "tax number", "BR … 8909")
    assert not IdentifyingDetail.objects.filter(digest__contains="12345678909").exists()


def test_compliance_is_told_once_of_what_is_to_be_looked_at_and_again_of_one_account_more(world: World) -> None:
    paid_to(world, IBAN)
    paid_to(world, IBAN)
    for _ in range(2):
        notices.notice_what_is_due(at=world.at)
    told = Notice.objects.filter(kind="link_suspected")
    assert told.get().words == "2 accounts have the same bank account (GB … 5555). Are they one person's?"
    paid_to(world, IBAN)
    notices.notice_what_is_due(at=world.at)
    assert told.count() == 2


def test_a_link_takes_two_people_of_compliance_is_told_to_each_account_and_logged(
    world: World, colleague: User
) -> None:
    one, other = paid_to(world, IBAN), paid_to(world, IBAN)
    link = proposed(world, one, other)
    assert linked_accounts(world.at) == {}
    notices.notice_what_is_due(at=world.at)
    notices.send_due_notices(at=world.at)
    [asked] = [message for message in mail.outbox if "wait for a second person" in message.subject]
    assert colleague.email in asked.bcc
    assert world.compliance.email not in asked.bcc
    with pytest.raises(actor.UnableToTrustPresence):
        approve(link, by=colleague, at=world.at, seen=NOBODY)
    approve(link, by=colleague, at=world.at, seen=SEEN)
    assert set(linked_accounts(world.at)) == {one.pk, other.pk}
    words = Notice.objects.get(contributor=one, kind="accounts_linked").words
    assert other.display_name in words
    assert "One bank account." in words
    events = AuditEvent.objects.filter(subject=f"link:{link.public_id}").order_by("sequence")
    assert [(event.action, event.actor) for event in events] == [
        ("propose_link", world.compliance),
        ("approve_link", colleague),
    ]
    assert events[1].after == {"state": "approved", "account_numbers": [one.pk, other.pk], "reason": link.reason}
    assert notices.send_due_notices(at=world.at) >= 2
    subjects = [message.subject.removeprefix("Tributary: ") for message in mail.outbox]
    assert subjects.count("Your accounts have the same beneficial owner") == 2
    assert subjects.count("Linked accounts wait for a second person") == 1


def test_the_end_of_a_link_takes_two_people_and_is_told(world: World, colleague: User) -> None:
    one, other = paid_to(world, IBAN), paid_to(world, IBAN)
    link = approve(proposed(world, one, other), by=colleague, at=world.at, seen=SEEN)
    later = world.at + timedelta(days=1)
    ending = links.propose_end_of_link(link=link, reason="Father and son.", by=colleague, at=later, seen=SEEN)
    approve(ending, by=world.compliance, at=later, seen=SEEN)
    assert linked_accounts(later) == {}
    assert "Father and son." in Notice.objects.get(contributor=other, kind="accounts_unlinked").words
    # Two people have looked at it: the bank account alone does not bring it back.
    assert suspicions(later) == []


def test_who_is_not_of_compliance_neither_proposes_nor_decides(world: World, colleague: User) -> None:
    one, other = paid_to(world, IBAN), paid_to(world, IBAN)
    link = proposed(world, one, other)
    for by in (world.maker, world.checker):
        with pytest.raises(actor.UnableToAct):
            links.propose_link(contributors=[one, other], reason="So.", by=by, at=world.at, seen=SEEN)
        with pytest.raises(actor.UnableToAct):
            links.dismiss_suspicion(contributors=[one, other], reason="So.", by=by, at=world.at, seen=SEEN)
        with pytest.raises(UnableToDecide, match="takes the role compliance or admin"):
            approve(link, by=by, at=world.at, seen=SEEN)
    agreed = approve(link, by=colleague, at=world.at, seen=SEEN)
    for by in (world.maker, world.checker):
        with pytest.raises(actor.UnableToAct):
            links.propose_end_of_link(link=agreed, reason="So.", by=by, at=world.at, seen=SEEN)


def test_different_people_with_one_bank_account_are_written_down_and_left_alone(world: World) -> None:
    couple = [paid_to(world, IBAN), paid_to(world, IBAN)]
    links.dismiss_suspicion(contributors=couple, reason="A couple.", by=world.compliance, at=world.at, seen=SEEN)
    assert suspicions(world.at) == []
    assert linked_accounts(world.at) == {}
    assert AuditEvent.objects.filter(action="dismiss_suspicion", actor=world.compliance).count() == 1
    assert not Notice.objects.filter(contributor__in=couple, kind="accounts_linked").exists()
