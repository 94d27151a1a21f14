"""Prompts, outputs and media go after the period of their service; digests, shares, receipts and books stay."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.test import Client

from attribution.models import Generation, ModelService, ModelVersion
from attribution.operations.generations import insert_parts
from attribution.operations.outputs import Part
from attribution.operations.recomputations import recompute
from attribution.operations.reports import report_generations
from attribution.operations.retention import UnableToSetRetention, purge_texts, set_retention
from attribution.queries.generations import count_texts_due
from attribution.tasks import purge_texts as purge_task
from contributors.queries.contents import OUTPUTS, path_of
from ledger.operations.corrections import cannot_restate
from ledger.queries.invariants import check, invariants
from people.models import AuditEvent
from tests.worlds import people
from tests.worlds.browser import LogIn, log_in, words_of
from tests.worlds.world import World, build_world

__all__ = ["log_in"]
YEAR = timedelta(days=365)


@pytest.fixture
def world(db: None) -> World:
    return build_world(datetime.now(UTC) - YEAR - timedelta(days=1))


def texts(generation: Generation) -> tuple[Any, ...]:
    generation.refresh_from_db()
    return (generation.prompt_text, generation.output_text, generation.token_ids, generation.prompt_token_ids)


def test_texts_go_after_the_period_and_the_books_stay(world: World) -> None:
    done, waiting = world.generate(2)
    world.attribute([done])
    world.accrue_all()
    computed = recompute(attribution=done.attributions.get())
    before = Generation.objects.values("output_sha256", "request_sha256", "request_parts", "state").get(pk=done.pk)
    assert purge_texts(at=world.at + YEAR) == 0
    at = world.at + YEAR + timedelta(seconds=1)
    assert count_texts_due(at) == 1
    assert (purge_texts(at=at), purge_texts(at=at)) == (1, 0)
    assert texts(done) == ("", "", None, None)
    assert done.texts_deleted_at == at
    assert texts(waiting)[1] == "text"
    assert Generation.objects.values(*before).get(pk=done.pk) == before
    # The stored scores still give the same answer, whether or not this world's made-up shares agree with them.
    assert recompute(attribution=done.attributions.get()) == computed
    assert "deleted after the period" in str(cannot_restate(done))
    assert [found.name for found in map(check, invariants()) if found.rows] == []


def test_the_receipt_and_the_picture_say_that_the_text_is_gone(world: World, log_in: LogIn) -> None:
    (generation,) = world.generate(1)
    world.attribute([generation])
    world.accrue_all()
    purge_texts(at=datetime.now(UTC))
    page = log_in(world.contributors[0].memberships.get().user).get(f"/portal/receipts/{generation.pk}/")
    assert page.status_code == 200
    assert "keeps prompts and outputs for a limited time" in words_of(page)


def test_the_database_lets_the_text_go_wholly_once_and_nothing_else(world: World) -> None:
    done, waiting = world.generate(2)
    world.attribute([done])
    gone = {"prompt_text": "", "output_text": "", "texts_deleted_at": world.at}
    refused: list[tuple[Generation, dict[str, Any]]] = [
        (done, {"output_text": ""}),
        (done, {"texts_deleted_at": world.at}),
        (done, gone | {"external_id": "other"}),
        (done, gone | {"output_sha256": b"x" * 32}),
        (done, gone | {"output_text": "another"}),
        (waiting, gone),
    ]
    for generation, change in refused:
        with pytest.raises(DatabaseError), transaction.atomic():
            Generation.objects.filter(pk=generation.pk).update(**change)
    Generation.objects.filter(pk=done.pk).update(**gone)
    again: tuple[dict[str, Any], ...] = (
        {"texts_deleted_at": None},
        {"output_text": "back"},
        {"texts_deleted_at": world.at + YEAR},
    )
    for change in again:
        with pytest.raises(DatabaseError), transaction.atomic():
            Generation.objects.filter(pk=done.pk).update(**change)


def test_a_file_goes_with_the_last_generation_that_needs_it(world: World, tmp_path: Path, settings: Any) -> None:
    settings.TRIBUTARY_DATA = tmp_path
    old, young = world.generate(2)
    content = b"a picture"
    digest = hashlib.sha256(content).digest()
    part = Part(0, "image", "image/png", digest, content, len(content), b"")
    insert_parts({old.pk: [part], young.pk: [part]})
    world.attribute([old])
    at = datetime.now(UTC)
    assert purge_texts(at=at) == 1
    assert path_of(OUTPUTS, digest).read_bytes() == content
    world.attribute([young])
    assert purge_texts(at=at) == 1
    assert not path_of(OUTPUTS, digest).exists()


def test_a_report_sent_again_after_the_purge_is_known(world: World) -> None:
    # The same digests answer, with no text to compare.
    ModelVersion.objects.filter(pk=world.index.model_version_id).update(state="ready")
    body = {
        "external_id": "again",
        "model_version": world.index.model_version.name,
        "occurred_at": (world.at - timedelta(hours=1)).isoformat(),
        "prompt": {"text": "Say peace."},
        "output": {"text": "Peace."},
    }
    (first,) = report_generations(service=world.service, generations=[body], at=world.at)
    assert first.status == 201, first
    generation = Generation.objects.get(external_id="again")
    world.attribute([generation])
    purge_texts(at=datetime.now(UTC))
    (second,) = report_generations(service=world.service, generations=[body], at=datetime.now(UTC))
    changed = body | {"output": {"text": "War."}}
    (third,) = report_generations(service=world.service, generations=[changed], at=datetime.now(UTC))
    assert (first.status, second.status, third.status) == (201, 200, 409)


def test_an_administrator_sets_the_period_on_the_page(world: World, log_in: LogIn) -> None:
    service = world.service
    admin = people.user("admin@example.org", world.at, ("admin",))
    address = f"/console/services/{service.public_id}/texts/"
    browser: Client = log_in(admin)
    assert "They are deleted 365 days after their report" in words_of(
        browser.get(f"/console/services/{service.public_id}/")
    )
    browser.post(address, {"days": "30"})
    assert ModelService.objects.get().text_retention_days == 30
    assert AuditEvent.objects.get(action="set_retention").after == {"text_retention_days": 30}
    assert browser.post(address, {"days": "0"}).status_code == 422
    browser.post(address, {"days": ""})
    assert ModelService.objects.get().text_retention_days is None
    team = log_in(people.user("team@example.org", world.at, ("model_team",)))
    assert team.post(address, {"days": "1"}).status_code == 403
    with pytest.raises(UnableToSetRetention, match="1 to 3,650 days"):
        set_retention(service=service, days=4000, at=world.at)


def test_the_command_counts_and_deletes_and_the_task_does_the_same(world: World) -> None:
    world.attribute(world.generate(3))
    said = StringIO()
    call_command("purge_texts", "--dry-run", stdout=said)
    call_command("purge_texts", stdout=said)
    assert said.getvalue().splitlines() == [
        "3 generations have texts past their period. Nothing was deleted.",
        "Deleted the texts of 3 generations. Digests, receipts and books are unchanged.",
    ]
    world.attribute(world.generate(1))
    assert (purge_task(), purge_task()) == (1, 0)
