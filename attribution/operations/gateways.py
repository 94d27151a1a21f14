"""Reports by way of gateways: each record becomes a generation, waits for a name, or is counted with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Sum

from attribution.models import GatewayTally, Generation, ModelService, WaitingReport
from attribution.operations.candidates import Candidate, read_candidate
from attribution.operations.dialects.calls import SKIPS, Call, Fault, Item, Skip
from attribution.operations.fields import UnableToAccept
from attribution.operations.reports import BATCH_MAX, ReportResult, report_generations
from attribution.queries.gateways import NameBook

RECORDS_MAX = 10 * BATCH_MAX
WAITING_AGE_MAX = timedelta(days=30)
MODEL_NAME_CHARACTERS_MAX = 200
RELEASED_AT_ONCE = 500
Outcome = GatewayTally.Outcome

log = structlog.get_logger(__name__)


class UnableToTakeRecords(Exception):
    """The request holds no record, or more than one request may."""

    status = 422
    problem = "invalid-batch"


@dataclass(frozen=True, slots=True)
class RecordResult:
    """The answer to one record. `reason` tells of a skipped one; `refusal` of a refused one."""

    external_id: str | None
    outcome: str
    id: str | None = None
    reason: str = ""
    refusal: UnableToAccept | None = None

    @property
    def words(self) -> str:
        """Say in words why it is not stored; "" for a stored one."""
        if self.refusal is not None:
            return str(self.refusal)
        return SKIPS.get(self.reason, "")


def take_records(*, service: ModelService, door: str, items: Sequence[Item], at: datetime) -> list[RecordResult]:
    """Report each call under the model version that its model's name leads to; keep the others; count everything.

    Every record is judged alone and answered in the order given. Idempotent by external id, as a report is. Raises
    UnableToTakeRecords for more than RECORDS_MAX records.
    """
    if len(items) > RECORDS_MAX:
        raise UnableToTakeRecords(f"A request takes at most {RECORDS_MAX:,} records, not {len(items):,}.")
    book = NameBook(service)
    results: list[RecordResult | None] = [_without_call(item) for item in items]
    named: list[tuple[int, dict[str, Any]]] = []
    unnamed: list[tuple[int, Call]] = []
    for place, item in enumerate(items):
        if isinstance(item, Call):
            version = book.find(item.model, item.occurred_at)
            if version is None:
                unnamed.append((place, item))
            else:
                named.append((place, item.generation(version.name)))
    for start in range(0, len(named), BATCH_MAX):
        part = named[start : start + BATCH_MAX]
        reported = report_generations(service=service, generations=[body for _, body in part], at=at)
        for (place, _), result in zip(part, reported, strict=True):
            results[place] = _of_report(result)
    for (place, _), answer in zip(unnamed, _wait(service, door, unnamed, at=at), strict=True):
        results[place] = answer
    found = [result for result in results if result is not None]
    assert len(found) == len(items), "Every record has an answer."
    _count(service, door, found, at=at)
    return found


def _without_call(item: Item) -> RecordResult | None:
    if isinstance(item, Skip):
        return RecordResult(item.external_id, Outcome.SKIPPED, reason=item.reason)
    if isinstance(item, Fault):
        members = {name: value for name in ("field", "line") if (value := getattr(item, name)) is not None}
        return _refused(item.external_id, UnableToAccept(item.problem, item.detail, **members))
    return None


def _of_report(result: ReportResult) -> RecordResult:
    if result.refusal is not None:
        return _refused(result.external_id, result.refusal)
    return RecordResult(result.external_id, Outcome.STORED if result.status == 201 else Outcome.KNOWN, result.id)


def _refused(external_id: str | None, refusal: UnableToAccept) -> RecordResult:
    return RecordResult(external_id, Outcome.REFUSED, reason=refusal.problem, refusal=refusal)


# --- waiting --------------------------------------------------------------------------------------------------------
def _wait(service: ModelService, door: str, calls: Sequence[tuple[int, Call]], *, at: datetime) -> list[RecordResult]:
    """Keep the calls that no name leads to a model version yet, as far as there is room."""
    if not calls:
        return []
    read = [_candidate(call, at=at) for _, call in calls]
    good = {candidate.external_id: candidate for candidate in read if isinstance(candidate, Candidate)}
    reported = _reported(service, good.keys())
    room, bytes_left = _room(service)
    rows: dict[str, WaitingReport] = {}
    full: set[str] = set()
    for (_, call), candidate in zip(calls, read, strict=True):
        if not isinstance(candidate, Candidate) or candidate.external_id in reported | rows.keys():
            continue
        row = _row(service, door, call, candidate, at=at)
        if room <= 0 or bytes_left < row.n_bytes:
            full.add(candidate.external_id)
            continue
        rows[candidate.external_id] = row
        room, bytes_left = room - 1, bytes_left - row.n_bytes
    WaitingReport.objects.bulk_create(sorted(rows.values(), key=lambda row: row.external_id), ignore_conflicts=True)
    kept = WaitingReport.objects.filter(service=service, external_id__in=good).values_list(
        "external_id", "request_sha256"
    )
    waiting = {external_id: bytes(digest) for external_id, digest in kept}
    return [result if isinstance(result, RecordResult) else _answer(result, reported, waiting, full) for result in read]


def _candidate(call: Call, *, at: datetime) -> Candidate | RecordResult:
    if len(call.model) > MODEL_NAME_CHARACTERS_MAX:
        detail = f"The name of a model has at most {MODEL_NAME_CHARACTERS_MAX} characters."
        return _refused(call.external_id, UnableToAccept("text-too-long", detail, field="model"))
    try:
        candidate = read_candidate(call.generation(call.model), at=at)
    except UnableToAccept as refusal:
        return _refused(call.external_id, refusal)
    return candidate if candidate.refusal is None else _refused(call.external_id, candidate.refusal)


def _reported(service: ModelService, external_ids: Collection[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Find those that are generations already: their name led to a model version when they were first reported."""
    rows = Generation.objects.filter(service=service, external_id__in=external_ids)
    return {name: (str(pk), parts) for name, pk, parts in rows.values_list("external_id", "pk", "request_parts")}


