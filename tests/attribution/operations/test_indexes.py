"""From a manifest to an index that serves, through audits and takeovers, with a real model."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction

from attribution.models import Attribution, AttributionIndex, Generation
from attribution.operations import attributions, base_pool, indexes, manifest_items, manifests, recomputations
from contributors.models import PPB
from contributors.operations import splits
from people.operations import proposals
from people.operations.users import register_user
from tests.worlds.programme import Programme
from tests.worlds.trained import SMALL_INDEX, Trained, register_version

SMALLER = {**SMALL_INDEX, "k": 8}


def test_the_first_index_of_a_model_version_serves_from_the_day_it_is_built(indexed: Programme) -> None:
    index = indexed.index
    assert index is not None
    assert (index.state, index.serving, index.weight_ppb, index.method) == ("built", True, 0, "midpoint")
    assert index.config["k"] == 16
    assert index.config["noise_z"] == index.noise_z == 2.0
    assert (Path(settings.TRIBUTARY_DATA) / index.directory / "manifest.json").is_file()


def test_a_configuration_is_indexed_once(indexed: Programme) -> None:
    with pytest.raises(manifest_items.UnableToBuild, match="already"):
        indexes.build_index(model_version=indexed.model_version, config=SMALL_INDEX, at=indexed.at)


@pytest.mark.parametrize(
    "config",
    [
        {"depth": 5},
        {"noise_z": "loud"},
        {"noise_z": -1},
        {"noise_z": float("nan")},
        {"noise_z": float("inf")},
        {"own_generations": -5},
        {"own_generations": 2.5},
        {"refit": -1},
        {"refit": True},
    ],
)
def test_a_configuration_that_is_none_is_refused(indexed: Programme, config: dict[str, object]) -> None:
    with pytest.raises(manifest_items.UnableToBuild, match="configuration"):
        indexes.build_index(model_version=indexed.model_version, config=config, at=indexed.at)


def test_a_model_version_without_a_manifest_is_not_indexed(indexed: Programme, trained: Trained) -> None:
    version = register_version(indexed.service, trained, at=indexed.at, name="unexplained")
    with pytest.raises(manifest_items.UnableToBuild, match="no training manifest"):
        indexes.build_index(model_version=version, at=indexed.at)


def test_an_item_that_its_work_does_not_hold_is_named(indexed: Programme, trained: Trained) -> None:
    version = register_version(indexed.service, trained, at=indexed.at, name="orator-2")
    beyond = manifests.NewItem(indexed.works[0].pk, 7, 1_000_000, 1_000_048)
    manifests.register_manifest(model_version=version, items=[beyond], at=indexed.at)
    with pytest.raises(manifest_items.UnableToBuild, match=r"Item 7: .* has no tokens 1000000 to 1000048"):
        indexes.build_index(model_version=version, config=SMALL_INDEX, at=indexed.at)


def test_a_work_whose_content_changed_is_not_indexed(programme: Programme) -> None:
    path = Path(settings.TRIBUTARY_DATA) / programme.works[0].content_path
    path.chmod(0o600)
    path.write_bytes(b"forged")
    with pytest.raises(manifest_items.UnableToBuild, match="digest"):
        indexes.build_index(model_version=programme.model_version, config=SMALL_INDEX, at=programme.at)


def test_a_build_that_died_before_it_could_say_so_is_taken_up(programme: Programme) -> None:
    built = indexes.build_index(model_version=programme.model_version, config=SMALL_INDEX, at=programme.at)
    digest = bytes(built.sha256 or b"")
    # A killed build leaves this state: the directory is complete and the row still says `building`.
    AttributionIndex.objects.filter(pk=built.pk).update(state="retired", serving=False)
    directory = Path(settings.TRIBUTARY_DATA) / built.directory
    row = AttributionIndex.objects.create(
        model_version=programme.model_version,
        config=built.config,
        config_sha256=built.config_sha256,
        noise_z=built.noise_z,
        created_at=programme.at,
    )
    directory.rename(Path(settings.TRIBUTARY_DATA) / row.directory)
    again = indexes.build_index(model_version=programme.model_version, config=SMALL_INDEX, at=programme.at)
    assert (again.pk, again.state, again.serving) == (row.pk, "built", True)
    assert bytes(again.sha256 or b"") == digest


def test_only_an_audited_index_has_weight(indexed: Programme) -> None:
    assert indexed.index is not None
    with pytest.raises(DatabaseError, match="only_an_audited_index_has_weight"), transaction.atomic():
        AttributionIndex.objects.filter(pk=indexed.index.pk).update(weight_ppb=1)


@pytest.mark.parametrize("change", [{"state": "building"}, {"noise_z": 0.0}, {"config": {}}])
def test_an_index_goes_forward_and_stays_as_configured(indexed: Programme, change: dict[str, object]) -> None:
    assert indexed.index is not None
    with pytest.raises(DatabaseError), transaction.atomic():
        AttributionIndex.objects.filter(pk=indexed.index.pk).update(**change)


def test_one_index_serves_a_model_version(indexed: Programme) -> None:
    second = indexes.build_index(model_version=indexed.model_version, config=SMALLER, at=indexed.at)
    assert (second.state, second.serving) == ("built", False)
    with pytest.raises(DatabaseError, match="one_index_serves"), transaction.atomic():
        AttributionIndex.objects.filter(pk=second.pk).update(serving=True)


def test_an_audit_retrains_coalitions_and_sets_state_and_weight(indexed: Programme) -> None:
    assert indexed.index is not None
    index = indexes.audit_index(index=indexed.index, coalitions=4, processes=1, generations=8, at=indexed.at)
    assert index.audit is not None
    assert index.audit["coalitions"] == 4
    assert -1 <= index.audit["own_generations"]["specific"]["lds"] <= 1
    assert index.audited_at == indexed.at
    expected = ("audited", index.audit["weight_ppb"]) if index.audit["passed"] else ("failed", 0)
    assert (index.state, index.weight_ppb) == expected
    assert index.serving


def report(index: AttributionIndex, *, passed: bool, weight_ppb: int) -> dict[str, object]:
    return {"index_sha256": bytes(index.sha256 or b"").hex(), "passed": passed, "weight_ppb": weight_ppb}


def test_an_index_that_passes_its_audit_takes_over(indexed: Programme) -> None:
    first = indexed.index
    assert first is not None
    second = indexes.build_index(model_version=indexed.model_version, config=SMALLER, at=indexed.at)
    second = indexes.record_audit(
        index=second, report=report(second, passed=True, weight_ppb=250_000_000), at=indexed.at
    )
    first.refresh_from_db()
    assert (second.state, second.serving, second.weight_ppb) == ("audited", True, 250_000_000)
    assert (first.state, first.serving) == ("retired", False)


def test_an_index_that_fails_its_audit_serves_on_at_weight_zero_and_takes_nothing_over(indexed: Programme) -> None:
    first = indexed.index
    assert first is not None
    indexes.record_audit(index=first, report=report(first, passed=True, weight_ppb=500_000_000), at=indexed.at)
    second = indexes.build_index(model_version=indexed.model_version, config=SMALLER, at=indexed.at)
    second = indexes.record_audit(index=second, report=report(second, passed=False, weight_ppb=7), at=indexed.at)
    assert (second.state, second.serving, second.weight_ppb) == ("failed", False, 0)
    first = indexes.record_audit(index=first, report=report(first, passed=False, weight_ppb=0), at=indexed.at)
    assert (first.state, first.serving, first.weight_ppb) == ("failed", True, 0)


def test_an_audit_of_another_index_is_not_recorded(indexed: Programme) -> None:
    assert indexed.index is not None
    with pytest.raises(indexes.UnableToAuditIndex, match="another index"):
        indexes.record_audit(
            index=indexed.index, report={"index_sha256": "00", "passed": True, "weight_ppb": 1}, at=indexed.at
        )


# --- attributors ----------------------------------------------------------------------------------------------------
def build(programme: Programme, *arguments: str, fields: tuple[str, ...] = ()) -> str:
    out = StringIO()
    small = [f"{name}={value}" for name, value in SMALL_INDEX.items()]
    name = f"{programme.service.name}/{programme.model_version.name}"
    if "lexical" in arguments:
        small = ["own_generations=16"]
    call_command("build_index", name, *arguments, "--set", *small, *fields, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("attributor", "words"),
    [
        ("hybrid", "Midpoint Shapley influence with similarity of wording"),
        ("lexical", "Similarity of wording, not influence"),
    ],
)
def test_the_attributor_chosen_at_the_build_attributes_and_is_named(
    programme: Programme, attributor: str, words: str
) -> None:
    said = build(programme, "--attributor", attributor)
    assert words in said
    assert "serves" in said
    index = AttributionIndex.objects.get(model_version=programme.model_version)
    assert (index.attributor, index.method, index.method_words) == (attributor, attributor, words)
    assert index.measures_influence == (attributor == "hybrid")
    base_pool.pay_by_base_pool(index=index, at=programme.at)
    programme.report(programme.generation("g1"))
    attributions.attribute_batch(at=programme.at)
    stored = Attribution.objects.get(generation__external_id="g1")
    assert stored.index == index
    assert sum(stored.shares_ppb) + stored.unattributed_ppb == 10**9
    assert stored.top_works
    assert recomputations.recompute(attribution=stored, from_gradients=True).agrees


def test_an_output_without_a_word_cannot_be_attributed_by_words(programme: Programme) -> None:
    build(programme, "--attributor", "lexical", fields=("terms=words",))
    base_pool.pay_by_base_pool(index=AttributionIndex.objects.get(), at=programme.at)
    programme.report(programme.generation("g1"), programme.generation("g2", output={"text": "…!"}))
    attributions.attribute_batch(at=programme.at)
    assert Generation.objects.get(external_id="g1").state == "attributed"
    wordless = Generation.objects.get(external_id="g2")
    assert wordless.state == "unattributable"
    assert "the output has no word" in wordless.error


def test_a_build_that_cannot_be_made_says_why(programme: Programme) -> None:
    with pytest.raises(CommandError, match="there is orator/orator-1"):
        call_command("build_index", "orator/orator-9")
    with pytest.raises(CommandError, match="lexical reads no 'damping'"):
        call_command("build_index", "orator/orator-1", "--attributor", "lexical", "--set", "damping=0.1")
    with pytest.raises(CommandError, match="not FIELD=VALUE"):
        call_command("build_index", "orator/orator-1", "--set", "damping")
    with pytest.raises(CommandError, match="no layer 'haed'"):
        call_command("build_index", "orator/orator-1", "--set", 'left_out=["haed"]')


def test_an_indexs_attributor_never_changes_and_must_exist(indexed: Programme) -> None:
    assert indexed.index is not None
    row = AttributionIndex.objects.filter(pk=indexed.index.pk)
    with pytest.raises(DatabaseError, match="configured"), transaction.atomic():
        row.update(attributor="lexical")
    with pytest.raises(DatabaseError, match="an_index_has_an_attributor_that_exists"), transaction.atomic():
        AttributionIndex.objects.create(
            model_version=indexed.model_version, attributor="oracle", config_sha256=b"1" * 32, created_at=indexed.at
        )


def test_an_index_is_audited_with_its_own_holders_when_a_work_has_another_since(indexed: Programme) -> None:
    who, other = indexed.contributors[:2]
    made = splits.propose_split_sheet(
        contributor=who,
        work=indexed.works[0],
        parts={who: PPB // 2, other: PPB // 2},
        effective_from=indexed.at,
        by=indexed.user,
        at=indexed.at,
    )
    splits.answer_split_sheet(proposal=made, contributor=other, agrees=True, by=indexed.user, at=indexed.at)
    before = indexed.works[0].holder_id
    indexed.works[0].refresh_from_db()
    assert indexed.works[0].holder_id != before
    assert indexed.index is not None
    index = indexes.audit_index(
        index=indexed.index, coalitions=4, processes=1, generations=8, controls=False, at=indexed.at
    )
    assert index.audit is not None
    assert {"pro_rata", "lexical", "embedding"} <= index.audit["own_generations"].keys()


# --- the base pool in place of an evaluation ------------------------------------------------------------------------
def test_two_people_decide_that_the_base_pool_pays(programme: Programme) -> None:
    index = indexes.build_index(model_version=programme.model_version, config=SMALL_INDEX, at=programme.at)
    programme.report(programme.generation("g1"))
    assert attributions.attribute_batch(at=programme.at) == 0
    first, second = (
        register_user(email=f"{role}@example.org", password="a long enough phrase", roles=[role], at=programme.at)
        for role in ("model_team", "finance_checker")
    )
    with pytest.raises(base_pool.UnableToPayByBasePool, match="Say in 1 to 300"):
        base_pool.propose_base_pool(index=index, reason=" ", by=first, at=programme.at)
    proposal = base_pool.propose_base_pool(index=index, reason="A trial month.", by=first, at=programme.at)
    with pytest.raises(base_pool.UnableToPayByBasePool, match="decide on that first"):
        base_pool.propose_base_pool(index=index, reason="Again.", by=first, at=programme.at)
    with pytest.raises(proposals.UnableToDecide, match="somebody else has to approve it"):
        proposals.approve(proposal, by=first, at=programme.at)
    assert attributions.attribute_batch(at=programme.at) == 0
    later = programme.at + timedelta(days=2)
    proposals.approve(proposal, by=second, at=later)
    index.refresh_from_db()
    assert index.base_pool_at == later
    assert attributions.attribute_batch(at=later) == 1
    with pytest.raises(base_pool.UnableToPayByBasePool, match="already"):
        base_pool.propose_base_pool(index=index, reason="Again.", by=first, at=later)
