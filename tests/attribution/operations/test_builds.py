"""Builds handed to workers, works that leave an index and return, and the facts that old attributions keep."""

from __future__ import annotations

import json
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from attribution import tasks
from attribution.models import Attribution, AttributionIndex, BuildStep, IndexRevision, WorkRemoval
from attribution.operations import attributions, base_pool, builds, indexes, manifest_items, recomputations, revisions
from attribution.operations.builds import queue_build, steps_to_do, take_step
from attribution.queries.indexes import BuildProgress, build_progress
from contributors.models import PPB, Work
from contributors.operations import consents, splits
from influence.index.artefacts import UnableToBuildIndex, UnableToOpenIndex
from influence.shares import BILLION
from tests.worlds.archive import own_copy, serve_by_sums
from tests.worlds.programme import Programme
from tests.worlds.trained import SMALL_INDEX, Committed

IN_PARTS: dict[str, Any] = {**SMALL_INDEX, "part_items": 40, "shard_items": 50}


def work_off(index: AttributionIndex, programme: Programme, *, until: str = "") -> list[str]:
    """Do the work of a single worker, message by message, up to the stage `until` if one is named. Returns the stages
    in the order of their execution."""
    stages: list[str] = []
    while (steps := steps_to_do(index=index)) and steps[0].stage != until:
        for step in steps:
            assert take_step(step_id=step.pk, at=programme.at)
            stages.append(step.stage)
    return stages


