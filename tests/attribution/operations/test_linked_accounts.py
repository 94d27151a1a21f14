"""Accounts that count as one, from the link to the stored shares: once clipped, divided back, and computed again."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from attribution.models import Attribution, Generation
from attribution.operations import attributions, measurements, recomputations, renewals
from attribution.queries import generations
from contributors.models import PPB, Contributor, ContributorLink, Work
from contributors.operations import links, people
from influence.shares import BILLION, GroupScore, apportion_scores
from people.actor import Presence
from people.operations.proposals import approve
from people.operations.users import register_user
from tests.worlds.archive import serve_by_sums
from tests.worlds.programme import Programme
from tests.worlds.trained import Committed

SEEN = Presence(mfa_age_seconds=0)


def link(accounts: list[Contributor], at: datetime) -> ContributorLink:
    """Found by one person of compliance, agreed to by another."""
    finder, decider = (
        register_user(email=f"{uuid.uuid4()}@example.org", password="a long enough phrase", at=at, roles=["compliance"])
        for _ in range(2)
    )
    proposed = links.propose_link(contributors=accounts, reason="One bank account.", by=finder, at=at)
    return approve(proposed, by=decider, at=at, seen=SEEN)


def attributed(programme: Programme, at: datetime | None = None, **changes: Any) -> Attribution:
    """Attribute one by sums of holders: of items, accounts and their links change nobody's pay."""
    external_id = str(uuid.uuid4())
    serve_by_sums(programme)
    programme.report(programme.generation(external_id, **changes))
    attributions.attribute_batch(at=at or programme.at)
    return Attribution.objects.select_related("index").get(generation__external_id=external_id)


def holders(programme: Programme, *places: int) -> list[int]:
    return sorted(programme.works[place].holder_id for place in places)


def test_linked_accounts_are_clipped_once_and_get_together_what_one_account_would(indexed: Programme) -> None:
    apart = attributed(indexed)
    link(indexed.contributors[:3], indexed.at)
    row = attributed(indexed)
    (group,) = generations.groups_of(row)
    assert list(group.holder_ids) == holders(indexed, 0, 1, 2)
    # The score of each account stays the same; its payment changes.
    assert row.scores == pytest.approx(apart.scores, rel=1e-4, abs=1e-6)
    of_each = dict(zip(row.holder_ids, row.scores, strict=True))
    assert group.score == pytest.approx(sum(of_each[holder] for holder in group.holder_ids), rel=1e-3, abs=1e-6)
    (other,) = holders(indexed, 3)
    errors = dict(zip(row.holder_ids, row.se, strict=True))
    whole = apportion_scores(
        holder_ids=[group.holder_ids[0], other],
        scores=[group.score, of_each[other]],
        standard_errors=[group.se, errors[other]],
        noise_z=row.noise_z,
        key=str(row.generation_id),
    )
    paid = dict(zip(row.holder_ids, row.shares_ppb, strict=True))
    assert sum(paid[holder] for holder in group.holder_ids) == whole.ppb[0]
    assert (paid[other], row.unattributed_ppb) == (whole.ppb[1], whole.unattributed_ppb)
    assert sum(row.general_ppb) + row.general_unattributed_ppb == BILLION


def test_a_link_changes_nobodys_pay_by_items_and_counts_in_the_general_part(indexed: Programme) -> None:
    rows = []
    for linked in (False, True):
        if linked:
            link(indexed.contributors[:3], indexed.at)
        indexed.report(indexed.generation(f"linked: {linked}"))
        assert attributions.attribute_batch(at=indexed.at) == 1
        rows.append(Attribution.objects.get(generation__external_id=f"linked: {linked}"))
    apart, together = rows
    assert (apart.rule, together.rule) == (2, 2)
    before, after = (dict(zip(row.holder_ids, row.shares_ppb, strict=True)) for row in rows)
    assert after == pytest.approx(before, abs=10)
    assert apart.general is not None
    assert together.general is not None
    assert apart.general.groups == []
    assert [group["holders"] for group in together.general.groups] == [holders(indexed, 0, 1, 2)]
    assert recomputations.recompute(attribution=together, from_gradients=True).agrees


def test_everything_is_stored_that_gives_the_same_shares_again(indexed: Programme) -> None:
    before = attributed(indexed)
    made = link(indexed.contributors[1:3], indexed.at)
    row = attributed(indexed)
    assert made.decided_by is not None
    proposed = links.propose_end_of_link(link=made, reason="Cousins.", by=made.decided_by, at=indexed.at)
    approve(proposed, by=made.proposed_by, at=indexed.at + timedelta(hours=1), seen=SEEN)
    # Neither a link nor its end changes an earlier attribution.
    assert before.groups == []
    for attribution in (before, row):
        again = recomputations.recompute(attribution=attribution, from_gradients=True)
        assert again.agrees
        assert again.score_error_max is not None
        assert again.score_error_max < 1e-4
    row.groups[0]["score"] += 1.0
    assert not recomputations.recompute(attribution=row).specific_agrees