def _differing(external_id: str, differs: list[str]) -> RecordResult:
    detail = "This external id was reported before with another body."
    members: dict[str, Any] = {"differs": differs} if differs else {}
    return _refused(external_id, UnableToAccept("body-differs", detail, status=409, **members))


def _answer(
    candidate: Candidate,
    reported: dict[str, tuple[str, dict[str, str]]],
    waiting: dict[str, bytes],
    full: set[str],
) -> RecordResult:
    external_id = candidate.external_id
    if external_id in reported:
        pk, parts = reported[external_id]
        ours = candidate.parts
        differs = [part for part in ours if part != "model_version" and parts.get(part) != ours[part]]
        return _differing(external_id, differs) if differs else RecordResult(external_id, Outcome.KNOWN, pk)
    if external_id in waiting:
        if waiting[external_id] != candidate.digest:
            return _differing(external_id, [])
        return RecordResult(external_id, Outcome.WAITING, reason=candidate.model_version)
    assert external_id in full, "A report that does not wait found no room."
    detail = (
        f"No model version takes reports of {candidate.model_version!r} yet, and the service's "
        f"{settings.WAITING_REPORTS_MAX:,} places or {settings.WAITING_BYTES_MAX:,} bytes for waiting reports are "
        "taken. Have the name led to a model version in the console, then send this again."
    )
    return _refused(external_id, UnableToAccept("no-room-to-wait", detail, status=429, field="model"))


def _room(service: ModelService) -> tuple[int, int]:
    """Say how many more reports of the service may wait, and how many bytes."""
    used = WaitingReport.objects.filter(service=service).aggregate(n=Count("pk"), size=Sum("n_bytes"))
    return settings.WAITING_REPORTS_MAX - used["n"], settings.WAITING_BYTES_MAX - (used["size"] or 0)


