"""Every kind of proposal obeys one mechanism: two people, one page, one state machine, a line of the log for an act."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from contributors.operations.people import add_member
from payouts.queries import attention
from people.actor import Presence, UnableToAct, UnableToTrustPresence
from people.models import FINANCE_ROLES, STAFF_ROLES, AuditEvent, Proposal, User
from people.operations.proposals import UnableToDecide, approve, propose, reject, withdraw
from people.queries import proposals
from people.queries.proposals import ProposalKind, kind_of
from tests.databases import CommittedDatabase
from tests.worlds.browser import LogIn, at, log_in, words_of
from tests.worlds.proposals import ABOUT_A_CONTRIBUTOR, MAKE, person
from tests.worlds.world import SEEN, World, build_world

__all__ = ["at", "log_in"]
KINDS = {kind.key: kind for kind in proposals.kinds()}
Case = tuple[World, ProposalKind[Any], Any, User, User]
every_kind = pytest.mark.parametrize("key", sorted(KINDS))


@pytest.fixture
def case(db: None, at: datetime, key: str) -> Case:
    """A world, a kind, an open proposal of it, its proposer and a second person that may approve it."""
    world = build_world(at)
    first, second = person(world, "proposer"), person(world, "approver")
    return world, KINDS[key], MAKE[key](world, first), first, second


def decide(verb: Callable[..., Any], row: Any, by: User, at: datetime, seen: Presence = SEEN) -> Any:
    return verb(row, by=by, at=at, seen=seen)


def last_line() -> AuditEvent:
    return AuditEvent.objects.latest("sequence")


def test_a_test_makes_each_kind() -> None:
    assert set(MAKE) == set(KINDS)
    heirs = {model for model in Proposal.__subclasses__() if not model._meta.abstract}
    assert {kind.model for kind in KINDS.values()} == heirs


@every_kind
def test_the_proposal_is_logged_and_waits_in_the_inbox(case: Case) -> None:
    world, kind, row, first, _second = case
    assert kind_of(row).key == kind.key
    line = AuditEvent.objects.filter(action=f"propose_{kind.key}").latest("sequence")
    assert (line.actor, line.subject, line.after["state"]) == (first, kind.subject(row), "proposed")
    assert set(kind.fields) <= set(line.after)
    (group,) = attention.groups(at=world.at, limit=50, kind=f"{kind.key}_proposed")
    assert [item.url for item in group.items] == [f"/console/proposals/{kind.key}/{row.pk}/"]
    assert (group.kind.roles, group.kind.mail) == (kind.approvers, kind.mail)


@every_kind
def test_another_person_approves_it_once(case: Case) -> None:
    world, kind, row, first, second = case
    with pytest.raises(UnableToDecide, match=f"You proposed this {kind.name}, so somebody else has to approve it"):
        decide(approve, row, first, world.at)
    approved = decide(approve, row, second, world.at)
    assert (approved.state, approved.decided_by, approved.decided_at) == ("approved", second, world.at)
    line = last_line()
    assert (line.action, line.actor, line.subject) == (f"approve_{kind.key}", second, kind.subject(row))
    assert (line.before["state"], line.after["state"]) == ("proposed", "approved")
    for verb in (approve, reject):
        with pytest.raises(UnableToDecide, match="It is approved already, by approver on") as refused:
            decide(verb, row, second, world.at)
        assert (refused.value.status, refused.value.problem) == (409, "decided-already")
    with pytest.raises(UnableToDecide, match="approved already"):
        decide(withdraw, row, first, world.at)


@every_kind
def test_another_person_rejects_it_with_a_reason_that_stays(case: Case) -> None:
    world, kind, row, first, second = case
    with pytest.raises(UnableToDecide, match="withdraw it instead"):
        decide(reject, row, first, world.at)
    with pytest.raises(UnableToDecide, match="at most 300 characters, not 301"):
        reject(row, by=second, at=world.at, reason="x" * 301, seen=SEEN)
    rejected = reject(row, by=second, at=world.at, reason=" It is too early. ", seen=SEEN)
    assert (rejected.state, rejected.rejection) == ("rejected", "It is too early.")
    line = last_line()
    assert (line.action, line.actor, line.subject) == (f"reject_{kind.key}", second, kind.subject(row))
    assert line.after["reason_of_rejection"] == "It is too early."
    with pytest.raises(UnableToDecide, match="rejected already"):
        decide(approve, row, second, world.at)


@every_kind
def test_its_proposer_alone_withdraws_it(case: Case) -> None:
    world, kind, row, first, second = case
    with pytest.raises(UnableToDecide, match="proposer proposed this"):
        decide(withdraw, row, second, world.at)
    assert decide(withdraw, row, first, world.at).state == "withdrawn"
    line = last_line()
    assert (line.action, line.actor, line.subject) == (f"withdraw_{kind.key}", first, kind.subject(row))
    with pytest.raises(UnableToDecide, match="withdrawn already"):
        decide(approve, row, second, world.at)


@every_kind
def test_a_person_without_the_role_decides_nothing(case: Case) -> None:
    world, kind, row, _first, _second = case
    roles = [role for role in STAFF_ROLES if role not in kind.approvers]
    other = person(world, "other", *roles)
    with pytest.raises(UnableToDecide, match=f"This takes the role {' or '.join(kind.approvers)}") as refused:
        decide(approve, row, other, world.at)
    assert (refused.value.status, refused.value.problem) == (403, "role-missing")
    stranger = person(world, "stranger", *(role for role in STAFF_ROLES if role not in kind.proposers))
    with pytest.raises(UnableToDecide, match="This takes the role"):
        decide(reject, row, stranger, world.at)
    row.refresh_from_db()
    assert row.state == "proposed"


@every_kind
def test_a_role_that_was_just_given_approves_nothing_for_a_day(case: Case) -> None:
    world, _kind, row, _first, second = case
    # An empty ledger has no cool-down.
    world.credit(world.contributors[0], 5)
    User.objects.filter(pk=second.pk).update(roles_changed_at=world.at - timedelta(hours=23))
    with pytest.raises(UnableToDecide, match="Your roles changed on"):
        decide(approve, row, second, world.at)
    User.objects.filter(pk=second.pk).update(roles_changed_at=world.at - timedelta(hours=25))
    assert decide(approve, row, second, world.at).state == "approved"


@every_kind
def test_a_member_of_the_contributor_does_not_decide_about_it(case: Case) -> None:
    world, kind, row, _first, second = case
    add_member(contributor=world.contributors[0], user=second, role="viewer", at=world.at)
    if kind.key not in ABOUT_A_CONTRIBUTOR:
        assert decide(approve, row, second, world.at).state == "approved"
        return
    with pytest.raises(UnableToDecide, match=f"You act for {world.contributors[0]}, so somebody else has to decide"):
        decide(approve, row, second, world.at)


@every_kind
def test_deciding_takes_a_fresh_second_factor_where_the_kind_says_so(case: Case) -> None:
    world, kind, row, _first, second = case
    if not kind.needs_fresh_factor:
        assert decide(approve, row, second, world.at, Presence()).state == "approved"
        return
    for verb in (approve, reject):
        with pytest.raises(UnableToTrustPresence):
            decide(verb, row, second, world.at, Presence(mfa_age_seconds=301))


# Terms are compared by their operation, under the contract's lock: tests/ledger/operations/test_contracts.py.
@pytest.mark.parametrize("key", sorted(KINDS.keys() - {"terms"}))
def test_an_equal_proposal_waits_for_the_open_one(case: Case) -> None:
    world, kind, row, _first, _second = case
    copy = type(row).objects.get(pk=row.pk)
    copy.pk, copy._state.adding = None, True
    for name, fresh in (("version", lambda old: old + 1), ("public_id", lambda old: None)):
        if hasattr(copy, name):
            field = type(row)._meta.get_field(name)
            setattr(copy, name, fresh(getattr(copy, name)) or field.get_default())
    with pytest.raises(kind.refusal, match=r"already|under way"):
        propose(kind, copy)
    copy.proposed_by = person(world, "auditor", "auditor")
    with pytest.raises(UnableToAct, match="This takes the role"):
        propose(kind, copy)


@every_kind
def test_the_database_holds_it_to_two_people_and_to_its_states(case: Case) -> None:
    world, _kind, row, first, second = case
    rows = type(row).objects.filter(pk=row.pk)
    changes: list[dict[str, Any]] = [
        {"state": "approved", "decided_by": first, "decided_at": world.at},
        {"state": "rejected"},
        {"state": "withdrawn", "decided_by": second, "decided_at": world.at},
        {"state": "withdrawn", "decided_by": first, "decided_at": world.at, "rejection": "no reason"},
        {"proposed_by": second},
    ]
    for change in changes:
        with pytest.raises(DatabaseError), transaction.atomic():
            rows.update(**change)
    decide(withdraw, row, first, world.at)
    for change in ({"state": "proposed"}, {"decided_by": second}, {"state": "approved", "decided_by": second}):
        with pytest.raises(DatabaseError), transaction.atomic():
            rows.update(**change)


@every_kind
def test_one_page_shows_and_decides_it(case: Case, log_in: LogIn) -> None:
    world, kind, row, first, second = case
    address = kind.url(row)
    page = log_in(second).get(address)
    text = words_of(page)
    assert kind.headline(row) in text
    assert [name for name, value in kind.facts(row) if value and name not in text] == []
    assert kind.effect in text
    assert 'value="approve"' in page.content.decode()
    own = log_in(first).get(address)
    assert 'value="approve"' not in own.content.decode()
    assert 'value="withdraw"' in own.content.decode()
    assert "You may withdraw it." in words_of(own)
    assert log_in(first).post(address, {"decision": "approve"}).status_code == 409
    assert log_in(second).post(address, {"decision": "perhaps"}).status_code == 422
    assert "Confirm" in words_of(log_in(second, factor_age=400.0).post(address, {"decision": "approve"}, follow=True))
    auditor = log_in(person(world, "auditor", "auditor"))
    assert 'value="approve"' not in auditor.get(address).content.decode()
    refused = auditor.post(address, {"decision": "approve"})
    assert (refused.status_code, "This takes the role" in words_of(refused)) == (403, True)
    assert log_in(world.users[0]).get(address).status_code == 403
    listed = log_in(second).get("/console/proposals/", {"kind": kind.key, "state": "proposed"})
    assert f'href="{address}"' in listed.content.decode()
    done = log_in(second).post(address, {"decision": "approve"}, follow=True)
    assert done.redirect_chain == [(address, 302)]
    row.refresh_from_db()
    assert row.state == "approved"
    assert kind.approved(row) in words_of(done)
    assert 'name="decision"' not in done.content.decode()
    listed = log_in(second).get("/console/proposals/", {"kind": kind.key, "state": "proposed"})
    assert f'href="{address}"' not in listed.content.decode()


def test_an_approved_void_logs_the_void_and_its_approval(db: None, at: datetime) -> None:
    world = build_world(at)
    first, second = person(world, "proposer"), person(world, "approver")
    row = MAKE["void"](world, first)
    decide(approve, row, second, world.at)
    lines = AuditEvent.objects.filter(subject=f"generation:{row.generation_id}").order_by("sequence")
    assert [(line.action, line.actor) for line in lines] == [
        ("propose_void", first),
        ("void_generation", second),
        ("approve_void", second),
    ]
    assert lines[1].after == {"reason": "test", "detail": "a load test"}


def test_the_list_holds_the_kinds_that_its_reader_may_read(db: None, at: datetime, log_in: LogIn) -> None:
    world = build_world(at)
    by = person(world, "proposer")
    made = {key: make(world, by) for key, make in MAKE.items()}
    urls = {key: KINDS[key].url(row) for key, row in made.items()}
    for role in FINANCE_ROLES:
        page = log_in(person(world, role, role)).get("/console/proposals/").content.decode()
        shown = {key for key, url in urls.items() if f'href="{url}"' in page}
        assert shown == {key for key in urls if role in KINDS[key].readers}, role
    assert log_in(by).get("/console/proposals/", {"kind": "nonsense", "state": "nonsense"}).status_code == 200
    assert "Nothing of this choice" in words_of(log_in(by).get("/console/proposals/", {"state": "rejected"}))
    assert log_in(by).get("/console/proposals/nonsense/1/").status_code == 404
    assert log_in(by).get("/console/proposals/plan/999999/").status_code == 404


def test_of_two_people_that_approve_at_once_one_is_refused_in_words(committed_database: CommittedDatabase) -> None:
    """Each kind in turn, in one database: both wait at a barrier, and the row's lock lets one pass."""
    world = build_world(datetime(2026, 11, 20, 12, tzinfo=UTC))
    first, *others = person(world, "proposer"), person(world, "one"), person(world, "other")
    for key in sorted(KINDS):
        row = MAKE[key](world, first)
        barrier = threading.Barrier(2)
        outcomes: list[str] = []

        def run(by: User, row: Any = row, barrier: Any = barrier, outcomes: list[str] = outcomes) -> None:
            try:
                barrier.wait(30)
                outcomes.append(decide(approve, row, by, world.at).state)
            except UnableToDecide as error:
                outcomes.append(error.problem)
            finally:
                connection.close()

        threads = [threading.Thread(target=run, args=[by]) for by in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(outcomes) == ["approved", "decided-already"], key
        assert AuditEvent.objects.filter(action=f"approve_{key}", subject=KINDS[key].subject(row)).count() == 1, key


def test_the_model_team_reads_its_own_kinds_alone_and_withdraws_what_it_proposed(
    db: None, at: datetime, log_in: LogIn
) -> None:
    world = build_world(at)
    modeller = person(world, "modeller", "model_team")
    mine = MAKE["base_pool"](world, modeller)
    plan = MAKE["plan"](world, person(world, "proposer"))
    browser = log_in(modeller)
    kind = kind_of(mine)
    listed = browser.get("/console/proposals/").content.decode()
    assert kind.url(mine) in listed
    assert kind_of(plan).url(plan) not in listed
    assert browser.get(kind_of(plan).url(plan)).status_code == 403
    assert kind.headline(mine) in words_of(browser.get(kind.url(mine)))
    browser.post(kind.url(mine), {"decision": "withdraw"})
    mine.refresh_from_db()
    assert mine.state == "withdrawn"
