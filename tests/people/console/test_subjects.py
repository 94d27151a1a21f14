"""A line of the audit log links to its object: the page of the object itself, or its place in a list."""

from __future__ import annotations

from datetime import datetime

from payouts.models import WebhookEvent
from people.console.subjects import SUBJECTS, subjects_of
from people.models import AuditEvent
from tests.worlds.browser import LogIn, at, log_in
from tests.worlds.proposals import MAKE, person
from tests.worlds.world import World, build_world

__all__ = ["at", "log_in"]


def test_each_line_of_the_log_leads_to_a_page_of_its_object(db: None, at: datetime, log_in: LogIn) -> None:
    world = build_world(at)
    first = person(world, "proposer")
    for make in MAKE.values():
        make(world, first)
    reader = log_in(person(world, "reader"))
    page = reader.get("/console/audit/").content.decode()
    subjects = sorted(set(AuditEvent.objects.values_list("subject", flat=True)))
    assert len(subjects) >= 10
    for text, subject in zip(subjects, subjects_of(subjects), strict=True):
        assert subject.url, text
        assert text.partition(":")[2] in subject.name
        assert f'href="{subject.url}"' in page, text
        assert reader.get(subject.url.partition("#")[0]).status_code == 200, text
        fragment = subject.url.partition("#")[2]
        assert not fragment or f'id="{fragment}"' in reader.get(subject.url.partition("#")[0]).content.decode(), text


def test_payees_payouts_events_and_links_are_found_by_their_keys(db: None, at: datetime) -> None:
    world = World(at)
    world.policy()
    payee = world.contributor(1234)
    payout = world.approved().payouts.get()
    event = WebhookEvent.objects.create(
        endpoint="connect",
        event_id="evt_1",
        type="payout.paid",
        object_id="po_1",
        created=world.at,
        received_at=world.at,
        livemode=False,
        payload="{}",
        state="dead",
        error="Nothing here knows po_1.",
    )
    found = subjects_of(
        [f"contributor:{payee.pk}", f"payout:{payout.public_id}:line 1", "event:evt_1", "link:nonsense", "payout:x"]
    )
    assert [subject.url for subject in found] == [
        f"/console/payees/{payee.public_id}/",
        f"/console/runs/{payout.run.public_id}/payouts/{payout.public_id}/",
        f"/console/inbox/{event.pk}/",
        "",
        "",
    ]


def test_an_unknown_kind_has_a_name_and_no_page() -> None:
    (subject,) = subjects_of(["old_kind:7"])
    assert (subject.name, subject.url) == ("Old kind 7", "")
    assert "old_kind" not in SUBJECTS
