"""From received generations to stored attributions: exact, resumable, and nobody held up by a neighbour."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction

from attribution import tasks
from attribution.models import Attribution, AttributionIndex, Generation
from attribution.operations import attributions, indexes, manifests, recomputations, renewals
from attribution.operations.indexes import open_built
from attribution.operations.manifest_items import UnableToBuild
from attribution.queries import generations
from influence.adapters import Example
from influence.index.artefacts import UnableToOpenIndex
from influence.shares import BILLION
from tests.worlds.programme import Programme
from tests.worlds.trained import SMALL_INDEX, Committed, Trained, register_version


def attribute(programme: Programme) -> int:
    return attributions.attribute_batch(at=programme.at)


def reported(programme: Programme, **changes: Any) -> Generation:
    """One generation, reported and settled."""
    external_id = str(uuid.uuid4())
    (result,) = programme.report(programme.generation(external_id, **changes))
    assert result.status == 201
    attribute(programme)
    return Generation.objects.get(external_id=external_id)


def test_shares_of_a_generation_sum_to_the_whole(indexed: Programme) -> None:
    generation = reported(indexed)
    row = Attribution.objects.get(generation=generation)
    assert generation.state == "attributed"
    assert sum(row.shares_ppb) + row.unattributed_ppb == BILLION
    assert row.general is not None
    assert sum(row.general.ppb) + row.general.unattributed_ppb == BILLION
    holders = sorted(work.holder_id for work in indexed.works)
    assert row.general.holder_ids == holders
    assert set(row.holder_ids) <= set(holders)
    assert len(row.holder_ids) == len(row.shares_ppb) == len(row.parts) > 0
    assert (row.rule, row.revision, row.weight_ppb, row.noise_z) == (2, 1, 0, 2.0)
    assert row.scored_tokens > 0


def test_what_was_stored_gives_the_same_shares_again(indexed: Programme) -> None:
    row = Attribution.objects.get(generation=reported(indexed))
    assert recomputations.recompute(attribution=row).agrees
    again = recomputations.recompute(attribution=row, from_gradients=True)
    assert again.score_error_max is not None
    assert again.score_error_max < 1e-4


def test_a_share_that_the_scores_do_not_give_is_found_out(indexed: Programme) -> None:
    row = Attribution.objects.get(generation=reported(indexed))
    row.shares_ppb[0] += 1
    row.unattributed_ppb -= 1
    found = recomputations.recompute(attribution=row)
    assert (found.specific_agrees, found.general_agrees, found.agrees) == (False, True, False)


def test_evidence_names_works_of_those_who_earn(indexed: Programme) -> None:
    row = Attribution.objects.get(generation=reported(indexed, output={"text": indexed_text(indexed, 2)}))
    earners = {holder for holder, ppb in zip(row.holder_ids, row.shares_ppb, strict=True) if ppb}
    assert {int(holder) for holder in row.top_works} == earners
    by_holder = {work.holder_id: work.pk for work in indexed.works}
    for holder, works in row.top_works.items():
        assert [int(work) for work, _ in works] == [by_holder[int(holder)]]


def indexed_text(programme: Programme, work: int) -> str:
    """Some of a work's own words."""
    content = (Path(settings.TRIBUTARY_DATA) / programme.works[work].content_path).read_text()
    return content.partition("\n\n")[2][300:400]


def test_a_page_gets_shares_with_their_errors_and_works_with_passages(indexed: Programme) -> None:
    text = indexed_text(indexed, 1)
    generation = reported(indexed, output={"text": text})
    row = generations.attribution_of(generation.pk)
    assert row is not None
    shares = generations.shares_of(row)
    assert sum(share.ppb for share in shares) + row.unattributed_ppb == BILLION
    assert [share.ppb for share in shares] == sorted((share.ppb for share in shares), reverse=True)
    assert all(0 <= share.se_ppb <= BILLION for share in shares)
    holder = indexed.works[1].holder_id
    evidence = generations.top_works(row, holder_ids=[holder], with_passages=True)
    assert evidence.keys() <= {holder}
    for found in evidence.get(holder, []):
        assert found.passage is not None
        assert found.passage.has_shared_wording
    assert generations.attribution_of(generation.pk, revision=2) is None