def split(programme: Programme, work: Work) -> None:
    """Two of the programme agree to divide a work of the first one's: it gets another holder."""
    who = work.holder.created_by
    other = next(each for each in programme.contributors if each != who)
    made = splits.propose_split_sheet(
        contributor=who,
        work=work,
        parts={who: PPB // 2, other: PPB // 2},
        effective_from=programme.at,
        by=programme.user,
        at=programme.at,
    )
    splits.answer_split_sheet(proposal=made, contributor=other, agrees=True, by=programme.user, at=programme.at)


def files_of(index: AttributionIndex) -> dict[str, bytes]:
    directory = Path(settings.TRIBUTARY_DATA) / index.directory
    # Leave out the lock files of the writers.
    files = [path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


# --- builds ---------------------------------------------------------------------------------------------------------
def test_a_queued_build_is_done_step_by_step_and_serves(programme: Programme) -> None:
    index = queue_build(model_version=programme.model_version, config=IN_PARTS, at=programme.at)
    assert [step.stage for step in steps_to_do(index=index)] == ["plan"]
    stages = work_off(index, programme)
    assert list(dict.fromkeys(stages)) == [
        "plan", "moments", "eigenvectors", "squares", "factors", "sample", "basis", "items", "mean", "sums", "finish",
        "assemble",
    ]  # fmt: skip
    assert stages.count("items") > 1
    index.refresh_from_db()
    assert (index.state, index.serving, index.method) == ("built", True, "midpoint")
    assert index.revisions.get().revision == 1
    assert 0 < index.condition["captured"] <= 1
    programme.report(programme.generation())
    base_pool.pay_by_base_pool(index=index, at=programme.at)
    assert attributions.attribute_batch(at=programme.at) == 1


def test_workers_write_the_bytes_that_one_process_writes(programme: Programme) -> None:
    queued = queue_build(model_version=programme.model_version, config=IN_PARTS, at=programme.at)
    work_off(queued, programme)
    AttributionIndex.objects.filter(pk=queued.pk).update(state="retired", serving=False)
    alone = indexes.build_index(model_version=programme.model_version, config=IN_PARTS, at=programme.at)
    assert alone.pk != queued.pk
    assert files_of(alone) == files_of(queued)


@pytest.mark.parametrize(("attributor", "last"), [("hybrid", "assemble"), ("lexical", "assemble")])
def test_every_attributor_can_be_queued(programme: Programme, attributor: str, last: str) -> None:
    fields = {} if attributor == "lexical" else IN_PARTS
    config = {**fields, "attributor": attributor, "own_generations": 16}
    index = queue_build(model_version=programme.model_version, config=config, at=programme.at)
    assert work_off(index, programme)[-1] == last
    index.refresh_from_db()
    assert (index.state, index.attributor) == ("built", attributor)


def test_a_step_delivered_twice_is_done_once(programme: Programme) -> None:
    index = queue_build(model_version=programme.model_version, config=IN_PARTS, at=programme.at)
    (plan,) = steps_to_do(index=index)
    assert take_step(step_id=plan.pk, at=programme.at)
    assert not take_step(step_id=plan.pk, at=programme.at)
    first = steps_to_do(index=index)[0]
    # A message that comes before its time.
    later = BuildStep.objects.get(index=index, stage="finish")
    assert not take_step(step_id=later.pk, at=programme.at)
    assert take_step(step_id=first.pk, at=programme.at)
    assert not take_step(step_id=first.pk, at=programme.at)
    assert not take_step(step_id=2**40, at=programme.at)


def test_a_step_that_another_worker_holds_is_left_to_it(programme: Programme) -> None:
    index = queue_build(model_version=programme.model_version, config=IN_PARTS, at=programme.at)
    (plan,) = steps_to_do(index=index)
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", [0x6275, plan.pk])
        assert not take_step(step_id=plan.pk, at=programme.at)
    finally:
        # As when a worker dies: its session ends, and the lock with it, a moment later.
        other.close()
    end = time.monotonic() + 30
    while time.monotonic() < end and not take_step(step_id=plan.pk, at=programme.at):
        time.sleep(0.05)
    plan.refresh_from_db()
    assert plan.done_at is not None


def test_a_build_that_cannot_go_on_says_why_and_waits_until_it_is_queued_anew(programme: Programme) -> None:
    index = queue_build(
        model_version=programme.model_version, config={**IN_PARTS, "left_out": ["haed"]}, at=programme.at
    )
    while steps := steps_to_do(index=index):
        with pytest.raises(UnableToBuildIndex, match="no layer 'haed'"):
            take_step(step_id=steps[0].pk, at=programme.at)
    failed = BuildStep.objects.get(index=index)
    assert (failed.stage, failed.failures) == ("plan", 3)
    assert failed.error == "The module has no layer 'haed' to leave out."
    queue_build(model_version=programme.model_version, config=index.config, at=programme.at)
    assert [step.stage for step in steps_to_do(index=index)] == ["plan"]


@pytest.mark.parametrize("other_worker", [False, True])
@pytest.mark.parametrize("attributor", ["midpoint", "hybrid"])
def test_a_build_whose_works_change_goes_on_with_those_that_were_planned(
    programme: Programme, attributor: str, *, other_worker: bool
) -> None:
    config = {**IN_PARTS, "attributor": attributor}
    undisturbed = indexes.build_index(model_version=programme.model_version, config=config, at=programme.at)
    AttributionIndex.objects.filter(pk=undisturbed.pk).update(state="retired", serving=False)
    index = queue_build(model_version=programme.model_version, config=config, at=programme.at)
    work_off(index, programme, until="squares")
    split(programme, programme.works[1])
    revisions.remove_works(
        model_version=programme.model_version, works=programme.works[:1] * 2, reason="claim", at=programme.at
    )
    if other_worker:
        builds._opened.cache_clear()
    work_off(index, programme)
    assert files_of(index) == files_of(undisturbed)
    assert revisions.indexes_to_revise() == [index]


@pytest.mark.parametrize("stage", ["squares", "assemble"])
@pytest.mark.parametrize("attributor", ["midpoint", "hybrid"])
def test_a_build_that_is_queued_again_is_of_the_works_that_count_now(
    programme: Programme, attributor: str, stage: str
) -> None:
    config = {**IN_PARTS, "attributor": attributor}
    index = queue_build(model_version=programme.model_version, config=config, at=programme.at)
    # The worker keeps the index that it opened for the earlier plan.
    work_off(index, programme, until=stage)
    revisions.remove_works(
        model_version=programme.model_version, works=programme.works[:1], reason="claim", at=programme.at
    )
    queue_build(model_version=programme.model_version, config=config, at=programme.at)
    work_off(index, programme)
    index.refresh_from_db()
    if (attributor, stage) == ("midpoint", "assemble"):
        assert revisions.indexes_to_revise() == [index], "It was complete but for its row."
        return
    assert index.revisions.get().removed_work_ids == [programme.works[0].pk]
    AttributionIndex.objects.filter(pk=index.pk).update(state="retired", serving=False)
    alone = indexes.build_index(model_version=programme.model_version, config=config, at=programme.at)
    assert files_of(index) == files_of(alone)


def test_a_hybrid_that_is_cut_off_begins_anew_when_a_work_changed_hands(programme: Programme) -> None:
    config = {**SMALL_INDEX, "attributor": "hybrid"}

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "lexical items":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        indexes.build_index(model_version=programme.model_version, config=config, at=programme.at, progress=stop)
    split(programme, programme.works[0])
    index = indexes.build_index(model_version=programme.model_version, config=config, at=programme.at)
    base_pool.pay_by_base_pool(index=index, at=programme.at)
    programme.works[0].refresh_from_db()
    assert programme.works[0].holder_id in attributed(programme, "g1").holder_ids


def test_a_build_that_nobody_queued_is_left_to_whoever_builds_it(programme: Programme) -> None:
    AttributionIndex.objects.create(
        model_version=programme.model_version, config_sha256=b"1" * 32, created_at=programme.at
    )
    assert steps_to_do() == []


def test_progress_counts_steps_and_names_what_stands_in_the_way(programme: Programme) -> None:
    index = queue_build(model_version=programme.model_version, config=IN_PARTS, at=programme.at)
    assert build_progress(index) == BuildProgress(0, 1, "plan", "")
    work_off(index, programme, until="moments")
    # Its planned files are lost.
    (lost,) = (Path(settings.TRIBUTARY_DATA) / index.directory).parent.rglob("work-plan.json")
    shutil.rmtree(lost.parent)
    while steps := steps_to_do(index=index):
        with pytest.raises(UnableToBuildIndex, match="begin it again"):
            take_step(step_id=steps[0].pk, at=programme.at)
    progress = build_progress(index)
    assert progress is not None
    assert (progress.done, progress.stage) == (1, "moments")
    assert progress.steps > 20
    assert "begin it again" in progress.error
    queue_build(model_version=programme.model_version, config=IN_PARTS, at=programme.at)
    assert build_progress(index) == BuildProgress(0, 1, "plan", "")


def test_the_command_queues(programme: Programme, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("build_index", "orator/orator-1", "--queue", "--set", "k=16")
    assert "is queued" in capsys.readouterr().out
    assert AttributionIndex.objects.get().queued_at is not None


# --- works that leave and come back ---------------------------------------------------------------------------------
def attributed(programme: Programme, external_id: str) -> Attribution:
    programme.report(programme.generation(external_id))
    attributions.attribute_batch(at=programme.at)
    return Attribution.objects.get(generation__external_id=external_id)


def holders_of(row: Attribution) -> list[int]:
    """The holders of works in the index, paid or not."""
    return list(row.holder_ids if row.general is None else row.general.holder_ids)


def shares_of(row: Attribution) -> dict[int, int]:
    """Shares of all holders of the index, nothing included."""
    return {**dict.fromkeys(holders_of(row), 0), **dict(zip(row.holder_ids, row.shares_ppb, strict=True))}


@pytest.mark.parametrize("rule", [1, 2])
def test_a_removed_work_leaves_the_index_as_a_revision_and_old_attributions_keep_theirs(
    indexed: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: int
) -> None:
    if rule == 1:
        serve_by_sums(indexed)
    index, gone = own_copy(indexed, tmp_path, monkeypatch), indexed.works[0]
    before = attributed(indexed, "g1")
    revisions.remove_works(model_version=indexed.model_version, works=[gone], reason="unlearned", at=indexed.at)
    assert tasks.sweep_removals() == 1
    assert tasks.sweep_removals() == 0
    index.refresh_from_db()
    assert index.revision == 2
    assert list(index.revisions.order_by("revision").values_list("removed_work_ids", flat=True)) == [[], [gone.pk]]
    assert index.condition["removed"] > 0
    after = attributed(indexed, "g2")
    assert (before.index_revision, after.index_revision) == (1, 2)
    assert gone.holder_id in holders_of(before)
    assert gone.holder_id not in holders_of(after)
    for attribution in (before, after):
        again = recomputations.recompute(attribution=attribution, from_gradients=True)
        assert again.agrees
        assert again.score_error_max is not None
        assert again.score_error_max < 1e-5

    assert revisions.restore_works(model_version=indexed.model_version, works=[gone], at=indexed.at) == 1
    assert tasks.sweep_removals() == 1
    back = attributed(indexed, "g3")
    assert back.index_revision == 3
    index.refresh_from_db()
    assert index.condition["added"] == 0, "What comes back is not new to the basis."
    assert holders_of(back) == holders_of(before)
    assert shares_of(back) == pytest.approx(shares_of(before), abs=1e-2 * BILLION)
    assert {work for pairs in back.top_works.values() for work, _ in pairs} <= {work.pk for work in indexed.works}


@pytest.mark.parametrize("rule", [1, 2])
def test_a_work_that_came_to_another_holder_is_credited_to_it_from_the_next_sweep_on(
    indexed: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: int
) -> None:
    if rule == 1:
        serve_by_sums(indexed)
    index, work = own_copy(indexed, tmp_path, monkeypatch), indexed.works[0]
    before, old = attributed(indexed, "g1"), work.holder_id
    split(indexed, work)
    work.refresh_from_db()
    assert work.holder_id != old
    assert tasks.sweep_removals() == 1
    after = attributed(indexed, "g2")
    assert set(holders_of(after)) == set(holders_of(before)) - {old} | {work.holder_id}
    shares, moved = shares_of(before), shares_of(after)
    assert shares[old] > 0
    shares[work.holder_id] = shares.pop(old)
    assert moved == pytest.approx(shares, abs=1e-2 * BILLION)
    for attribution in (before, after):
        assert recomputations.recompute(attribution=attribution, from_gradients=True).agrees
    revision = index.revisions.get(revision=2)
    assert revision.removed_work_ids == revision.added_work_ids == [work.pk]
    assert revision.followed_proposal_ids == [work.split_proposals.get().pk]
    index.refresh_from_db()
    assert (index.condition["added"], index.condition["reasons"]) == (0, [])
    assert tasks.sweep_removals() == 0, "It is followed once."


def test_a_work_that_came_to_another_holder_while_it_was_out_comes_back_to_that_one(
    indexed: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, work = own_copy(indexed, tmp_path, monkeypatch), indexed.works[0]
    version, old = indexed.model_version, work.holder_id
    revisions.remove_works(model_version=version, works=[work], reason="claim", at=indexed.at)
    assert tasks.sweep_removals() == 1
    split(indexed, work)
    work.refresh_from_db()
    assert tasks.sweep_removals() == 0
    revisions.restore_works(model_version=version, works=[work], at=indexed.at)
    assert tasks.sweep_removals() == 1
    holders = holders_of(attributed(indexed, "g1"))
    assert (work.holder_id in holders, old in holders) == (True, False)
    assert tasks.sweep_removals() == 0
    assert index.revisions.count() == 3


def test_what_leaves_an_index_does_not_wait_for_a_work_that_changed_hands_and_cannot_be_read(
    indexed: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_copy(indexed, tmp_path, monkeypatch)
    moved, gone, old = indexed.works[0], indexed.works[1], indexed.works[0].holder_id
    split(indexed, moved)
    content = Path(settings.TRIBUTARY_DATA) / moved.content_path
    content.rename(content.with_suffix(".lost"))
    revisions.remove_works(model_version=indexed.model_version, works=[gone], reason="claim", at=indexed.at)
    assert tasks.sweep_removals() == 1
    holders = holders_of(attributed(indexed, "g1"))
    assert (gone.holder_id in holders, old in holders) == (False, True)
    with pytest.raises(manifest_items.UnableToBuild, match="is missing"):
        tasks.sweep_removals()
    content.with_suffix(".lost").rename(content)
    assert tasks.sweep_removals() == 1
    moved.refresh_from_db()
    holders = holders_of(attributed(indexed, "g2"))
    assert (moved.holder_id in holders, old in holders) == (True, False)
    assert tasks.sweep_removals() == 0


def test_a_change_whose_row_was_never_written_is_made_again(
    indexed: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from influence import scorers

    index = own_copy(indexed, tmp_path, monkeypatch)
    # The state after a worker is killed between its files and its row.
    scorers.remove_works(Path(settings.TRIBUTARY_DATA) / index.directory, work_ids=[indexed.works[1].pk])
    assert attributed(indexed, "g1").index_revision == 1, "The revision on record goes on serving."
    revisions.remove_works(model_version=indexed.model_version, works=[indexed.works[0]], reason="claim", at=indexed.at)
    revisions.revise_index(index=index, at=indexed.at)
    left = attributed(indexed, "g2").holder_ids
    assert indexed.works[0].holder_id not in left
    assert indexed.works[1].holder_id in left


def test_by_default_a_withdrawal_leaves_a_serving_index_as_it_is_and_by_the_terms_it_need_not(
    indexed: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, who = own_copy(indexed, tmp_path, monkeypatch), indexed.contributors[2]
    consents.withdraw_consent(
        contributor=who, scope="train_generative", valid_from=indexed.at, by=indexed.user, at=indexed.at
    )
    assert tasks.sweep_removals() == 0
    monkeypatch.setattr(settings, "WITHDRAWN_WORKS_LEAVE_INDEXES", True)
    assert revisions.follow_consent(model_version=index.model_version, at=indexed.at) == (1, 0)
    assert revisions.follow_consent(model_version=index.model_version, at=indexed.at) == (0, 0)
    assert tasks.sweep_removals() == 1
    removal = WorkRemoval.objects.get()
    assert (removal.work, removal.reason) == (indexed.works[2], "consent")
    assert indexed.works[2].holder_id not in attributed(indexed, "g1").holder_ids
    consents.grant_consent(
        contributor=who,
        scope="train_generative",
        valid_from=indexed.at,
        by=indexed.user,
        source="test",
        at=indexed.at,
    )
    assert revisions.follow_consent(model_version=index.model_version, at=indexed.at) == (0, 1)


def test_only_works_that_the_model_was_trained_on_can_be_removed_and_only_for_a_reason(indexed: Programme) -> None:
    stranger = Work(pk=10**9, title="Elsewhere")
    with pytest.raises(revisions.UnableToRevise, match="was not trained on “Elsewhere”"):
        revisions.remove_works(model_version=indexed.model_version, works=[stranger], reason="claim", at=indexed.at)
    with pytest.raises(revisions.UnableToRevise, match="no reason 'mood'"):
        revisions.remove_works(
            model_version=indexed.model_version, works=indexed.works[:1], reason="mood", at=indexed.at
        )


def test_an_index_that_is_built_later_leaves_removed_works_out(programme: Programme) -> None:
    revisions.remove_works(
        model_version=programme.model_version, works=programme.works[:1], reason="claim", at=programme.at
    )
    index = indexes.build_index(model_version=programme.model_version, config=SMALL_INDEX, at=programme.at)
    assert revisions.indexes_to_revise() == []
    index = base_pool.pay_by_base_pool(index=index, at=programme.at)
    assert programme.works[0].holder_id not in attributed(programme, "g1").holder_ids
    revisions.restore_works(model_version=programme.model_version, works=programme.works[:1], at=programme.at)
    index = revisions.revise_index(index=index, at=programme.at)
    assert programme.works[0].holder_id in attributed(programme, "g2").holder_ids
    assert index.condition["added"] > 0
    # A fifth and more of its items is new to its basis.
    assert "added after its basis was fitted" in index.condition["reasons"][0]
    refitted = revisions.refit_index(index=index, at=programme.at)
    work_off(refitted, programme)
    refitted.refresh_from_db()
    assert (refitted.state, refitted.serving, refitted.condition["reasons"]) == ("built", False, [])
    assert refitted.config == {**index.config, "refit": 1}


@pytest.mark.parametrize("fields", [SMALL_INDEX, {"attributor": "lexical"}, {**SMALL_INDEX, "attributor": "hybrid"}])
def test_a_work_that_is_removed_while_an_index_is_built_leaves_it_and_comes_back_once(
    programme: Programme, fields: dict[str, Any]
) -> None:
    gone = programme.works[:1]

    def remove(stage: str, done: int, total: int) -> None:
        revisions.remove_works(model_version=programme.model_version, works=gone, reason="claim", at=programme.at)

    index = indexes.build_index(model_version=programme.model_version, config=fields, at=programme.at, progress=remove)
    assert index.revisions.get().removed_work_ids == []
    assert tasks.sweep_removals() == 1
    base_pool.pay_by_base_pool(index=index, at=programme.at)
    assert gone[0].holder_id not in attributed(programme, "g1").holder_ids
    revisions.restore_works(model_version=programme.model_version, works=gone, at=programme.at)
    assert tasks.sweep_removals() == 1
    assert gone[0].holder_id in attributed(programme, "g2").holder_ids
    manifest = json.loads(files_of(index)["manifest.json"])
    assert manifest["counts"]["items"] == programme.model_version.manifest.n_items


def test_a_work_that_is_restored_while_an_index_is_built_comes_into_it(programme: Programme) -> None:
    back = programme.works[:1]
    revisions.remove_works(model_version=programme.model_version, works=back, reason="claim", at=programme.at)

    def restore(stage: str, done: int, total: int) -> None:
        revisions.restore_works(model_version=programme.model_version, works=back, at=programme.at)

    index = indexes.build_index(
        model_version=programme.model_version, config=SMALL_INDEX, at=programme.at, progress=restore
    )
    assert index.revisions.get().removed_work_ids == [back[0].pk]
    base_pool.pay_by_base_pool(index=index, at=programme.at)
    assert tasks.sweep_removals() == 1
    assert back[0].holder_id in attributed(programme, "g1").holder_ids


def test_an_index_that_cannot_follow_its_works_holds_up_no_other(
    indexed: Programme, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_copy(indexed, tmp_path, monkeypatch)
    indexes.build_index(model_version=indexed.model_version, config={**SMALL_INDEX, "k": 8}, at=indexed.at)
    revisions.remove_works(model_version=indexed.model_version, works=indexed.works[:1], reason="claim", at=indexed.at)
    first, second = revisions.indexes_to_revise()
    (Path(settings.TRIBUTARY_DATA) / first.directory / "manifest.json").unlink()
    with pytest.raises(UnableToOpenIndex, match=r"has no manifest\.json"):
        tasks.sweep_removals()
    second.refresh_from_db()
    assert second.revision == 2
    assert revisions.indexes_to_revise() == [first]


@pytest.mark.parametrize("attributor", ["midpoint", "lexical", "hybrid"])
def test_of_a_model_whose_works_were_all_removed_nobody_is_credited_until_one_comes_back(
    programme: Programme, attributor: str
) -> None:
    fields = {} if attributor == "lexical" else SMALL_INDEX
    index = indexes.build_index(
        model_version=programme.model_version, config={**fields, "attributor": attributor}, at=programme.at
    )
    base_pool.pay_by_base_pool(index=index, at=programme.at)
    revisions.remove_works(
        model_version=programme.model_version, works=programme.works, reason="consent", at=programme.at
    )
    assert tasks.sweep_removals() == 1
    assert tasks.sweep_removals() == 0
    nobody = attributed(programme, "g1")
    assert (nobody.holder_ids, nobody.unattributed_ppb, nobody.general_unattributed_ppb) == ([], PPB, PPB)
    assert recomputations.recompute(attribution=nobody, from_gradients=True).agrees
    back = programme.works[1]
    revisions.restore_works(model_version=programme.model_version, works=[back], at=programme.at)
    assert tasks.sweep_removals() == 1
    assert attributed(programme, "g2").holder_ids == [back.holder_id]
    index.refresh_from_db()
    assert (index.revision, index.serving) == (3, True)


def test_an_index_that_another_process_changes_is_left_to_it(
    committed: Committed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programme = committed.programme
    index = own_copy(programme, tmp_path, monkeypatch)
    revisions.remove_works(
        model_version=programme.model_version, works=programme.works[:1], reason="claim", at=programme.at
    )
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", [0x7265, index.pk])
        before = files_of(index)
        with pytest.raises(revisions.UnableToRevise, match="Another process is changing"):
            revisions.revise_index(index=index, at=programme.at)
        assert tasks.sweep_removals() == 0
        assert files_of(index) == before
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [0x7265, index.pk])
    finally:
        other.close()
    assert tasks.sweep_removals() == 1


def test_a_refit_that_is_asked_for_twice_is_queued_once(indexed: Programme) -> None:
    assert indexed.index is not None
    refitted = revisions.refit_index(index=indexed.index, at=indexed.at)
    with pytest.raises(manifest_items.UnableToBuild, match="is being built already"):
        revisions.refit_index(index=indexed.index, at=indexed.at)
    AttributionIndex.objects.filter(pk=refitted.pk).update(state="retired")
    assert revisions.refit_index(index=indexed.index, at=indexed.at).config["refit"] == 2


def test_a_work_does_not_come_back_before_it_was_removed(indexed: Programme) -> None:
    works = indexed.works[:1]
    revisions.remove_works(model_version=indexed.model_version, works=works, reason="claim", at=indexed.at)
    before = indexed.at - timedelta(days=1)
    with pytest.raises(revisions.UnableToRevise, match=f"“{works[0].title}” was removed after"):
        revisions.restore_works(model_version=indexed.model_version, works=works, at=before)
    assert revisions.restore_works(model_version=indexed.model_version, works=works, at=indexed.at) == 1


def test_revisions_and_removals_are_kept(indexed: Programme) -> None:
    revisions.remove_works(model_version=indexed.model_version, works=indexed.works[:1], reason="claim", at=indexed.at)
    for change in (
        lambda: IndexRevision.objects.update(revision=7),
        lambda: IndexRevision.objects.all().delete(),
        lambda: WorkRemoval.objects.update(reason="consent"),
        lambda: WorkRemoval.objects.all().delete(),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()
