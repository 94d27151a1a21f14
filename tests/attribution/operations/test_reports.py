"""Reporting generations: each judged alone, stored once, answered the same again."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from attribution.models import Generation
from attribution.operations import manifests, model_services, model_versions, reports
from attribution.operations.candidates import (
    OUTPUT_BYTES_MAX,
    PROMPT_BYTES_MAX,
    PROMPT_TOKEN_IDS_MAX,
    TOKEN_IDS_MAX,
)
from attribution.operations.fields import UnableToAccept
from attribution.operations.reports import BATCH_MAX
from tests.worlds.programme import OUTPUT, Programme
from tests.worlds.trained import Committed, Trained, register_version


def refusal(programme: Programme, **changes: Any) -> UnableToAccept:
    """The reason for which a generation with these changes is not stored."""
    (result,) = programme.report(programme.generation(**changes))
    assert result.refusal is not None, f"{changes} was accepted"
    assert not Generation.objects.exists()
    assert result.id is None
    return result.refusal


def test_a_new_generation_is_stored_as_reported(indexed: Programme) -> None:
    (result,) = indexed.report(
        indexed.generation(output={"text": "", "token_ids": [17, 4]}, gross={"amount": "0.05", "currency": "EUR"})
    )
    row = Generation.objects.get()
    assert (result.status, result.id) == (201, str(row.pk))
    assert row.service == indexed.service
    assert row.model_version == indexed.model_version
    assert (row.prompt_text, row.output_text, row.token_ids) == ("Fellow citizens of the Senate", "", [17, 4])
    assert (row.gross, row.currency) == (50_000_000, "EUR")
    assert (row.received_at, row.state) == (indexed.at, "received")
    assert row.pk.version == 7


def test_the_same_body_gets_the_same_answer_and_is_stored_once(indexed: Programme) -> None:
    (first,) = indexed.report(indexed.generation())
    (again,) = indexed.report(indexed.generation())
    assert (first.status, again.status) == (201, 200)
    assert first.id == again.id
    assert Generation.objects.count() == 1


def test_the_same_moment_written_in_another_way_is_the_same_body(indexed: Programme) -> None:
    moment = indexed.at.strftime("%Y-%m-%dT%H:%M:%S")
    (first,) = indexed.report(indexed.generation(occurred_at=f"{moment}Z"))
    (again,) = indexed.report(indexed.generation(occurred_at=f"{moment}.000+00:00"))
    assert (first.status, again.status) == (201, 200)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"output": {"text": "war"}}, ["output"]),
        ({"output": {"text": OUTPUT, "token_ids": [1]}}, ["output"]),
        ({"prompt": {"text": "Gentlemen"}}, ["prompt"]),
        ({"occurred_at": "2026-11-19T10:00:00Z"}, ["occurred_at"]),
        ({"gross": {"amount": "0.05", "currency": "USD"}}, ["gross"]),
        ({"prompt": {"text": ""}, "output": {"text": ""}}, ["prompt", "output"]),
        ({"model_version": "another"}, ["model_version"]),
    ],
)
def test_another_body_under_the_same_id_is_refused_and_the_difference_named(
    indexed: Programme, change: dict[str, Any], differs: list[str]
) -> None:
    indexed.report(indexed.generation())
    (result,) = indexed.report(indexed.generation(**change))
    assert result.refusal is not None
    assert (result.status, result.refusal.problem) == (409, "body-differs")
    assert result.refusal.members == {"differs": differs}
    assert Generation.objects.get().output_text.endswith("peace.")


def test_one_bad_item_loses_nothing_else(indexed: Programme) -> None:
    batch = [indexed.generation(f"g{number}") for number in range(5)]
    batch[2] = indexed.generation("g2", model_version="unheard-of")
    results = indexed.report(*batch)
    assert [result.status for result in results] == [201, 201, 422, 201, 201]
    assert [result.external_id for result in results] == ["g0", "g1", "g2", "g3", "g4"]
    assert set(Generation.objects.values_list("external_id", flat=True)) == {"g0", "g1", "g3", "g4"}


def test_a_batch_that_repeats_an_id_stores_it_once(indexed: Programme) -> None:
    one, other = indexed.generation("g1"), indexed.generation("g1", output={"text": "war"})
    results = indexed.report(one, one, other)
    assert [result.status for result in results] == [201, 200, 409]
    assert results[0].id == results[1].id
    assert Generation.objects.count() == 1


def test_an_unknown_model_version_is_refused(indexed: Programme) -> None:
    reason = refusal(indexed, model_version="unheard-of")
    assert (reason.problem, reason.members) == ("unknown-model-version", {"field": "model_version"})


def test_another_services_model_version_is_as_unknown_as_none(indexed: Programme) -> None:
    stranger = model_services.register_service(name="stranger", at=indexed.at)
    (result,) = reports.report_generations(service=stranger, generations=[indexed.generation()], at=indexed.at)
    assert result.refusal is not None
    assert result.refusal.problem == "unknown-model-version"


def test_services_do_not_share_external_ids(indexed: Programme, trained: Trained) -> None:
    stranger = model_services.register_service(name="stranger", at=indexed.at)
    version = register_version(stranger, trained, at=indexed.at, name=indexed.model_version.name)
    manifests.register_manifest(
        model_version=version, items=[manifests.NewItem(indexed.works[0].pk, 0, 0, 48)], at=indexed.at
    )
    (ours,) = indexed.report(indexed.generation("g1"))
    (theirs,) = reports.report_generations(
        service=stranger, generations=[indexed.generation("g1", output={"text": "war"})], at=indexed.at
    )
    assert (ours.status, theirs.status) == (201, 201)


def test_a_model_version_without_a_manifest_is_refused(indexed: Programme, trained: Trained) -> None:
    register_version(indexed.service, trained, at=indexed.at, name="unexplained")
    assert refusal(indexed, model_version="unexplained").problem == "no-manifest"


def test_a_retired_model_version_takes_nothing_new_and_answers_what_it_took(indexed: Programme) -> None:
    (first,) = indexed.report(indexed.generation("g1"))
    model_versions.retire_model_version(model_version=indexed.model_version, at=indexed.at)
    again, new = indexed.report(indexed.generation("g1"), indexed.generation("g2"))
    assert (again.status, again.id) == (200, first.id)
    assert new.refusal is not None
    assert new.refusal.problem == "retired-model-version"


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"external_id": ""}, "external_id", "invalid-field"),
        ({"external_id": "x" * 201}, "external_id", "invalid-field"),
        ({"external_id": "a\nb"}, "external_id", "invalid-field"),
        ({"external_id": 7}, "external_id", "invalid-field"),
        ({"external_id": "\ud800"}, "external_id", "invalid-field"),
        ({"model_version": None}, "model_version", "invalid-field"),
        ({"model_version": "x" * 500}, "model_version", "text-too-long"),
        ({"model_version": "a\x00"}, "model_version", "malformed-text"),
        ({"occurred_at": "yesterday"}, "occurred_at", "invalid-field"),
        ({"occurred_at": "2026-11-20"}, "occurred_at", "invalid-field"),
        ({"occurred_at": "2026-11-20T10:00:00"}, "occurred_at", "invalid-field"),
        ({"occurred_at": "2026-11-31T10:00:00Z"}, "occurred_at", "invalid-field"),
        ({"occurred_at": 1_800_000_000}, "occurred_at", "invalid-field"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at", "invalid-field"),
        ({"occurred_at": "2026-11-20T10:00:00+99:00"}, "occurred_at", "invalid-field"),
        ({"prompt": "text"}, "prompt", "invalid-field"),
        ({"prompt": {}}, "prompt.text", "missing-field"),
        ({"prompt": {"text": 5}}, "prompt.text", "invalid-field"),
        ({"prompt": {"text": "a\x00b"}}, "prompt.text", "malformed-text"),
        ({"prompt": {"text": "x" * (PROMPT_BYTES_MAX + 1)}}, "prompt.text", "text-too-long"),
        ({"prompt": {"text": "é" * (PROMPT_BYTES_MAX // 2 + 1)}}, "prompt.text", "text-too-long"),
        ({"output": None}, "output", "invalid-field"),
        ({"output": {"token_ids": [1]}}, "output.text", "missing-field"),
        ({"output": {"text": "half \ud83d pair"}}, "output.text", "malformed-text"),
        ({"output": {"text": "x" * (OUTPUT_BYTES_MAX + 1)}}, "output.text", "text-too-long"),
        ({"output": {"text": "a", "token_ids": [1] * (TOKEN_IDS_MAX + 1)}}, "output.token_ids", "too-many-tokens"),
        ({"output": {"text": "a", "token_ids": [1.0]}}, "output.token_ids", "invalid-field"),
        ({"output": {"text": "a", "token_ids": [True]}}, "output.token_ids", "invalid-field"),
        ({"output": {"text": "a", "token_ids": [-1]}}, "output.token_ids", "invalid-field"),
        ({"output": {"text": "a", "token_ids": [2**31]}}, "output.token_ids", "invalid-field"),
        ({"output": {"text": "a", "token_ids": {"1": 1}}}, "output.token_ids", "invalid-field"),
        ({"output": {"text": "a", "tokens": [1]}}, "output", "unknown-field"),
        ({"gross": {"amount": "0.05"}}, "gross.currency", "missing-field"),
        ({"gross": {"amount": 0.05, "currency": "USD"}}, "gross.amount", "invalid-amount"),
        ({"gross": {"amount": "0.05 ", "currency": "USD"}}, "gross.amount", "invalid-amount"),
        ({"gross": {"amount": "-0.05", "currency": "USD"}}, "gross.amount", "invalid-amount"),
        ({"gross": {"amount": "1e3", "currency": "USD"}}, "gross.amount", "invalid-amount"),
        ({"gross": {"amount": "0.0000000001", "currency": "USD"}}, "gross.amount", "invalid-amount"),
        ({"gross": {"amount": "1000000000", "currency": "USD"}}, "gross.amount", "invalid-amount"),
        ({"gross": {"amount": "٣", "currency": "USD"}}, "gross.amount", "invalid-amount"),
        ({"gross": {"amount": "0.000", "currency": "USD"}}, "gross.amount", "invalid-amount"),
        ({"gross": {"amount": "0.05", "currency": "dollars"}}, "gross.currency", "invalid-currency"),
        ({"gross": {"amount": "0.05", "currency": "usd"}}, "gross.currency", "invalid-currency"),
        ({"gros": {"amount": "0.05", "currency": "USD"}}, "", "unknown-field"),
    ],
)
def test_a_malformed_generation_is_refused_and_its_field_named(
    indexed: Programme, change: dict[str, Any], field: str, problem: str
) -> None:
    reason = refusal(indexed, **change)
    assert (reason.problem, reason.members["field"], reason.status) == (problem, field, 422)


@pytest.mark.parametrize("item", [None, 5, "g1", [], [["external_id", "g1"]]])
def test_what_is_no_object_is_refused(indexed: Programme, item: Any) -> None:
    (result,) = indexed.report(item)
    assert result.refusal is not None
    assert (result.status, result.external_id, result.refusal.problem) == (422, None, "invalid-field")


@pytest.mark.parametrize("field", ["external_id", "model_version", "occurred_at", "output"])
def test_a_missing_field_is_named(indexed: Programme, field: str) -> None:
    generation = indexed.generation()
    del generation[field]
    (result,) = indexed.report(generation)
    assert result.refusal is not None
    assert (result.refusal.problem, result.refusal.members) == ("missing-field", {"field": field})


@pytest.mark.parametrize(
    ("age", "accepted"),
    [
        (timedelta(days=35), True),
        (timedelta(days=35, seconds=1), False),
        (timedelta(minutes=-5), True),
        (timedelta(minutes=-5, seconds=-1), False),
    ],
)
def test_a_date_lies_in_the_last_35_days(indexed: Programme, age: timedelta, accepted: bool) -> None:
    (result,) = indexed.report(indexed.generation(occurred_at=(indexed.at - age).isoformat()))
    assert result.status == (201 if accepted else 422)
    if result.refusal is not None:
        assert result.refusal.problem == "date-out-of-range"


def test_a_report_repeated_after_weeks_still_gets_its_answer(indexed: Programme) -> None:
    (first,) = indexed.report(indexed.generation())
    indexed.at += timedelta(days=60)
    generation = indexed.generation(occurred_at=(indexed.at - timedelta(days=60, hours=1)).isoformat())
    (again,) = indexed.report(generation)
    assert (again.status, again.id) == (200, first.id)


def test_texts_and_tokens_up_to_the_limits_are_taken(indexed: Programme) -> None:
    ids = {"text": "", "token_ids": [519] * TOKEN_IDS_MAX}
    (result,) = indexed.report(
        indexed.generation("ids", prompt={"token_ids": [519] * PROMPT_TOKEN_IDS_MAX}, output=ids)
    )
    assert result.status == 201
    assert Generation.objects.get().token_ids == ids["token_ids"]
    (result,) = indexed.report(
        indexed.generation(
            prompt={"text": "é" * (PROMPT_BYTES_MAX // 2)},
            output={"text": "x" * OUTPUT_BYTES_MAX},
            gross={"amount": "999999999.999999999", "currency": "JPY"},
        )
    )
    assert result.status == 201
    assert Generation.objects.get(external_id="g1").gross == 999_999_999_999_999_999


@pytest.mark.parametrize("size", [0, BATCH_MAX + 1])
def test_a_batch_has_1_to_1000_generations(indexed: Programme, size: int) -> None:
    with pytest.raises(reports.UnableToReport, match="1 to 1000"):
        indexed.report(*[indexed.generation(f"g{number}") for number in range(size)])


def test_a_full_batch_is_one_insert(indexed: Programme, django_assert_max_num_queries: Any) -> None:
    batch = [indexed.generation(f"g{number}") for number in range(BATCH_MAX)]
    with django_assert_max_num_queries(5):  # savepoint, model versions, insert, look up, release
        results = indexed.report(*batch)
    assert {result.status for result in results} == {201}


def test_what_was_reported_never_changes(indexed: Programme) -> None:
    indexed.report(indexed.generation())
    changes: list[dict[str, Any]] = [{"output_text": "war"}, {"gross": 5}, {"request_sha256": b"x" * 32}]
    for change in changes:
        with pytest.raises(DatabaseError, match="does not change"), transaction.atomic():
            Generation.objects.update(**change)
    with pytest.raises(DatabaseError), transaction.atomic():
        Generation.objects.all().delete()


RACER = """
import sys, json
import django
django.setup()
from datetime import datetime
from attribution.operations import reports
from attribution.models import ModelService