def test_reported_tokens_are_scored_as_they_are_and_text_is_tokenised_again(indexed: Programme) -> None:
    with_tokens = Attribution.objects.get(
        generation=reported(indexed, output={"text": "", "token_ids": [20, 21, 22, 23, 24]})
    )
    without = Attribution.objects.get(generation=reported(indexed))
    assert with_tokens.scored_tokens == 5
    assert without.prompt_tokens == with_tokens.prompt_tokens > 0
    assert without.scored_tokens != 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"output": {"text": ""}}, "empty"),
        ({"output": {"text": "", "token_ids": []}}, "empty"),
        ({"prompt": {"text": ""}, "output": {"text": "", "token_ids": [5]}}, "no token follows"),
    ],
)
def test_a_generation_that_cannot_be_attributed_says_why_and_holds_nobody_up(
    indexed: Programme, changes: dict[str, Any], reason: str
) -> None:
    indexed.report(indexed.generation("g1"), indexed.generation("bad", **changes), indexed.generation("g3"))
    assert attribute(indexed) == 3
    states = dict(Generation.objects.values_list("external_id", "state"))
    assert states == {"g1": "attributed", "bad": "unattributable", "g3": "attributed"}
    assert reason in Generation.objects.get(external_id="bad").error
    assert attribute(indexed) == 0


def test_what_cannot_be_attributed_has_a_row_of_the_base_pool(indexed: Programme) -> None:
    """Nobody has a share of it; the base pool follows the general shares, as for its neighbours."""
    indexed.report(indexed.generation("g1"), indexed.generation("bad", output={"text": ""}))
    assert attribute(indexed) == 2
    rows = {name: Attribution.objects.get(generation__external_id=name) for name in ("g1", "bad")}
    bad, good = rows["bad"], rows["g1"]
    assert (bad.unattributable, bad.weight_ppb, bad.unattributed_ppb, bad.top_works) == (True, 0, BILLION, {})
    assert (bad.holder_ids, bad.shares_ppb) == ([], [])
    assert bad.general == good.general is not None
    assert not good.unattributable
    assert recomputations.recompute(attribution=bad).agrees


def test_an_output_of_one_token_after_a_prompt_is_attributed(indexed: Programme) -> None:
    assert reported(indexed, output={"text": "", "token_ids": [5]}).state == "attributed"


def test_a_generation_without_an_index_waits_and_holds_nobody_up(indexed: Programme, trained: Trained) -> None:
    version = register_version(indexed.service, trained, at=indexed.at, name="unindexed")
    manifests.register_manifest(
        model_version=version, items=[manifests.NewItem(indexed.works[0].pk, 0, 0, 48)], at=indexed.at
    )
    indexed.report(indexed.generation("waits", model_version="unindexed"), indexed.generation("g1"))
    assert attribute(indexed) == 1
    assert attribute(indexed) == 0
    assert Generation.objects.get(external_id="waits").state == "received"


def test_a_model_version_that_cannot_be_worked_on_holds_up_no_other(indexed: Programme, trained: Trained) -> None:
    """Its index says it serves, and its files are gone."""
    version = register_version(indexed.service, trained, at=indexed.at, name="broken")
    manifests.register_manifest(
        model_version=version, items=[manifests.NewItem(indexed.works[0].pk, 0, 0, 48)], at=indexed.at
    )
    AttributionIndex.objects.create(
        model_version=version,
        config_sha256=b"x" * 32,
        sha256=b"x" * 32,
        state="failed",
        serving=True,
        created_at=indexed.at,
    )
    indexed.report(indexed.generation("waits", model_version="broken"))
    indexed.at += timedelta(seconds=1)
    indexed.report(indexed.generation("g1"))
    assert attribute(indexed) == 1
    assert Generation.objects.get(external_id="g1").state == "attributed"
    with pytest.raises(UnableToOpenIndex, match="Partial"):
        attribute(indexed)
    assert Generation.objects.get(external_id="waits").state == "received"


