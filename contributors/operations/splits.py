"""Split sheets between co-authors: one proposes, each agrees, then it takes effect; a share may be contested.

Every co-author of the sheet in force has a say, also one that would leave it, and so has the claimant of a disputed
share. Nobody's share is changed without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction

from contributors.models import PPB, Contributor, Holder, Split, SplitDispute, SplitProposal, SplitProposalPart, Work
from contributors.queries.people import manages
from contributors.queries.splits import split_of
from people.models import User
from people.presentation import percent

PARTS_MAX = 50


class UnableToProposeSplit(Exception):
    """The parts make no sheet, or the proposer has no part in the works."""

    status = 422
    problem = "split-proposal-refused"


class UnableToAnswerSplit(Exception):
    """The proposal is closed, answered already, or asks nothing of this contributor."""

    status = 409
    problem = "split-proposal-not-answerable"


class UnableToContestShare(Exception):
    """The claim is larger than the share, or the share is the claimant's own."""

    status = 422
    problem = "share-not-contestable"


def _require_manager(by: User, contributor: Contributor, refusal: type[Exception]) -> None:
    if not manages(by, contributor):
        raise refusal(f"{by} does not act for {contributor}.")


def _sheet(holder: Holder, at: datetime) -> dict[int, int]:
    return dict(split_of([holder.pk], at)[holder.pk])


def _with_a_say(holder: Holder, at: datetime) -> set[int]:
    """The contributors that have to agree to another sheet. These are the co-authors of the one in force and of those
    that begin later, and the claimants of a share, so that nobody divides away a disputed or promised part.
    """
    coming = holder.splits.filter(effective_from__gt=at).values_list("contributor_id", flat=True)
    claims = SplitDispute.objects.filter(holder=holder, state=SplitDispute.State.OPEN)
    return {*_sheet(holder, at), *coming, *claims.values_list("claimant_id", flat=True)}


@transaction.atomic
def propose_split_sheet(
    *,
    contributor: Contributor,
    parts: Mapping[Contributor, int],
    effective_from: datetime,
    by: User,
    at: datetime,
    holder: Holder | None = None,
    work: Work | None = None,
    note: str = "",
) -> SplitProposal:
    """Propose the division of a holder's earnings from a date on, in parts per billion that sum exactly to 10^9.

    With `work` instead of `holder`, the work alone gets a holder of its own with this sheet. The proposer agrees by
    proposing; the sheet is written when the last of the others has agreed.
    """
    _require_manager(by, contributor, UnableToProposeSplit)
    owner = work.holder if work is not None else holder
    if owner is None or (work is not None and holder is not None):
        raise UnableToProposeSplit("A proposal is for one holder or one work.")
    owner = Holder.objects.select_for_update(no_key=True).get(pk=owner.pk)
    current = _sheet(owner, at)
    if contributor.pk not in current:
        raise UnableToProposeSplit(f"{contributor} has no part in “{owner}”.")
    _check_parts(parts)
    if effective_from < at:
        raise UnableToProposeSplit(f"A sheet cannot begin in the past ({effective_from:%Y-%m-%d %H:%M} UTC).")
    open_ones = SplitProposal.objects.filter(state=SplitProposal.State.OPEN)
    if (open_ones.filter(work=work) if work else open_ones.filter(holder=owner, work=None)).exists():
        raise UnableToProposeSplit("Another proposal waits for its answers; it has to be answered or taken back first.")
    proposal = SplitProposal.objects.create(
        holder=owner,
        work=work,
        effective_from=effective_from,
        note=note.strip()[:300],
        proposed_for=contributor,
        proposed_by=by,
        proposed_at=at,
    )
    asked = dict.fromkeys(_with_a_say(owner, at), 0) | {c.pk: ppb for c, ppb in parts.items()}
    SplitProposalPart.objects.bulk_create(
        SplitProposalPart(proposal=proposal, contributor_id=pk, ppb=ppb) for pk, ppb in asked.items()
    )
    return _answer(proposal, contributor, SplitProposalPart.Answer.AGREED, by, at)