task = json.loads(sys.stdin.readline())
service = ModelService.objects.get(pk=task["service"])
print("ready", flush=True)
sys.stdin.readline()
statuses = []
for batch in task["batches"]:
    results = reports.report_generations(
        service=service, generations=batch, at=datetime.fromisoformat(task["at"]))
    statuses += [(result.status, result.id) for result in results]
print(json.dumps(statuses))
"""


def test_two_processes_that_report_the_same_ids_at_once_store_each_once(committed: Committed) -> None:
    programme = committed.programme
    rows = [programme.generation(f"g{number}") for number in range(1_000)]
    batches = [rows[start : start + 250] for start in range(0, 1_000, 250)]
    task = {"service": programme.service.pk, "at": programme.at.isoformat(), "batches": batches}
    # The second goes through each batch backwards: without one order of locks the two would deadlock.
    backwards = {**task, "batches": [batch[::-1] for batch in batches]}
    racers = []
    for work in (task, backwards):
        racer = subprocess.Popen(
            [sys.executable, "-c", RACER],
            env=committed.environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert racer.stdin is not None
        racer.stdin.write(json.dumps(work) + "\n")
        racer.stdin.flush()
        racers.append(racer)
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    forwards, backward = (json.loads(racer.communicate(timeout=120)[0]) for racer in racers)
    assert [racer.returncode for racer in racers] == [0, 0]
    assert Generation.objects.count() == 1_000
    answers = [*forwards, *backward]
    assert sorted(status for status, _ in answers) == [200] * 1_000 + [201] * 1_000
    assert {identifier for _, identifier in answers} == {
        str(pk) for pk in Generation.objects.values_list("pk", flat=True)
    }