def test_batches_go_on_until_nothing_is_left_oldest_first(indexed: Programme) -> None:
    for day in range(3):
        indexed.at += timedelta(days=1)
        indexed.report(*[indexed.generation(f"d{day}-{number}") for number in range(5)])
    assert attributions.attribute_batch(limit=5, at=indexed.at) == 5
    settled = Generation.objects.filter(state="attributed").values_list("external_id", flat=True)
    assert {external_id[:2] for external_id in settled} == {"d0"}
    assert [attributions.attribute_batch(limit=7, at=indexed.at) for _ in range(3)] == [7, 3, 0]


def test_a_model_may_take_longer_than_a_session_may_be_idle(
    committed: Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    programme = committed.programme
    assert programme.index is not None
    programme.report(programme.generation())
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = '300ms'")
    tokeniser = open_built(index=programme.index).model.tokeniser
    read = tokeniser.generation

    def read_slowly(*given: Any) -> Example:
        time.sleep(0.8)
        return read(*given)

    monkeypatch.setattr(tokeniser, "generation", read_slowly)
    assert attributions.attribute_batch(at=programme.at) == 1
    generation = Generation.objects.get()
    assert attributions.attribute_again(generation=generation, at=programme.at).revision == 2
    done = renewals.attribute_batch_again(index=programme.index, generation_ids=[generation.pk], at=programme.at)
    assert done == 1


def test_a_hint_and_a_sweep_find_the_same_rows(indexed: Programme) -> None:
    """The message of the first report is lost; the sweep finds its rows, and a late message finds nothing."""
    indexed.report(*[indexed.generation(f"g{number}") for number in range(70)])
    assert tasks.sweep_received() == 70
    assert tasks.attribute_received() == 0
    assert not Generation.objects.filter(state="received").exists()


def test_the_result_of_a_generation_does_not_depend_on_its_batch(indexed: Programme) -> None:
    texts = [indexed_text(indexed, work)[: 40 + 20 * work] for work in range(4)]
    alone = [Attribution.objects.get(generation=reported(indexed, output={"text": text})) for text in texts]
    indexed.report(*[indexed.generation(f"g{place}", output={"text": text}) for place, text in enumerate(texts)])
    assert attribute(indexed) == 4
    for place, row in enumerate(alone):
        together = Attribution.objects.get(generation__external_id=f"g{place}")
        assert together.pay == pytest.approx(row.pay, rel=1e-3)
        found, expected = (dict(zip(one.holder_ids, one.shares_ppb, strict=True)) for one in (together, row))
        assert found == pytest.approx(expected, abs=1e-4 * BILLION)


def test_an_index_by_sums_stands_beside_one_by_items(indexed: Programme) -> None:
    """Rule 1 is asked for at the build; receipts of both rules recompute."""
    assert indexed.index is not None
    told = {"index_sha256": bytes(indexed.index.sha256 or b"").hex(), "passed": True, "weight_ppb": BILLION}
    indexes.record_audit(index=indexed.index, at=indexed.at, report={**told, "paid": {"items": 20}})
    items = Attribution.objects.get(generation=reported(indexed, output={"text": indexed_text(indexed, 2)}))
    with pytest.raises(UnableToBuild, match="rule must be 1"):
        indexes.build_index(model_version=indexed.model_version, config={**SMALL_INDEX, "rule": 3}, at=indexed.at)
    config = {**SMALL_INDEX, "rule": 1}
    index = indexes.build_index(model_version=indexed.model_version, config=config, at=indexed.at)
    told["index_sha256"] = bytes(index.sha256 or b"").hex()
    indexes.record_audit(index=index, at=indexed.at, report=told)
    sums = Attribution.objects.get(generation=reported(indexed, output={"text": indexed_text(indexed, 2)}))
    assert (sums.rule, items.rule, items.items_paid) == (1, 2, 20)
    assert len(sums.holder_ids) == len(sums.scores) == len(sums.se) == len(sums.general_ppb) == 4
    assert sum(sums.general_ppb) + sums.general_unattributed_ppb == BILLION
    assert 0 < len(items.holder_ids) <= 4
    assert items.items_counted > 20
    assert items.general is not None
    assert items.general.holder_ids == sums.holder_ids
    assert list(items.general.ppb) == pytest.approx(sums.general_ppb, abs=1_000)
    assert {int(holder) for holder in items.top_works} == set(items.holder_ids)
    again = recomputations.recompute(attribution=items, from_gradients=True)
    assert again.agrees
    assert again.score_error_max is not None
    assert again.score_error_max < 1e-3
    assert recomputations.recompute(attribution=sums, from_gradients=True).agrees


def test_attributing_again_adds_a_revision_and_keeps_the_old_one(indexed: Programme) -> None:
    generation = reported(indexed)
    first = Attribution.objects.get(generation=generation)
    second_index = indexes.build_index(
        model_version=indexed.model_version, config={**SMALL_INDEX, "k": 8}, at=indexed.at
    )
    indexes.record_audit(
        index=second_index,
        at=indexed.at,
        report={"index_sha256": bytes(second_index.sha256 or b"").hex(), "passed": True, "weight_ppb": BILLION},
    )
    second = attributions.attribute_again(generation=generation, at=indexed.at)
    assert (second.revision, second.index, second.weight_ppb) == (2, second_index, BILLION)
    assert generations.attribution_of(generation.pk) == second
    assert generations.attribution_of(generation.pk, revision=1) == first


def test_what_waits_or_cannot_be_attributed_is_not_attributed_again(indexed: Programme) -> None:
    indexed.report(indexed.generation("waits"))
    with pytest.raises(attributions.UnableToAttribute, match="first attribution"):
        attributions.attribute_again(generation=Generation.objects.get(external_id="waits"), at=indexed.at)
    empty = reported(indexed, output={"text": ""})
    with pytest.raises(attributions.UnableToAttribute, match="empty"):
        attributions.attribute_again(generation=empty, at=indexed.at)
    AttributionIndex.objects.update(state="retired", serving=False)
    with pytest.raises(attributions.UnableToAttribute, match="No index"):
        attributions.attribute_again(generation=empty, at=indexed.at)


@pytest.mark.parametrize("change", [{"shares_ppb": [BILLION]}, {"weight_ppb": 5}, {"revision": 9}])
def test_an_attribution_never_changes(indexed: Programme, change: dict[str, Any]) -> None:
    reported(indexed)
    with pytest.raises(DatabaseError), transaction.atomic():
        Attribution.objects.update(**change)
    with pytest.raises(DatabaseError), transaction.atomic():
        Attribution.objects.all().delete()


@pytest.mark.parametrize("state", ["received", "unattributable"])
def test_an_attributed_generation_stays_so(indexed: Programme, state: str) -> None:
    generation = reported(indexed)
    with pytest.raises(DatabaseError, match="cannot go from"), transaction.atomic():
        Generation.objects.filter(pk=generation.pk).update(state=state, error="no")


def test_an_index_that_was_damaged_attributes_nothing_and_loses_nothing(committed: Committed, tmp_path: Path) -> None:
    programme = committed.programme
    assert programme.index is not None
    programme.report(programme.generation())
    data = tmp_path / "copy"
    shutil.copytree(settings.TRIBUTARY_DATA, data)
    sums = data / programme.index.directory / "sums.npy"
    sums.write_bytes(sums.read_bytes()[:-4] + b"abcd")
    damaged = subprocess.run(
        [sys.executable, "-c", WORKER, "1"],
        env={**committed.environment, "TRIBUTARY_DATA": str(data)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert damaged.returncode != 0
    assert "Corrupt" in damaged.stderr
    assert Generation.objects.get().state == "received"


WORKER = """
import sys
import django
django.setup()
from attribution import tasks
for _ in range(int(sys.argv[1])):
    print(tasks.sweep_received())
"""


def test_two_workers_settle_every_generation_once(committed: Committed) -> None:
    programme = committed.programme
    programme.report(*[programme.generation(f"g{number}") for number in range(300)])
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, "1"], env=committed.environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    settled = [int(worker.communicate(timeout=120)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum(settled) == 300
    assert Attribution.objects.count() == 300
    assert not Generation.objects.exclude(state="attributed").exists()
