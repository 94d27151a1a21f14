"""A model's fault is its own: it is counted, set aside with its reason, shown, and taken up again by a person."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from attribution.models import Attribution, Generation, MeasuringAttempt, ModelFault
from attribution.operations import attributions, faults, model_versions
from attribution.queries import open_items
from influence.shares import BILLION
from people.models import AuditEvent
from people.operations import users
from tests.worlds.odd_models import FACTORY, register_odd, said
from tests.worlds.programme import Programme
from tests.worlds.trained import Committed

ORDINARY = " the state of the Union"


@pytest.fixture(autouse=True)
def odd_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "TRIBUTARY_MODEL_FACTORIES", {**settings.TRIBUTARY_MODEL_FACTORIES, "odd": FACTORY})


def states(of: str) -> set[str]:
    return set(Generation.objects.filter(external_id__startswith=of).values_list("state", flat=True))


def attribute(programme: Programme) -> int:
    """As a worker does: an error is logged, and the next call goes on."""
    try:
        return attributions.attribute_batch(at=programme.at)
    except Exception:
        return 0


def test_a_layer_that_only_some_texts_use_costs_nobody_anything(indexed: Programme, tmp_path: Path) -> None:
    odd = register_odd(indexed, "conditional", tmp_path / "model")
    said(indexed, odd, "odd", ORDINARY, ORDINARY + "S", ORDINARY)
    said(indexed, indexed.model_version, "own", ORDINARY, ORDINARY)
    assert [attribute(indexed) for _ in range(3)] == [3, 2, 0]
    assert states("odd") == states("own") == {"attributed"}
    assert not ModelFault.objects.exists()


def test_an_unexpected_error_costs_the_generations_that_cause_it(indexed: Programme, tmp_path: Path) -> None:
    odd = register_odd(indexed, "raising", tmp_path / "model")
    said(indexed, odd, "odd", ORDINARY, "#a", ORDINARY)
    assert attribute(indexed) == 3
    refused = Generation.objects.get(external_id="odd-1")
    assert (refused.state, "StopIteration" in refused.error) == ("unattributable", True)
    # By itself in the queue it is still the one at fault: the model still measures its last generation.
    said(indexed, odd, "again", "#a")
    assert attribute(indexed) == 1
    assert states("again") == {"unattributable"}
    assert not ModelFault.objects.exists()


def test_a_model_that_only_fails_is_set_aside_and_holds_up_no_other(
    indexed: Programme, tmp_path: Path, client: Client
) -> None:
    odd = register_odd(indexed, "raising", tmp_path / "model")
    said(indexed, odd, "odd", "#a", "##")
    said(indexed, indexed.model_version, "own", ORDINARY)
    assert attribute(indexed) == 1
    assert states("own") == {"attributed"}
    for _ in range(3):
        assert attribute(indexed) == 0
    fault = ModelFault.objects.get()
    assert fault.model_version == odd
    assert "StopIteration: the model ran out of ideas" in fault.reason
    assert fault.set_aside_at is not None
    assert states("odd") == {"received"}
    # Not tried any more, so that nothing is raised.
    assert attributions.attribute_batch(at=indexed.at) == 0

    kinds = {kind.name: kind for kind in open_items.KINDS}
    (item,) = [kinds["model_set_aside"].item(row) for row in kinds["model_set_aside"].rows(indexed.at)]
    assert item.title == "raising of orator"
    assert item.words.startswith("2 generations wait. Its code failed: StopIteration")
    ready = client.get("/readyz").json()
    assert "orator/raising is set aside since" in ready["notes"]["models"]
    assert "models" not in ready["faults"]
    assert kinds["generations_stalled"].rows(indexed.at + timedelta(days=1)) == []


def test_a_person_takes_it_up_again_and_the_log_says_so(
    indexed: Programme, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = register_odd(indexed, "conditional", tmp_path / "model")
    said(indexed, odd, "odd", ORDINARY)
    assert faults.record_failure(odd.pk, "its files were away", at=indexed.at, final=True)
    assert attribute(indexed) == 0
    admin = users.register_user(
        email="ops@example.org", password="a long enough phrase", name="Ops", at=timezone.now(), roles=["admin"]
    )
    with pytest.raises(CommandError, match="no active administrator"):
        call_command("take_up_model", "orator/conditional", by="editor@example.org")
    with pytest.raises(CommandError, match="There is no model version"):
        call_command("take_up_model", "conditional", by=admin.email)
    call_command("take_up_model", "orator/conditional", by=admin.email)
    line = AuditEvent.objects.filter(action="take_up").get()
    assert (line.actor, line.subject) == (admin, f"model_version:{odd.public_id}")
    assert line.after["reason"] == "its files were away"
    assert attribute(indexed) == 1
    with pytest.raises(CommandError, match="not set aside"):
        call_command("take_up_model", "orator/conditional", by=admin.email)


def test_what_waits_for_a_retired_model_is_paid_by_the_base_pool(indexed: Programme, tmp_path: Path) -> None:
    odd = register_odd(indexed, "conditional", tmp_path / "model")
    said(indexed, odd, "odd", ORDINARY, ORDINARY)
    faults.record_failure(odd.pk, "its files are gone", at=indexed.at, final=True)
    assert attribute(indexed) == 0
    model_versions.retire_model_version(model_version=odd, at=indexed.at)
    assert [attribute(indexed), attribute(indexed)] == [2, 0]
    generation = Generation.objects.first()
    assert generation is not None
    assert generation.state == "unattributable"
    assert generation.error == "conditional was retired while it was set aside: its files are gone"
    row = Attribution.objects.first()
    assert row is not None
    assert row.unattributable
    # The works that taught the model have the base pool, though nobody can run it any more.
    assert row.general is not None
    assert sum(row.general.ppb) + row.general.unattributed_ppb == BILLION
    assert any(row.general.ppb)


def test_failures_count_only_in_succession(indexed: Programme) -> None:
    version = indexed.model_version
    for number in range(6):
        said(indexed, version, f"g{number}", ORDINARY)
        assert not faults.record_failure(version.pk, "the disk was full", at=indexed.at)
        assert attribute(indexed) == 1
    assert ModelFault.objects.get().failures == 0


WORKER = """
import django
django.setup()
from attribution import tasks
tasks.sweep_received()
"""


@pytest.mark.timeout(240)
def test_a_model_that_ends_its_worker_is_set_aside_and_holds_up_no_other(committed: Committed, tmp_path: Path) -> None:
    """The crash leaves no exception, and no line of ours runs after it."""
    programme = committed.programme
    odd = register_odd(programme, "crashing", tmp_path / "model")
    said(programme, odd, "odd", "#a")
    said(programme, programme.model_version, "own", ORDINARY)
    environment = {
        **committed.environment,
        "TRIBUTARY_MODEL_FACTORIES": f"demo=config.demo.model.load,odd={FACTORY}",
    }

    def work() -> int:
        return subprocess.run([sys.executable, "-c", WORKER], env=environment, timeout=100).returncode

    assert [work() for _ in range(3)] == [139] * 3
    assert MeasuringAttempt.objects.count() == 1
    assert work() == 0
    fault = ModelFault.objects.get()
    assert fault.set_aside_at is not None
    assert fault.reason == faults.DIED
    assert (states("odd"), states("own")) == ({"received"}, {"attributed"})
    assert not MeasuringAttempt.objects.exists()
    assert Attribution.objects.count() == 1


def test_a_success_is_known_even_if_the_worker_dies_right_after_it(committed: Committed) -> None:
    programme = committed.programme
    version = programme.model_version
    for _ in range(ModelFault.FAILURES_MAX - 1):
        assert not faults.record_failure(version.pk, faults.DIED, at=programme.at)
    programme.report(programme.generation("g1"))
    stored = False

    def die(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal stored
        if stored and not connection.in_atomic_block:
            raise SystemExit("killed")
        stored = stored or sql.startswith('INSERT INTO "attribution_attribution"')
        return execute(sql, params, many, context)

    with pytest.raises(SystemExit, match="killed"), connection.execute_wrapper(die):
        attributions.attribute_batch(at=programme.at)
    assert Attribution.objects.count() == 1
    assert ModelFault.objects.get().failures == 0