def _row(service: ModelService, door: str, call: Call, candidate: Candidate, *, at: datetime) -> WaitingReport:
    body = call.generation("")
    del body["model_version"]
    return WaitingReport(
        service=service,
        external_id=candidate.external_id,
        model_name=call.model,
        door=door,
        occurred_at=call.occurred_at,
        received_at=at,
        body=body,
        n_bytes=len(json.dumps(body, ensure_ascii=False).encode()),
        request_sha256=candidate.digest,
    )


# --- release --------------------------------------------------------------------------------------------------------
def release_waiting(*, at: datetime) -> int:
    """Make generations of the waiting reports with names that lead to a model version now; return how many.

    A refused one stays, with the refusal, and is tried again after its name changes. Another process that does the same
    takes other rows.
    """
    tried = WaitingReport.objects.filter(error="").order_by()
    by_service: dict[int, set[str]] = {}
    for service_id, name in tried.values_list("service", "model_name").distinct():
        by_service.setdefault(service_id, set()).add(name)
    services = ModelService.objects.in_bulk(by_service)
    return sum(_release(services[pk], names) for pk, names in sorted(by_service.items()))


def _release(service: ModelService, names: Iterable[str]) -> int:
    book, released, last = NameBook(service), 0, None
    while True:
        with transaction.atomic():
            rows = WaitingReport.objects.filter(service=service, model_name__in=sorted(names), error="")
            if last is not None:
                rows = rows.filter(pk__gt=last)
            batch = list(rows.select_for_update(no_key=True, skip_locked=True).order_by("pk")[:RELEASED_AT_ONCE])
            if not batch:
                return released
            last = batch[-1].pk
            released += _report_waiting(service, book, batch)


def _report_waiting(service: ModelService, book: NameBook, batch: Sequence[WaitingReport]) -> int:
    by_moment: dict[datetime, list[tuple[WaitingReport, dict[str, Any]]]] = {}
    for row in batch:
        if version := book.find(row.model_name, row.occurred_at):
            # As of its receipt: the wait makes no report too old.
            body = {**row.body, "model_version": version.name}
            by_moment.setdefault(row.received_at, []).append((row, body))
    stored: list[WaitingReport] = []
    for received_at, pairs in by_moment.items():
        results = report_generations(
            service=service, generations=[body for _, body in pairs], at=received_at, was_accepted=True
        )
        for (row, _), result in zip(pairs, results, strict=True):
            if result.refusal is None:
                stored.append(row)
            else:
                WaitingReport.objects.filter(pk=row.pk).update(error=str(result.refusal)[:500])
    WaitingReport.objects.filter(pk__in=[row.pk for row in stored]).delete()
    return len(stored)


def expire_waiting(*, at: datetime) -> int:
    """Drop the reports that waited longer than WAITING_AGE_MAX; each is counted under its name for the staff to see."""
    late = WaitingReport.objects.filter(received_at__lt=at - WAITING_AGE_MAX)
    with transaction.atomic():
        rows = list(
            late.select_for_update(no_key=True, skip_locked=True).values_list("pk", "service", "door", "model_name")
        )
        WaitingReport.objects.filter(pk__in=[row[0] for row in rows]).delete()
        counts = Counter((service, door, Outcome.EXPIRED.value, name) for _, service, door, name in rows)
        _add(counts, at=at)
    for (service, door, _, name), n in counts.items():
        log.warning("reports waited too long for a model version", service=service, door=door, name=name, count=n)
    return len(rows)


# --- counts ---------------------------------------------------------------------------------------------------------
def _count(service: ModelService, door: str, results: Sequence[RecordResult], *, at: datetime) -> None:
    _add(Counter((service.pk, door, result.outcome, result.reason[:200]) for result in results), at=at)


def _add(counts: Counter[tuple[int, str, str, str]], *, at: datetime) -> None:
    """Add to the counts of the day, in one order everywhere, so that no two requests lock crosswise."""
    if not counts:
        return
    values = ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(counts))
    given = [value for key in sorted(counts) for value in (at.date(), *key, counts[key])]
    table = GatewayTally._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} AS t (day, service_id, door, outcome, reason, n) VALUES {values} "
            "ON CONFLICT (service_id, day, door, outcome, reason) DO UPDATE SET n = t.n + excluded.n",
            given,
        )