def _check_parts(parts: Mapping[Contributor, int]) -> None:
    if not 1 <= len(parts) <= PARTS_MAX:
        raise UnableToProposeSplit(f"A sheet names 1 to {PARTS_MAX} co-authors, not {len(parts)}.")
    if wrong := [str(contributor) for contributor, ppb in parts.items() if ppb <= 0]:
        raise UnableToProposeSplit(f"Every part is above zero; leave out {', '.join(wrong)}.")
    total = sum(parts.values())
    if total > PPB:
        raise UnableToProposeSplit(
            f"The parts sum to {percent.text(total)}; that is {percent.text(total - PPB)} more than there is to divide."
        )
    if total < PPB:
        raise UnableToProposeSplit(
            f"The parts sum to {percent.text(total)}; {percent.text(PPB - total)} would belong to nobody."
        )


@transaction.atomic
def answer_split_sheet(
    *, proposal: SplitProposal, contributor: Contributor, agrees: bool, by: User, at: datetime
) -> SplitProposal:
    """Say yes or no for one co-author. The last yes writes the sheet, from its date on or, if that is past, from now;
    one no ends the proposal, and the sheet in force stays."""
    _require_manager(by, contributor, UnableToAnswerSplit)
    answer = SplitProposalPart.Answer.AGREED if agrees else SplitProposalPart.Answer.REFUSED
    return _answer(_locked(proposal), contributor, answer, by, at)


@transaction.atomic
def withdraw_split_proposal(
    *, proposal: SplitProposal, contributor: Contributor, by: User, at: datetime
) -> SplitProposal:
    """Take a proposal back, as its proposer. Raises UnableToAnswerSplit to anybody else, and once it is closed."""
    _require_manager(by, contributor, UnableToAnswerSplit)
    fresh = _locked(proposal)
    if fresh.proposed_for_id != contributor.pk:
        raise UnableToAnswerSplit("Only the proposer of a sheet takes it back; you can refuse it.")
    return _close(fresh, SplitProposal.State.WITHDRAWN, at)


def _locked(proposal: SplitProposal) -> SplitProposal:
    Holder.objects.select_for_update(no_key=True).get(pk=proposal.holder_id)
    fresh = SplitProposal.objects.select_for_update(no_key=True).get(pk=proposal.pk)
    if fresh.state != SplitProposal.State.OPEN:
        raise UnableToAnswerSplit(f"The proposal is {fresh.state} already.")
    return fresh


def _answer(proposal: SplitProposal, contributor: Contributor, answer: str, by: User, at: datetime) -> SplitProposal:
    part = proposal.parts.filter(contributor=contributor).first()
    if part is None:
        raise UnableToAnswerSplit(f"The proposal asks nothing of {contributor}.")
    if part.answer != SplitProposalPart.Answer.WAITING:
        raise UnableToAnswerSplit(f"{contributor} has {part.answer} already.")
    part.answer, part.answered_by, part.answered_at = answer, by, at
    part.save(update_fields=["answer", "answered_by", "answered_at"])
    if answer == SplitProposalPart.Answer.REFUSED:
        return _close(proposal, SplitProposal.State.REFUSED, at)
    # Since it was proposed, another sheet may have been agreed or a share disputed: the new parties are asked too.
    named = set(proposal.parts.values_list("contributor_id", flat=True))
    SplitProposalPart.objects.bulk_create(
        SplitProposalPart(proposal=proposal, contributor_id=pk, ppb=0)
        for pk in sorted(_with_a_say(proposal.holder, at) - named)
    )
    if proposal.parts.exclude(answer=SplitProposalPart.Answer.AGREED).exists():
        return proposal
    _write(proposal, at)
    return _close(proposal, SplitProposal.State.AGREED, at)