def test_a_link_counts_from_when_it_is_agreed_to_until_it_ends(indexed: Programme) -> None:
    at = indexed.at
    finder, decider = (
        register_user(email=f"{name}@example.org", password="a long enough phrase", at=at, roles=["compliance"])
        for name in ("one", "two")
    )
    proposed = links.propose_link(contributors=indexed.contributors[:2], reason="One bank.", by=finder, at=at)
    assert attributed(indexed).groups == []
    agreed = approve(proposed, by=decider, at=at, seen=SEEN)
    assert [group["holders"] for group in attributed(indexed).groups] == [holders(indexed, 0, 1)]
    ending = links.propose_end_of_link(link=agreed, reason="Two people.", by=finder, at=at)
    assert attributed(indexed).groups
    approve(ending, by=decider, at=at + timedelta(hours=1), seen=SEEN)
    assert attributed(indexed).groups
    assert attributed(indexed, at + timedelta(hours=1)).groups == []


def test_an_attribution_made_again_takes_the_link_in_and_keeps_the_earlier_one(indexed: Programme) -> None:
    first = attributed(indexed)
    link(indexed.contributors[:2], indexed.at)
    second = attributions.attribute_again(generation=first.generation, at=indexed.at)
    assert (first.groups, second.revision) == ([], 2)
    assert [group["holders"] for group in second.groups] == [holders(indexed, 0, 1)]
    assert renewals.attribute_batch_again(index=first.index, generation_ids=[first.generation_id], at=indexed.at) == 1
    third = Attribution.objects.select_related("index").get(generation=first.generation, revision=3)
    assert (third.groups, third.shares_ppb) == (second.groups, second.shares_ppb)
    assert all(recomputations.recompute(attribution=row).agrees for row in (first, second, third))


def test_works_that_one_account_puts_under_holders_of_their_own_count_as_one(indexed: Programme) -> None:
    owner, other = indexed.contributors[:2]
    taken_over = indexed.works[1].holder
    for part in ({owner: PPB // 2, other: PPB // 2}, {owner: PPB}):
        people.record_split_sheet(
            holder=taken_over, parts=part, effective_from=indexed.at + timedelta(minutes=len(part)), at=indexed.at
        )
    # Half of it is somebody else's: two sets of people.
    assert attributed(indexed, indexed.at + timedelta(minutes=2)).groups == []
    later = indexed.at + timedelta(minutes=3)
    people.record_split_sheet(holder=taken_over, parts={owner: PPB}, effective_from=later, at=indexed.at)
    assert [group["holders"] for group in attributed(indexed, later).groups] == [holders(indexed, 0, 1)]


def test_what_the_same_people_share_out_in_several_sheets_counts_as_one(indexed: Programme) -> None:
    one, friend = indexed.contributors[2:4]
    at = indexed.at
    for work, ppb in ((indexed.works[0], PPB - 1), (indexed.works[1], PPB - 2)):
        people.record_split_sheet(holder=work.holder, parts={one: ppb, friend: PPB - ppb}, effective_from=at, at=at)
    assert [group["holders"] for group in attributed(indexed).groups] == [holders(indexed, 0, 1)]


def test_a_page_says_with_whom_a_holder_counted_and_parts_are_of_the_whole_that_was_divided(
    indexed: Programme,
) -> None:
    link(indexed.contributors[:3], indexed.at)
    row = attributed(indexed)
    (group,) = generations.groups_of(row)
    assert generations.group_of(row, group.holder_ids[1]) == group
    assert generations.group_of(row, holders(indexed, 3)[0]) is None
    alone = dict(zip(row.holder_ids, row.scores, strict=True))[holders(indexed, 3)[0]]
    assert generations.positive_sum(row) == pytest.approx(max(group.score, 0.0) + max(alone, 0.0))
    assert sum(share.ppb for share in generations.shares_of(row)) + row.unattributed_ppb == BILLION


def test_an_error_of_a_group_is_of_its_sum_and_not_of_its_holders() -> None:
    # The errors of two accounts cancel: together they are certain, each alone is noise.
    found = apportion_scores(
        holder_ids=[1, 2, 3],
        scores=[1.0, 1.0, 2.0],
        standard_errors=[1.0, 1.0, 0.0],
        noise_z=2.0,
        key="g",
        groups=[GroupScore((1, 2), 2.0, 0.0)],
    )
    assert (found.ppb, found.unattributed_ppb) == ((BILLION // 4, BILLION // 4, BILLION // 2), 0)


def test_a_link_that_lands_while_a_batch_is_attributed_counts_for_all_of_it_or_for_none(
    committed: Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    programme = committed.programme
    programme.report(*(programme.generation(f"g{number}") for number in range(4)))
    measured, linked = measurements._measure_together, threading.Event()

    def measure_while_a_link_lands(*arguments: Any) -> Any:
        if not linked.is_set():

            def decide() -> None:
                link(programme.contributors[:2], programme.at)
                linked.set()
                connections.close_all()

            thread = threading.Thread(target=decide)
            thread.start()
            thread.join(30)
            assert linked.is_set()
        return measured(*arguments)

    monkeypatch.setattr(measurements, "_measure_together", measure_while_a_link_lands)
    assert attributions.attribute_batch(at=programme.at) == 4
    rows = list(Attribution.objects.select_related("index", "general"))
    assert [row.general.groups for row in rows if row.general] == [[]] * 4
    programme.report(programme.generation("after"))
    attributions.attribute_batch(at=programme.at)
    after = Attribution.objects.select_related("index", "general").get(generation__external_id="after")
    assert after.general is not None
    assert [group["holders"] for group in after.general.groups] == [holders(programme, 0, 1)]
    assert all(recomputations.recompute(attribution=row).agrees for row in [*rows, after])
    assert Generation.objects.filter(state="attributed").count() == 5
    assert Work.objects.count() == len(programme.works)
