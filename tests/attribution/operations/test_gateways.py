"""Records of gateways: reported under the model version of their name, kept while there is none, and counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.test import override_settings
from django.utils import timezone

from attribution import tasks
from attribution.models import GatewayTally, Generation, ModelName, ModelVersion, WaitingReport
from attribution.operations import gateways, model_names
from attribution.operations.dialects.calls import Call, Fault, Skip
from attribution.queries.gateways import NameBook, waiting_names
from attribution.queries.open_items import KINDS
from tests.worlds.programme import Programme
from tests.worlds.trained import Trained, register_version


def call(programme: Programme, external_id: str = "c1", **changes: Any) -> Call:
    made = Call(external_id, "openai/house-1", programme.at - timedelta(hours=1), "peace", "Fellow citizens")
    return replace(made, **changes)


def take(programme: Programme, *items: Any, at: Any = None) -> list[gateways.RecordResult]:
    return gateways.take_records(service=programme.service, door="litellm", items=items, at=at or programme.at)


def name(programme: Programme, pattern: str = "openai/house-1", **changes: Any) -> ModelName:
    given = {"kind": "exact", "model_version": programme.model_version, "at": programme.at, **changes}
    return model_names.name_model(service=programme.service, pattern=pattern, **given)


def outcomes(results: list[gateways.RecordResult]) -> list[str]:
    return [str(result.outcome) for result in results]


# --- names ----------------------------------------------------------------------------------------------------------
def test_a_named_call_becomes_a_generation_once(indexed: Programme) -> None:
    name(indexed)
    (first,), (again,) = take(indexed, call(indexed)), take(indexed, call(indexed))
    row = Generation.objects.get()
    assert outcomes([first, again]) == ["stored", "known"]
    assert first.id == again.id == str(row.pk)
    assert (row.external_id, row.model_version, row.gross) == ("c1", indexed.model_version, None)
    assert (row.prompt_text, row.output_text, row.received_at) == ("Fellow citizens", "peace", indexed.at)


def test_the_services_own_name_of_a_model_version_needs_no_entry(indexed: Programme) -> None:
    assert outcomes(take(indexed, call(indexed, model=indexed.model_version.name))) == ["stored"]


def test_one_bad_record_affects_no_other(indexed: Programme) -> None:
    name(indexed)
    results = take(
        indexed,
        call(indexed),
        Skip("embeddings", "e1"),
        Fault("missing-field", "model is missing.", "f1", field="model"),
        call(indexed, "c2", occurred_at=indexed.at - timedelta(days=40)),
        call(indexed, "c3", token_ids=[-1]),
        call(indexed, "c4"),
    )
    assert outcomes(results) == ["stored", "skipped", "refused", "refused", "refused", "stored"]
    reasons = [result.reason for result in results[1:5]]
    assert reasons == ["embeddings", "missing-field", "date-out-of-range", "invalid-field"]
    counted = {(row.outcome, row.reason): row.n for row in GatewayTally.objects.filter(service=indexed.service)}
    assert counted == {
        ("stored", ""): 2,
        ("skipped", "embeddings"): 1,
        ("refused", "missing-field"): 1,
        ("refused", "date-out-of-range"): 1,
        ("refused", "invalid-field"): 1,
    }
    take(indexed, Skip("embeddings", "e1"))
    assert GatewayTally.objects.get(reason="embeddings").n == 2


def test_an_exact_name_counts_before_a_beginning(indexed: Programme, trained: Trained) -> None:
    other = register_ready(indexed, trained)
    name(indexed, "openai/", kind="prefix")
    name(indexed, "openai/house-1", model_version=other)
    book, moment = NameBook(indexed.service), indexed.at
    assert book.find("openai/house-1", moment) == other
    assert book.find("openai/house-1-mini", moment) == indexed.model_version
    assert book.find("azure/house-1", moment) is None


def register_ready(programme: Programme, trained: Trained, version: str = "orator-2") -> ModelVersion:
    made = register_version(programme.service, trained, at=programme.at, name=version)
    ModelVersion.objects.filter(pk=made.pk).update(state="ready")
    made.refresh_from_db()
    return made


def test_a_change_of_a_name_rewrites_no_history(indexed: Programme, trained: Trained) -> None:
    first, other = name(indexed), register_ready(indexed, trained)
    change = indexed.at + timedelta(days=2)
    model_names.end_name(name=first, at=change)
    second = name(indexed, model_version=other, at=change + timedelta(days=1))
    assert second.begins_at == change
    book = NameBook(indexed.service)
    assert book.find("openai/house-1", change - timedelta(seconds=1)) == indexed.model_version
    assert book.find("openai/house-1", change) == other
    late = change + timedelta(days=1)
    results = take(indexed, call(indexed), call(indexed, "c2", occurred_at=change), at=late)
    assert outcomes(results) == ["stored", "stored"]
    made = dict(Generation.objects.values_list("external_id", "model_version__name"))
    assert made == {"c1": "orator-1", "c2": "orator-2"}


@pytest.mark.parametrize(
    ("pattern", "kind", "words"),
    [
        ("gpt-4o", "prefix", "leads to orator-1 already"),
        ("gpt-4o-mini", "prefix", "would both claim a name"),
        ("gpt", "prefix", "would both claim a name"),
        ("", "exact", "1 to 200 printable characters"),
        ("a\nb", "exact", "1 to 200 printable characters"),
        ("gpt-4o", "glob", "one of exact, prefix"),
    ],
)
def test_an_ambiguous_pattern_is_refused_in_words(
    indexed: Programme, trained: Trained, pattern: str, kind: str, words: str
) -> None:
    name(indexed, "gpt-4o", kind="prefix")
    with pytest.raises(model_names.UnableToNameModel, match=words):
        name(indexed, pattern, kind=kind, model_version=register_ready(indexed, trained))


def test_a_name_begins_neither_in_the_future_nor_within_its_last_entry(indexed: Programme, trained: Trained) -> None:
    with pytest.raises(model_names.UnableToNameModel, match="in the future"):
        name(indexed, begins_at=indexed.at + timedelta(minutes=1))
    first = name(indexed)
    with pytest.raises(model_names.UnableToNameModel, match="End that entry first"):
        name(indexed)
    model_names.end_name(name=first, at=indexed.at)
    with pytest.raises(model_names.UnableToEndName, match="ended already"):
        model_names.end_name(name=first, at=indexed.at)
    with pytest.raises(model_names.UnableToNameModel, match="An earlier entry of this name ended"):
        name(indexed, begins_at=indexed.at - timedelta(days=1))


def test_raw_sql_cannot_rewrite_an_entry(indexed: Programme, trained: Trained) -> None:
    entry, other = name(indexed), register_ready(indexed, trained)
    with pytest.raises(DatabaseError, match="changes only by its end"), transaction.atomic():
        ModelName.objects.filter(pk=entry.pk).update(model_version=other)
    with pytest.raises(DatabaseError), transaction.atomic():
        ModelName.objects.filter(pk=entry.pk).delete()


# --- waiting --------------------------------------------------------------------------------------------------------
def test_an_unknown_name_loses_nothing_and_is_released_by_a_name(indexed: Programme) -> None:
    gross = {"amount": "0.05", "currency": "USD"}
    (first,) = take(indexed, call(indexed, gross=gross))
    (again,) = take(indexed, call(indexed, gross=gross))
    assert outcomes([first, again]) == ["waiting", "waiting"]
    assert not Generation.objects.exists()
    assert [(row.name, row.count) for row in waiting_names(limit=9)] == [("openai/house-1", 1)]
    assert gateways.release_waiting(at=indexed.at) == 0

    later = indexed.at + timedelta(days=29)
    name(indexed, at=later)
    assert gateways.release_waiting(at=later) == 1
    row = Generation.objects.get()
    assert (row.external_id, row.output_text, row.token_ids, row.gross) == ("c1", "peace", None, 50_000_000)
    assert row.received_at == indexed.at
    assert not WaitingReport.objects.exists()
    assert outcomes(take(indexed, call(indexed, gross=gross))) == ["known"]


def test_a_report_as_old_as_one_may_be_is_released_after_its_wait(indexed: Programme) -> None:
    take(indexed, call(indexed, occurred_at=indexed.at - timedelta(days=34)))
    later = indexed.at + timedelta(days=20)
    name(indexed, at=later)
    assert gateways.release_waiting(at=later) == 1


def test_reports_of_a_model_version_without_a_manifest_wait_for_it(indexed: Programme, trained: Trained) -> None:
    version = register_version(indexed.service, trained, at=indexed.at, name="orator-2")
    assert outcomes(take(indexed, call(indexed, model="orator-2"))) == ["waiting"]
    ModelVersion.objects.filter(pk=version.pk).update(state="ready")
    assert gateways.release_waiting(at=indexed.at) == 1


def test_the_same_id_with_another_body_is_refused_while_it_waits_and_after(indexed: Programme) -> None:
    take(indexed, call(indexed))
    (other,) = take(indexed, call(indexed, output="war"))
    assert (str(other.outcome), other.reason) == ("refused", "body-differs")
    entry = name(indexed)
    gateways.release_waiting(at=indexed.at)
    model_names.end_name(name=entry, at=indexed.at)
    moment = indexed.at
    unnamed = call(indexed, model="elsewhere", occurred_at=moment - timedelta(hours=1))
    assert outcomes(take(indexed, unnamed, replace(unnamed, output="war"))) == ["known", "refused"]
    assert WaitingReport.objects.count() == 0


def test_a_released_report_that_is_refused_stays_with_its_reason(indexed: Programme, trained: Trained) -> None:
    take(indexed, call(indexed, model="other"))
    indexed.report(indexed.generation("c1"))
    name(indexed, "other")
    assert gateways.release_waiting(at=indexed.at) == 0
    assert "another body" in WaitingReport.objects.get().error
    assert waiting_names(limit=9)[0].error == WaitingReport.objects.get().error
    name(indexed, "oth", kind="prefix")
    assert WaitingReport.objects.get().error == ""


@override_settings(WAITING_REPORTS_MAX=2)
def test_a_full_room_refuses_in_words_and_keeps_the_first(indexed: Programme) -> None:
    results = take(indexed, *(call(indexed, f"c{number}") for number in range(3)))
    assert outcomes(results) == ["waiting", "waiting", "refused"]
    assert results[2].reason == "no-room-to-wait"
    assert "'openai/house-1'" in results[2].words
    assert "2 places" in results[2].words
    with override_settings(WAITING_REPORTS_MAX=9, WAITING_BYTES_MAX=300):
        assert outcomes(take(indexed, call(indexed, "c9"))) == ["refused"]


def test_what_waited_too_long_is_dropped_and_counted_under_its_name(indexed: Programme) -> None:
    take(indexed, call(indexed), call(indexed, "c2"))
    assert gateways.expire_waiting(at=indexed.at + timedelta(days=30)) == 0
    assert gateways.expire_waiting(at=indexed.at + timedelta(days=30, seconds=1)) == 2
    row = GatewayTally.objects.get(outcome="expired")
    assert (row.reason, row.n, row.door) == ("openai/house-1", 2, "litellm")


def test_the_sweep_releases(indexed: Programme, monkeypatch: pytest.MonkeyPatch) -> None:
    take(indexed, call(indexed))
    name(indexed)
    monkeypatch.setattr(timezone, "now", lambda: indexed.at)
    monkeypatch.setattr(tasks, "_attribute_until_none_is_left", lambda: 0)
    assert tasks.sweep_waiting() == 1


def test_the_inbox_lists_names_that_lead_nowhere(indexed: Programme) -> None:
    take(indexed, call(indexed), call(indexed, "c2"))
    (kind,) = (kind for kind in KINDS if kind.name == "model_unnamed")
    rows = kind.rows(indexed.at)
    assert isinstance(rows, list)
    assert [(item.title, item.words) for item in rows] == [
        ("openai/house-1 of orator", "2 reports wait for a model version.")
    ]
    assert str(indexed.service.public_id) in rows[0].url


def test_too_many_records_are_refused_as_a_whole(indexed: Programme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "RECORDS_MAX", 1)
    with pytest.raises(gateways.UnableToTakeRecords, match="at most 1 records, not 2"):
        take(indexed, call(indexed), call(indexed, "c2"))


def test_a_name_of_a_model_that_is_too_long_is_refused(indexed: Programme) -> None:
    (result,) = take(indexed, call(indexed, model="x" * 201))
    assert (str(result.outcome), result.words) == ("refused", "The name of a model has at most 200 characters.")
