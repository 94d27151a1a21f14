"""`manage.py audit_index`: an index of the programme is audited, or chosen and then audited, from the command line."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from attribution.models import AttributionIndex
from attribution.operations import choices, revisions
from tests.worlds.archive import own_copy
from tests.worlds.programme import Programme

SMALL: dict[str, Any] = {"coalitions": 4, "generations": 8, "processes": 1}


def test_an_index_is_audited_by_the_name_of_its_model_version(
    indexed: Programme, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("audit_index", indexed.model_version.name, **SMALL)
    said = capsys.readouterr().out
    index = AttributionIndex.objects.get(model_version=indexed.model_version)
    assert index.state in {"audited", "failed"}
    assert index.audit is not None
    assert index.audit["coalitions"] == 4
    assert {"lexical", "embedding", "pro_rata"} <= index.audit["own_generations"].keys()
    controls = index.audit["controls"]
    assert controls["copier"] == pytest.approx(controls["copied"], rel=1e-3, abs=1e-6)
    assert 0 < controls["noise_items"] < 0.5
    assert (index.weight_ppb > 0) == (index.state == "audited")
    assert "Planted controls: random tokens" in said
    assert ("Passed:" if index.state == "audited" else "Failed: nothing goes by attribution") in said


def test_the_best_of_what_is_tried_becomes_an_index_that_is_not_audited_yet(indexed: Programme) -> None:
    assert indexed.index is not None
    found, tried = choices.choose_index(
        index=indexed.index, at=indexed.at, dampings=(0.3, 1.0), lexical_weights=(0.5,), **SMALL
    )
    assert set(tried) == {
        f"{kind}, damping {damping}, 1 node{wording}"
        for damping in ("0.3", "1")
        for kind, wording in (("midpoint", ""), ("hybrid", ", wording 0.5"))
    }
    best = max(tried, key=lambda name: tried[name])
    assert found.config["attributor"] == best.split(",")[0]
    assert f"damping {found.config['damping']:g}," in best
    assert found.state == "built"
    again, same = choices.choose_index(
        index=indexed.index, at=indexed.at, dampings=(0.3, 1.0), lexical_weights=(0.5,), **SMALL
    )
    assert (again.pk, same) == (found.pk, tried)


def test_a_refitted_index_is_chosen_from_like_any_other(indexed: Programme) -> None:
    assert indexed.index is not None
    refitted = revisions.refit_index(index=indexed.index, at=indexed.at)
    found, tried = choices.choose_index(index=refitted, at=indexed.at, dampings=(1.0,), lexical_weights=(), **SMALL)
    assert list(tried) == ["midpoint, damping 1, 1 node"]
    assert (found.state, found.config["damping"], found.config["refit"]) == ("built", 1.0, 1)


def test_an_index_that_is_not_there_is_refused_with_those_that_are(indexed: Programme) -> None:
    with pytest.raises(CommandError, match=f"no index 'orator-9'.*{indexed.model_version.name}"):
        call_command("audit_index", "orator-9", stdout=StringIO())


def test_more_coalitions_than_the_holders_have_halves_are_refused_in_words(indexed: Programme) -> None:
    with pytest.raises(CommandError, match="4 holders have 6 different halves"):
        call_command("audit_index", indexed.model_version.name, **{**SMALL, "coalitions": 7})


def test_a_damaged_index_is_refused_in_words(
    indexed: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = own_copy(indexed, tmp_path, monkeypatch)
    (Path(settings.TRIBUTARY_DATA) / index.directory / "sums.npy").write_bytes(b"damaged")
    with pytest.raises(CommandError, match="Truncated"):
        call_command("audit_index", str(index.public_id), **SMALL)