def _write(proposal: SplitProposal, at: datetime) -> None:
    begins = max(proposal.effective_from, at)
    holder = proposal.holder
    if proposal.work is not None:
        holder = Holder.objects.create(
            label=proposal.work.title[:200], created_by=proposal.work.dataset.contributor, created_at=at
        )
        Work.objects.filter(pk=proposal.work.pk).update(holder=holder)
        # Until the sheet begins the work is divided as it was: an index built meanwhile, or a month restated later,
        # names the new holder for the days before it too.
        Split.objects.bulk_create(
            Split(holder=holder, contributor_id=old.contributor_id, ppb=old.ppb, effective_from=old.effective_from)
            for old in proposal.holder.splits.filter(effective_from__lt=begins)
        )
    elif holder.splits.filter(effective_from=begins).exists():
        raise UnableToAnswerSplit(f"{holder} already has a split sheet from {begins:%Y-%m-%d %H:%M} UTC.")
    Split.objects.bulk_create(
        Split(holder=holder, contributor_id=part.contributor_id, ppb=part.ppb, effective_from=begins)
        for part in proposal.parts.filter(ppb__gt=0)
    )


def _close(proposal: SplitProposal, state: SplitProposal.State, at: datetime) -> SplitProposal:
    proposal.state, proposal.closed_at = state, at
    proposal.save(update_fields=["state", "closed_at"])
    return proposal


# --- contested shares ---------------------------------------------------------------------------------------------
@transaction.atomic
def contest_share(
    *, holder: Holder, claimant: Contributor, against: Contributor, ppb: int, reason: str, by: User, at: datetime
) -> SplitDispute:
    """Claim `ppb` parts per billion of a co-author's share. From now on its earnings are put on hold until staff
    decide.

    Raises UnableToContestShare without a reason, for more than the undisputed part, and to a stranger to the sheet.
    """
    _require_manager(by, claimant, UnableToContestShare)
    Holder.objects.select_for_update(no_key=True).get(pk=holder.pk)
    if not reason.strip() or len(reason) > 1000:
        raise UnableToContestShare("Say in 1 to 1,000 characters why the share is yours.")
    sheet = _sheet(holder, at)
    if claimant.pk == against.pk:
        raise UnableToContestShare("Your own share cannot be contested by you; propose another sheet.")
    if (
        claimant.pk not in sheet
        and not SplitProposalPart.objects.filter(proposal__holder=holder, contributor=claimant).exists()
    ):
        raise UnableToContestShare(f"{claimant} was never named in a sheet of “{holder}”.")
    open_ones = SplitDispute.objects.filter(holder=holder, against=against, state=SplitDispute.State.OPEN)
    if open_ones.filter(claimant=claimant).exists():
        raise UnableToContestShare(f"You contest a share of {against} already; it is not decided yet.")
    left = sheet.get(against.pk, 0) - sum(dispute.ppb for dispute in open_ones)
    if not 0 < ppb <= left:
        raise UnableToContestShare(
            f"{against} has {percent.text(max(0, left))} that is not contested; you claim {percent.text(ppb)}."
        )
    return SplitDispute.objects.create(
        holder=holder, claimant=claimant, against=against, ppb=ppb, reason=reason.strip(), raised_by=by, raised_at=at
    )


@transaction.atomic
def close_contest(*, dispute: SplitDispute, state: str, answer: str, by: User, at: datetime) -> SplitDispute:
    """Write the decision down. The layer that keeps the money calls this with the entry that gives it out.

    Raises UnableToContestShare where it is closed already, and to the claimant for anything but a withdrawal.
    """
    fresh = SplitDispute.objects.select_for_update(no_key=True).get(pk=dispute.pk)
    if fresh.state != SplitDispute.State.OPEN:
        raise UnableToContestShare(f"It is {fresh.state} already.")
    if fresh.raised_by_id == by.pk and state != SplitDispute.State.WITHDRAWN:
        raise UnableToContestShare("An ownership dispute is decided by somebody other than its claimant.")
    fresh.state, fresh.answer, fresh.decided_by, fresh.decided_at = state, answer.strip(), by, at
    fresh.save(update_fields=["state", "answer", "decided_by", "decided_at"])
    return fresh
