"""Accounts that are found to be one person's: proposed by one, agreed to by another, dated, ended by two."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import Client

from contributors.models import PPB, Contributor, ContributorLink, Holder, IdentifyingDetail, LinkedContributor, LinkEnd
from contributors.operations import links, splits, works
from contributors.operations.links import UnableToLink
from contributors.operations.people import register_holder
from contributors.queries.links import counted_as_one, linked_accounts, suspicions
from people.actor import Presence
from people.models import User
from people.operations.proposals import UnableToDecide, approve, reject, withdraw
from tests.worlds import people

pytestmark = pytest.mark.django_db
SEEN = Presence(mfa_age_seconds=0)


@pytest.fixture
def finder(db: None, at: datetime) -> User:
    return people.user("finder@example.org", at, ("compliance",))


@pytest.fixture
def decider(db: None, at: datetime) -> User:
    return people.user("decider@example.org", at, ("compliance",))


@pytest.fixture
def cleo(db: None, at: datetime) -> Contributor:
    return people.contributor("Cleo", at)


def propose(accounts: list[Contributor], finder: User, at: datetime) -> ContributorLink:
    return links.propose_link(contributors=accounts, reason="The same passport.", by=finder, at=at)


def in_force(accounts: list[Contributor], finder: User, decider: User, at: datetime) -> ContributorLink:
    return approve(propose(accounts, finder, at), by=decider, at=at, seen=SEEN)


def note(contributor: Contributor, digest: str, at: datetime) -> None:
    links.note_detail(contributor=contributor, kind="bank_account", digest=digest, shown="DE … 3000", at=at)


def default_holders(*accounts: Contributor) -> tuple[int, ...]:
    return tuple(sorted(Holder.objects.filter(created_by__in=accounts).values_list("pk", flat=True)))


# --- the link -----------------------------------------------------------------------------------------------------
def test_a_link_is_in_force_from_when_somebody_else_agrees_until_two_people_end_it(
    ada: Contributor, ben: Contributor, finder: User, decider: User, at: datetime
) -> None:
    later = at + timedelta(days=1)
    link = propose([ada, ben], finder, at)
    assert linked_accounts(at) == {}
    with pytest.raises(UnableToDecide, match="somebody else"):
        approve(link, by=finder, at=at, seen=SEEN)
    link = approve(link, by=decider, at=at, seen=SEEN)
    assert linked_accounts(at) == {ada.pk: ada.pk, ben.pk: ada.pk}
    assert linked_accounts(at - timedelta(seconds=1)) == {}
    end = links.propose_end_of_link(link=link, reason="Twins.", by=decider, at=later)
    with pytest.raises(UnableToDecide, match="somebody else"):
        approve(end, by=decider, at=later, seen=SEEN)
    assert linked_accounts(later)
    approve(end, by=finder, at=later, seen=SEEN)
    assert linked_accounts(later) == {}
    # A link that was in force then stays in force for that time.
    assert linked_accounts(later - timedelta(seconds=1))


def test_a_refused_link_never_counts_and_a_refused_end_leaves_the_link(
    ada: Contributor, ben: Contributor, finder: User, decider: User, at: datetime
) -> None:
    refused = reject(propose([ada, ben], finder, at), by=decider, at=at, seen=SEEN)
    assert (refused.state, linked_accounts(at)) == ("rejected", {})
    link = in_force([ada, ben], finder, decider, at)
    end = links.propose_end_of_link(link=link, reason="Twins.", by=finder, at=at)
    with pytest.raises(UnableToLink, match="this one is: end proposed"):
        links.propose_end_of_link(link=link, reason="Twins.", by=finder, at=at)
    assert withdraw(end, by=finder, at=at).state == "withdrawn"
    assert linked_accounts(at)
    for wrong in (refused, link, end):
        with pytest.raises(UnableToDecide, match="already, by"):
            approve(wrong, by=decider, at=at, seen=SEEN)
    with pytest.raises(UnableToLink, match="Only a link in force"):
        links.propose_end_of_link(link=refused, reason="Twins.", by=finder, at=at)


def test_equal_accounts_are_proposed_once_at_a_time(
    ada: Contributor, ben: Contributor, finder: User, decider: User, at: datetime
) -> None:
    link = propose([ada, ben], finder, at)
    with pytest.raises(UnableToLink, match="The same accounts are proposed already"):
        propose([ben, ada], decider, at)
    withdraw(link, by=finder, at=at)
    propose([ben, ada], decider, at)


def test_links_that_share_an_account_make_one_group(
    ada: Contributor, ben: Contributor, cleo: Contributor, finder: User, decider: User, at: datetime
) -> None:
    in_force([ben, cleo], finder, decider, at)
    last = in_force([ada, ben], finder, decider, at)
    assert set(linked_accounts(at).values()) == {ada.pk}
    end = links.propose_end_of_link(link=last, reason="Twins.", by=finder, at=at)
    approve(end, by=decider, at=at, seen=SEEN)
    assert linked_accounts(at) == {ben.pk: ben.pk, cleo.pk: ben.pk}


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001])
def test_a_link_needs_a_reason_that_people_can_read(
    ada: Contributor, ben: Contributor, finder: User, at: datetime, reason: str
) -> None:
    with pytest.raises(UnableToLink, match="Say why"):
        links.propose_link(contributors=[ada, ben], reason=reason, by=finder, at=at)


def test_a_link_joins_several_accounts_each_once(ada: Contributor, finder: User, at: datetime) -> None:
    for accounts in ([], [ada], [ada, ada]):
        with pytest.raises(UnableToLink, match="each named once"):
            propose(accounts, finder, at)


def test_the_database_keeps_what_was_decided(
    ada: Contributor, ben: Contributor, cleo: Contributor, finder: User, decider: User, at: datetime
) -> None:
    link = in_force([ada, ben], finder, decider, at)
    row = ContributorLink.objects.filter(pk=link.pk)
    proposed = propose([ada, cleo], finder, at)
    changes: list[Callable[[], object]] = [
        lambda: row.update(reason="Another."),
        lambda: row.update(decided_at=at + timedelta(days=1)),
        lambda: row.update(state="proposed", decided_at=None, decided_by=None),
        lambda: row.update(state="rejected"),
        lambda: LinkEnd.objects.create(link=proposed, reason="Twins.", proposed_by=finder, proposed_at=at),
        lambda: row.delete(),
        lambda: LinkedContributor.objects.create(link=link, contributor=cleo),
        lambda: LinkedContributor.objects.filter(link=link).update(contributor=cleo),
        lambda: LinkedContributor.objects.filter(link=link).delete(),
        # Four eyes, for every writer.
        lambda: ContributorLink.objects.filter(pk=proposed.pk).update(
            state="approved", decided_by=finder, decided_at=at
        ),
    ]
    for change in changes:
        with pytest.raises(DatabaseError), transaction.atomic():
            change()


def test_the_database_refuses_a_link_of_one_account(ada: Contributor, finder: User, at: datetime) -> None:
    @transaction.atomic
    def write() -> None:
        link = ContributorLink.objects.create(reason="Alone.", proposed_by=finder, proposed_at=at)
        LinkedContributor.objects.create(link=link, contributor=ada)
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    with pytest.raises(IntegrityError, match="fewer than two"):
        write()


# --- who counts as one --------------------------------------------------------------------------------------------
def test_holders_of_linked_accounts_count_as_one_and_those_of_others_alone(
    ada: Contributor, ben: Contributor, cleo: Contributor, finder: User, decider: User, at: datetime
) -> None:
    every = default_holders(ada, ben, cleo)
    assert counted_as_one(every, at) == []
    in_force([ada, cleo], finder, decider, at)
    assert counted_as_one(every, at) == [default_holders(ada, cleo)]
    # Of an index that has no works of one of them.
    assert counted_as_one(default_holders(ada, ben), at) == []
    assert counted_as_one([], at) == []


def test_a_holder_that_somebody_else_has_a_part_in_counts_with_those_of_the_same_people(
    ada: Contributor, ben: Contributor, cleo: Contributor, finder: User, decider: User, at: datetime
) -> None:
    def duo(one: Contributor, other: Contributor) -> int:
        parts = {one: PPB // 4, other: PPB - PPB // 4}
        return register_holder(contributor=one, label="Duo", parts=parts, effective_from=at, at=at).pk

    first, second, third = duo(ada, ben), duo(ben, ada), duo(cleo, ben)
    every = [*default_holders(ada), first, second, third]
    assert counted_as_one(every, at) == [(first, second)]
    in_force([ada, cleo], finder, decider, at)
    assert counted_as_one(every, at) == [(first, second, third)]


def test_a_work_that_an_account_puts_under_a_holder_of_its_own_counts_with_the_rest(
    ada: Contributor, at: datetime
) -> None:
    (work,) = works.register_works(dataset=people.dataset(ada, at), works=[people.text_work(1)], at=at)
    owner = ada.memberships.get(role="owner").user
    splits.propose_split_sheet(contributor=ada, work=work, parts={ada: PPB}, effective_from=at, by=owner, at=at)
    work.refresh_from_db()
    (before,) = (holder for holder in default_holders(ada) if holder != work.holder_id)
    assert counted_as_one([before, work.holder_id], at) == [(before, work.holder_id)]


# --- finding them -------------------------------------------------------------------------------------------------
def test_accounts_that_share_a_detail_wait_for_somebody_to_look(
    ada: Contributor, ben: Contributor, cleo: Contributor, at: datetime
) -> None:
    note(ada, "a", at)
    note(ada, "a", at)
    note(cleo, "c", at)
    assert suspicions(at) == []
    note(ben, "a", at + timedelta(hours=1))
    (found,) = suspicions(at)
    assert (found.contributors, found.kind, found.shown) == ([ada, ben], "bank account", "DE … 3000")
    assert found.noted_at == at + timedelta(hours=1)
    assert IdentifyingDetail.objects.count() == 3


def test_what_somebody_proposed_or_decided_is_no_longer_to_be_looked_at_until_one_account_more_shares_it(
    ada: Contributor, ben: Contributor, cleo: Contributor, finder: User, decider: User, at: datetime
) -> None:
    note(ada, "a", at)
    note(ben, "a", at)
    links.dismiss_suspicion(contributors=[ada, ben], reason="A couple.", by=finder, at=at, seen=SEEN)
    assert suspicions(at) == []
    assert linked_accounts(at) == {}
    note(cleo, "a", at)
    (found,) = suspicions(at)
    assert found.contributors == [ada, ben, cleo]
    in_force([ada, ben], finder, decider, at)
    assert suspicions(at)
    link = propose([ben, cleo], finder, at)
    assert suspicions(at)
    # By both links together all of them are one person's.
    approve(link, by=decider, at=at, seen=SEEN)
    assert suspicions(at) == []


def test_a_detail_noted_under_two_keys_is_one_suspicion(ada: Contributor, ben: Contributor, at: datetime) -> None:
    for digest in ("old", "new"):
        for one in (ada, ben):
            note(one, digest, at)
    assert len(suspicions(at)) == 1


# --- what they see ------------------------------------------------------------------------------------------------
def page_of(contributor: Contributor) -> str:
    client = Client(headers={"Host": "127.0.0.1"})
    owner = contributor.memberships.get(role="owner").user
    client.force_login(owner, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client.get("/portal/splits/").content.decode()


def test_each_account_reads_that_it_counts_as_one_with_which_and_why(
    ada: Contributor, ben: Contributor, cleo: Contributor, finder: User, decider: User, at: datetime
) -> None:
    in_force([ada, ben], finder, decider, at)
    for own, other in ((ada, "Ben"), (ben, "Ada")):
        page = page_of(own)
        assert "Your accounts have the same beneficial owner" in page
        assert f"“{other}”" in page
        assert "The same passport." in page
    assert "same beneficial owner" not in page_of(cleo)
