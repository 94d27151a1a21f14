"""Split sheets between co-authors: proposed by one, agreed by each, exact to the last part of a billion."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils.timezone import now

from contributors.models import PPB, Contributor, Dataset, Holder, Split, SplitDispute, SplitProposal
from contributors.operations import splits
from contributors.operations.people import register_holder
from contributors.operations.works import register_works
from contributors.queries.splits import split_of
from people.models import User
from tests.worlds import people

pytestmark = pytest.mark.django_db
HALF = PPB // 2


def owner_of(contributor: Contributor) -> User:
    return contributor.memberships.get(role="owner").user


@pytest.fixture
def duo(ada: Contributor, ben: Contributor, at: datetime) -> Holder:
    return register_holder(
        contributor=ada, label="Duo", parts={ada: HALF, ben: HALF}, effective_from=at - timedelta(days=9), at=at
    )


def propose(
    duo: Holder, ada: Contributor, parts: dict[Contributor, int], at: datetime, **changes: Any
) -> SplitProposal:
    said: dict[str, Any] = {"holder": duo, "effective_from": at + timedelta(days=1), **changes}
    return splits.propose_split_sheet(contributor=ada, parts=parts, by=owner_of(ada), at=at, **said)


def answer(proposal: SplitProposal, contributor: Contributor, at: datetime, *, agrees: bool = True) -> SplitProposal:
    return splits.answer_split_sheet(
        proposal=proposal, contributor=contributor, agrees=agrees, by=owner_of(contributor), at=at
    )


def sheet(holder: Holder, at: datetime) -> dict[int, int]:
    return dict(split_of([holder.pk], at)[holder.pk])


def test_a_sheet_takes_effect_when_each_co_author_has_agreed(
    duo: Holder, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    cleo = people.contributor("Cleo", at)
    proposal = propose(duo, ada, {ada: 400_000_001, ben: 299_999_999, cleo: 300_000_000}, at)
    for who in (ben, cleo):
        assert proposal.state == "open"
        assert sheet(duo, at + timedelta(days=2)) == {ada.pk: HALF, ben.pk: HALF}
        proposal = answer(proposal, who, at)
    assert proposal.state == "agreed"
    # Before its date the old one holds, for good.
    assert sheet(duo, at) == {ada.pk: HALF, ben.pk: HALF}
    found = sheet(duo, at + timedelta(days=2))
    assert found == {ada.pk: 400_000_001, ben.pk: 299_999_999, cleo.pk: 300_000_000}
    assert sum(found.values()) == PPB


def test_an_answer_that_comes_late_starts_the_sheet_when_it_comes(
    duo: Holder, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    proposal = propose(duo, ada, {ada: 1, ben: PPB - 1}, at)
    late = at + timedelta(days=30)
    answer(proposal, ben, late)
    assert sheet(duo, late - timedelta(seconds=1))[ben.pk] == HALF
    assert sheet(duo, late)[ben.pk] == PPB - 1


def test_one_refusal_leaves_the_sheet_as_it_is_and_who_would_leave_is_asked_too(
    duo: Holder, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    proposal = propose(duo, ada, {ada: PPB}, at)
    assert proposal.state == "open"
    assert answer(proposal, ben, at, agrees=False).state == "refused"
    assert Split.objects.filter(holder=duo).count() == 2
    with pytest.raises(splits.UnableToAnswerSplit, match="refused already"):
        answer(proposal, ben, at)
    again = propose(duo, ada, {ada: PPB}, at)
    answer(again, ben, at)
    assert sheet(duo, at + timedelta(days=2)) == {ada.pk: PPB}


@pytest.mark.parametrize(
    ("ada_ppb", "ben_ppb", "named"),
    [
        (700_000_000, 500_000_000, "sum to 120 %; that is 20 % more than there is to divide"),
        (600_000_000, 399_999_999, "sum to 99.9999999 %; 0.0000001 % would belong to nobody"),
        (PPB, 0, "Every part is above zero; leave out Ben"),
        (PPB + 5, -5, "Every part is above zero"),
    ],
)
def test_shares_that_do_not_sum_are_refused_in_words_and_no_row_is_written(
    duo: Holder, ada: Contributor, ben: Contributor, at: datetime, ada_ppb: int, ben_ppb: int, named: str
) -> None:
    with pytest.raises(splits.UnableToProposeSplit, match=named):
        propose(duo, ada, {ada: ada_ppb, ben: ben_ppb}, at)
    assert not SplitProposal.objects.exists()


def test_only_who_has_a_part_proposes_once_at_a_time_and_not_for_the_past(
    duo: Holder, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    cleo = people.contributor("Cleo", at)
    with pytest.raises(splits.UnableToProposeSplit, match="has no part in “Duo”"):
        propose(duo, cleo, {cleo: PPB}, at)
    with pytest.raises(splits.UnableToProposeSplit, match="in the past"):
        propose(duo, ada, {ada: PPB}, at, effective_from=at - timedelta(days=1))
    with pytest.raises(splits.UnableToProposeSplit, match="does not act for Ada"):
        splits.propose_split_sheet(
            contributor=ada, holder=duo, parts={ada: PPB}, effective_from=at, by=owner_of(ben), at=at
        )
    first = propose(duo, ada, {ada: 1, ben: PPB - 1}, at)
    with pytest.raises(splits.UnableToProposeSplit, match="Another proposal waits"):
        propose(duo, ben, {ada: PPB - 1, ben: 1}, at)
    with pytest.raises(splits.UnableToAnswerSplit, match="Only the proposer"):
        splits.withdraw_split_proposal(proposal=first, contributor=ben, by=owner_of(ben), at=at)
    splits.withdraw_split_proposal(proposal=first, contributor=ada, by=owner_of(ada), at=at)
    with pytest.raises(splits.UnableToAnswerSplit, match="asks nothing of Cleo"):
        answer(propose(duo, ada, {ada: 1, ben: PPB - 1}, at), cleo, at)


def test_a_single_work_gets_a_holder_of_its_own(
    ada: Contributor, ben: Contributor, essays: Dataset, at: datetime
) -> None:
    work, other = register_works(dataset=essays, works=[people.text_work(1), people.text_work(2)], at=at)
    proposal = splits.propose_split_sheet(
        contributor=ada, work=work, parts={ada: HALF, ben: HALF}, effective_from=at, by=owner_of(ada), at=at
    )
    answer(proposal, ben, at)
    work.refresh_from_db()
    assert work.holder != other.holder
    assert sheet(work.holder, at) == {ada.pk: HALF, ben.pk: HALF}
    assert sheet(other.holder, at) == {ada.pk: PPB}


def test_a_work_is_divided_as_it_was_until_its_own_sheet_begins(
    ada: Contributor, ben: Contributor, essays: Dataset, at: datetime
) -> None:
    [work] = register_works(dataset=essays, works=[people.text_work(1)], at=at)
    begins = at + timedelta(days=10)
    proposal = splits.propose_split_sheet(
        contributor=ada, work=work, parts={ben: PPB}, effective_from=begins, by=owner_of(ada), at=at
    )
    answer(proposal, ben, at)
    work.refresh_from_db()
    for before in (at - timedelta(days=20), at, begins - timedelta(seconds=1)):
        assert sheet(work.holder, before) == {ada.pk: PPB}
    assert sheet(work.holder, begins) == {ben.pk: PPB}


def test_who_a_later_sheet_names_is_asked_although_it_has_not_begun(
    duo: Holder, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    cleo = people.contributor("Cleo", at)
    promised = propose(duo, ada, {ada: HALF, cleo: HALF}, at, effective_from=at + timedelta(days=5))
    for who in (ben, cleo):
        promised = answer(promised, who, at)
    assert promised.state == "agreed"
    without_her = propose(duo, ada, {ada: HALF, ben: HALF}, at, effective_from=at + timedelta(days=6))
    assert answer(without_her, ben, at).state == "open"
    assert answer(without_her, cleo, at, agrees=False).state == "refused"
    assert sheet(duo, at + timedelta(days=7)) == {ada.pk: HALF, cleo.pk: HALF}


def test_who_came_into_the_sheet_after_a_proposal_is_asked_before_it_is_written(
    ada: Contributor, ben: Contributor, essays: Dataset, at: datetime
) -> None:
    [work] = register_works(dataset=essays, works=[people.text_work(1)], at=at)
    cleo = people.contributor("Cleo", at)
    alone = splits.propose_split_sheet(
        contributor=ada, work=work, parts={ada: HALF, ben: HALF}, effective_from=at, by=owner_of(ada), at=at
    )
    soon = at + timedelta(minutes=1)
    answer(propose(work.holder, ada, {ada: HALF, cleo: HALF}, at, effective_from=soon), cleo, at)
    later = at + timedelta(hours=1)
    assert answer(alone, ben, later).state == "open"
    assert sheet(work.holder, later) == {ada.pk: HALF, cleo.pk: HALF}
    assert answer(alone, cleo, later).state == "agreed"
    work.refresh_from_db()
    assert sheet(work.holder, later) == {ada.pk: HALF, ben.pk: HALF}


def test_a_contested_share_is_not_divided_away_without_who_contests_it(
    duo: Holder, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    cleo = people.contributor("Cleo", at)
    answer(propose(duo, ada, {ada: 1, cleo: PPB - 1}, at), cleo, at, agrees=False)
    splits.contest_share(holder=duo, claimant=cleo, against=ben, ppb=HALF, reason="mine", by=owner_of(cleo), at=at)
    away = propose(duo, ada, {ada: PPB}, at)
    assert answer(away, ben, at).state == "open"
    assert answer(away, cleo, at, agrees=False).state == "refused"


def test_the_database_keeps_proposals_and_answers(
    duo: Holder, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    proposal = propose(duo, ada, {ada: 1, ben: PPB - 1}, at)
    for change in (
        "UPDATE contributors_splitproposal SET state = 'agreed', closed_at = now()",
        "UPDATE contributors_splitproposalpart SET ppb = ppb + 1",
        "UPDATE contributors_splitproposalpart SET answer = 'waiting', answered_at = NULL WHERE answer = 'agreed'",
        "DELETE FROM contributors_splitproposalpart",
        "UPDATE contributors_splitproposal SET effective_from = now()",
    ):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change)
    SplitProposal.objects.create(
        holder=duo,
        work=None,
        effective_from=at,
        proposed_for=ada,
        proposed_by=owner_of(ada),
        proposed_at=at,
        state="withdrawn",
        closed_at=at,
    )
    with pytest.raises(DatabaseError, match="does not sum"), transaction.atomic():
        connection.check_constraints()
    assert proposal.state == "open"
    transaction.set_rollback(True)


def test_a_share_is_contested_as_far_as_it_goes(duo: Holder, ada: Contributor, ben: Contributor, at: datetime) -> None:
    def contest(ppb: int, *, claimant: Contributor = ada, against: Contributor = ben, reason: str = "mine") -> Any:
        return splits.contest_share(
            holder=duo, claimant=claimant, against=against, ppb=ppb, reason=reason, by=owner_of(claimant), at=at
        )

    for arguments, named in [
        ({"ppb": HALF + 1}, "Ben has 50 % that is not contested"),
        ({"ppb": 0}, "you claim 0 %"),
        ({"ppb": 5, "against": ada}, "Your own share"),
        ({"ppb": 5, "reason": " "}, "why the share is yours"),
        ({"ppb": 5, "claimant": people.contributor("Cleo", at)}, "never named"),
    ]:
        with pytest.raises(splits.UnableToContestShare, match=named):
            contest(**arguments)  # type: ignore[arg-type]
    assert not SplitDispute.objects.exists()
    contest(HALF)
    with pytest.raises(splits.UnableToContestShare, match="contest a share of Ben already"):
        contest(1)


# --- pages --------------------------------------------------------------------------------------------------------
def enter(contributor: Contributor) -> Client:
    client = Client(headers={"Host": "127.0.0.1"})
    client.force_login(owner_of(contributor), backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


def parts_form(*rows: tuple[str, str]) -> dict[str, str]:
    form = {"part-TOTAL_FORMS": str(len(rows)), "part-INITIAL_FORMS": "0", "effective_from": "", "note": "as we said"}
    for n, (name, share) in enumerate(rows):
        form |= {f"part-{n}-contributor": name, f"part-{n}-share": share}
    return form


def test_a_sheet_is_proposed_and_agreed_on_its_pages(duo: Holder, ada: Contributor, ben: Contributor) -> None:
    address = f"/portal/splits/{duo.public_id}/propose/"
    assert "50" in enter(ada).get(address).content.decode()
    wrong = enter(ada).post(address, parts_form(("Ada", "70"), ("Ben", "50")))
    assert wrong.status_code == 422
    assert "that is 20 % more than there is to divide" in wrong.content.decode()
    for rows, named in [
        ([("Nobody", "100")], "they have to register first"),
        ([("Ada", "50"), ("Ada", "50")], "stands there twice"),
        ([("Ada", "")], "Say how much is theirs"),
        ([("", "5")], "Name the owner of this share"),
        ([("Ada", "x")], "is no number"),
    ]:
        assert named in enter(ada).post(address, parts_form(*rows)).content.decode(), named
    assert enter(ada).post(address, parts_form(("Ada", "66.6666667"), ("Ben", "33.3333333"))).status_code == 302
    proposal = SplitProposal.objects.get()
    assert "Waits for your answer" in enter(ben).get("/portal/splits/").content.decode()
    enter(ben).post(f"/portal/splits/proposals/{proposal.public_id}/answer/", {"answer": "agree"})
    assert sheet(duo, now()) == {ada.pk: 666_666_667, ben.pk: 333_333_333}
    assert (
        "66.67" in enter(ben).get("/portal/splits/").content.decode()
        or "66.66" in enter(ben).get("/portal/splits/").content.decode()
    )


def test_nobody_sees_or_answers_the_sheets_of_others(
    duo: Holder, ada: Contributor, ben: Contributor, at: datetime
) -> None:
    cleo = people.contributor("Cleo", at)
    proposal = propose(duo, ada, {ada: 1, ben: PPB - 1}, at)
    client = enter(cleo)
    assert "Duo" not in client.get("/portal/splits/").content.decode()
    for address in (f"/portal/splits/{duo.public_id}/propose/", f"/portal/splits/{duo.public_id}/contest/"):
        assert client.get(address).status_code == 404
    assert client.post(f"/portal/splits/proposals/{proposal.public_id}/answer/", {"answer": "agree"}).status_code == 404


def test_a_share_is_contested_on_its_page(duo: Holder, ada: Contributor, ben: Contributor) -> None:
    address = f"/portal/splits/{duo.public_id}/contest/"
    form = {"against": str(ben.public_id), "share": "60", "reason": "I wrote it alone"}
    assert "Ben has 50 % that is not contested" in enter(ada).post(address, form).content.decode()
    assert enter(ada).post(address, {**form, "share": "25"}).status_code == 302
    assert "I wrote it alone" in enter(ben).get("/portal/splits/").content.decode()
