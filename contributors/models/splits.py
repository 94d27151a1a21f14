"""The division of joint earnings: split sheets in force, proposed sheets, and disputed shares."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import F, Q

from contributors.models.people import PPB, Contributor
from people.models import User, uuid7


class Holder(models.Model):
    """One set of splits in force, often one contributor alone. Attribution pays holders; splits apply afterwards,
    in integers, so that a new split sheet rebuilds no index."""

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    label = models.CharField(max_length=200)
    created_by = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="holders")
    # The holder of works with a registration that names no holder.
    is_default = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["created_by"], condition=Q(is_default=True), name="a_contributor_has_one_default_holder"
            )
        ]
        triggers = [
            pgtrigger.Trigger(
                name="a_holder_has_a_split_sheet",
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                timing=pgtrigger.Deferred,
                func="""
                    IF NOT EXISTS (SELECT FROM contributors_split WHERE holder_id = NEW.id) THEN
                        RAISE EXCEPTION 'holder % has no split sheet', NEW.id USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return self.label


class Split(models.Model):
    """One contributor's part of a holder from a date on. The parts of one date sum to 10^9 (constraint trigger)."""

    holder = models.ForeignKey(Holder, on_delete=models.PROTECT, related_name="splits")
    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="splits")
    ppb = models.BigIntegerField()
    effective_from = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["holder", "effective_from", "contributor"], name="a_split_sheet_names_a_contributor_once"
            ),
            models.CheckConstraint(condition=Q(ppb__gt=0, ppb__lte=PPB), name="split_is_a_positive_part_of_the_whole"),
        ]
        triggers = [
            pgtrigger.Protect(name="a_split_never_changes", operation=pgtrigger.Update | pgtrigger.Delete),
            pgtrigger.Trigger(
                name="a_split_sheet_sums_to_the_whole",
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                timing=pgtrigger.Deferred,
                func=f"""
                    IF (SELECT sum(ppb) FROM contributors_split
                        WHERE holder_id = NEW.holder_id AND effective_from = NEW.effective_from) <> {PPB} THEN
                        RAISE EXCEPTION 'the split sheet of holder % from % does not sum to {PPB}',
                            NEW.holder_id, NEW.effective_from USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contributor}: {self.ppb} ppb of {self.holder}"


class SplitProposal(models.Model):
    """A new split sheet that each co-author has to agree to. It becomes Split rows when the last one does."""

    # open -> agreed (the sheet is written) | refused (by one of them) | withdrawn (by its proposer)
    class State(models.TextChoices):
        OPEN = "open"
        AGREED = "agreed"
        REFUSED = "refused"
        WITHDRAWN = "withdrawn"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    holder = models.ForeignKey(Holder, on_delete=models.PROTECT, related_name="proposals")
    # Set where one work leaves its holder for one of its own, made when all agreed.
    work = models.ForeignKey(
        "contributors.Work", on_delete=models.PROTECT, null=True, blank=True, related_name="split_proposals"
    )
    effective_from = models.DateTimeField()
    note = models.CharField(max_length=300, blank=True)
    proposed_for = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="+")
    proposed_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.OPEN)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["holder"], condition=Q(state="open", work__isnull=True), name="a_holder_has_one_open_proposal"
            ),
            models.UniqueConstraint(fields=["work"], condition=Q(state="open"), name="a_work_has_one_open_proposal"),
            models.CheckConstraint(
                condition=Q(state="open", closed_at__isnull=True) | ~Q(state="open") & Q(closed_at__isnull=False),
                name="a_closed_proposal_says_when",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="a_proposal_is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="a_closed_proposal_stands",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state__df="open"),
            ),
            pgtrigger.ReadOnly(
                name="a_proposal_keeps_its_terms", fields=["holder", "work", "effective_from", "proposed_for"]
            ),
            pgtrigger.Trigger(
                name="a_proposal_sums_to_the_whole",
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                timing=pgtrigger.Deferred,
                func=f"""
                    IF (SELECT sum(ppb) FROM contributors_splitproposalpart WHERE proposal_id = NEW.id)
                        IS DISTINCT FROM {PPB} THEN
                        RAISE EXCEPTION 'split proposal % does not sum to {PPB}', NEW.id
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NULL;
                """,
            ),
            pgtrigger.Trigger(
                name="a_proposal_is_agreed_by_all",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                func="""
                    IF NEW.state = 'agreed' AND EXISTS (SELECT FROM contributors_splitproposalpart
                        WHERE proposal_id = NEW.id AND answer <> 'agreed') THEN
                        RAISE EXCEPTION 'split proposal % is not agreed by all', NEW.id
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"proposal for {self.work or self.holder}"


class SplitProposalPart(models.Model):
    """One co-author of a proposal, with the part proposed (0: leaves the sheet) and their answer."""

    # waiting -> agreed | refused
    class Answer(models.TextChoices):
        WAITING = "waiting"
        AGREED = "agreed"
        REFUSED = "refused"

    proposal = models.ForeignKey(SplitProposal, on_delete=models.PROTECT, related_name="parts")
    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="split_proposal_parts")
    ppb = models.BigIntegerField()
    answer = models.CharField(max_length=7, choices=Answer.choices, default=Answer.WAITING)
    answered_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["proposal", "contributor"], name="a_proposal_names_a_contributor_once"),
            models.CheckConstraint(
                condition=Q(ppb__gte=0, ppb__lte=PPB), name="a_proposed_part_is_a_part_of_the_whole"
            ),
            models.CheckConstraint(
                condition=Q(answer="waiting", answered_at__isnull=True)
                | ~Q(answer="waiting") & Q(answered_at__isnull=False, answered_by__isnull=False),
                name="an_answer_says_by_whom_and_when",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="a_proposed_part_is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(name="a_proposed_part_keeps_its_share", fields=["proposal", "contributor", "ppb"]),
            pgtrigger.Protect(
                name="an_answer_stands", operation=pgtrigger.Update, condition=pgtrigger.Q(old__answer__df="waiting")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contributor}: {self.ppb} ppb, {self.answer}"


class SplitDispute(models.Model):
    """A co-author claims a part of another's share. While it is open, the earnings of that part are put on hold."""

    # open -> upheld (the held money goes to the claimant) | declined (to the payees of the split) | withdrawn
    class State(models.TextChoices):
        OPEN = "open"
        UPHELD = "upheld"
        DECLINED = "declined"
        WITHDRAWN = "withdrawn"

    holder = models.ForeignKey(Holder, on_delete=models.PROTECT, related_name="disputes")
    claimant = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="split_claims")
    against = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="contested_splits")
    # Of the whole holder, in parts per billion.
    ppb = models.BigIntegerField()
    reason = models.CharField(max_length=1000)
    raised_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    raised_at = models.DateTimeField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.OPEN)
    answer = models.CharField(max_length=1000, blank=True)
    decided_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["holder", "claimant", "against"],
                condition=Q(state="open"),
                name="a_share_is_contested_once_by_each",
            ),
            models.CheckConstraint(
                condition=Q(ppb__gt=0, ppb__lte=PPB), name="a_contested_part_is_a_part_of_the_whole"
            ),
            models.CheckConstraint(condition=~Q(claimant=F("against")), name="nobody_contests_their_own_share"),
            models.CheckConstraint(condition=~Q(reason=""), name="a_contested_share_has_a_reason"),
            models.CheckConstraint(
                condition=Q(state="open", decided_at__isnull=True)
                | ~Q(state="open") & Q(decided_at__isnull=False, decided_by__isnull=False),
                name="a_decided_contest_says_by_whom_and_when",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["open", "withdrawn"]) | ~Q(decided_by=F("raised_by")),
                name="a_contest_is_decided_by_somebody_else",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="a_contest_is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="a_contest_keeps_its_claim",
                fields=["holder", "claimant", "against", "ppb", "reason", "raised_by", "raised_at"],
            ),
            pgtrigger.Protect(
                name="a_decided_contest_stands",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state__df="open"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.claimant} claims {self.ppb} ppb of {self.holder} from {self.against}"

    @property
    def account(self) -> str:
        """The name of the disputed part in accounts: no contract has a code like it."""
        return f"dispute:{self.pk}"
