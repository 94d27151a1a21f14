"""Who made what, and what they allow.

Decides the nouns of the lowest layer. It knows nothing of models, generations or money.
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any, ClassVar

import pgtrigger
from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import F, Q
from django.utils.functional import cached_property

PPB = 1_000_000_000
STAFF_ROLES = ("finance_maker", "finance_checker", "compliance", "auditor", "admin")
"""The groups of the finance console, made by a migration."""


def uuid7() -> uuid.UUID:
    """A time-ordered UUID (RFC 9562, version 7): 48 bits of milliseconds, then 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


class UserManager(BaseUserManager["User"]):
    """Users log in by e-mail address; there is no user name."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """A person who logs in: for a contributor, for finance, or both."""

    username = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200, blank=True)
    # When staff roles were last given or taken after the registration: new ones move no money for a while.
    roles_changed_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.name or self.email

    def has_role(self, *roles: str) -> bool:
        """Whether the user is in one of the named staff groups. A superuser has no role by being one."""
        return self.is_active and not self.role_names.isdisjoint(roles)

    @cached_property
    def role_names(self) -> frozenset[str]:
        return frozenset(self.groups.values_list("name", flat=True))

    @property
    def is_staff_member(self) -> bool:
        """Whether the finance console has a page for the user."""
        return self.has_role(*STAFF_ROLES)


class Contributor(models.Model):
    """A person or organisation that earns royalties."""

    class Kind(models.TextChoices):
        PERSON = "person"
        ORGANISATION = "organisation"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    legal_name = models.CharField(max_length=200)
    display_name = models.CharField(max_length=200)
    country = models.CharField(max_length=2)
    currency = models.CharField(max_length=3, default="USD")
    public_profile = models.BooleanField(default=False)
    members = models.ManyToManyField(User, through="Membership", related_name="contributors")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(legal_name=""), name="contributor_has_a_legal_name"),
            models.CheckConstraint(condition=Q(country__regex="^[A-Z]{2}$"), name="contributor_country_is_iso_3166"),
            models.CheckConstraint(condition=Q(currency__regex="^[A-Z]{3}$"), name="contributor_currency_is_iso_4217"),
        ]

    def __str__(self) -> str:
        return self.display_name


class Membership(models.Model):
    """A user acts for a contributor."""

    class Role(models.TextChoices):
        OWNER = "owner"
        MANAGER = "manager"
        VIEWER = "viewer"

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="memberships")
    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role.choices)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "contributor"], name="a_user_is_a_member_of_a_contributor_once")
        ]

    def __str__(self) -> str:
        return f"{self.user} for {self.contributor} ({self.role})"


class Holder(models.Model):
    """One set of splits in force, often one contributor alone. Attribution pays holders; splits apply afterwards,
    in integers, so that a new split sheet rebuilds no index."""

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    label = models.CharField(max_length=200)
    created_by = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="holders")
    # Where a work goes whose registration names no holder.
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


class Dataset(models.Model):
    """A named set of works that one contributor registered under one licence."""

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    licence = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["contributor", "name"], name="a_contributor_names_a_dataset_once"),
            models.CheckConstraint(condition=~Q(name=""), name="dataset_has_a_name"),
        ]

    def __str__(self) -> str:
        return self.name


class DuplicateCluster(models.Model):
    """Works that are the same or nearly so, whoever registered them. Attribution splits a cluster's value."""

    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"cluster {self.pk}"


class Work(models.Model):
    """What somebody owns, consents to and is shown on a receipt: a whole address, a whole picture.

    The content lies in a file named by its digest (see `content_path`), never in the database.
    """

    class Modality(models.TextChoices):
        TEXT = "text"
        IMAGE = "image"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="works")
    holder = models.ForeignKey(Holder, on_delete=models.PROTECT, related_name="works")
    title = models.CharField(max_length=300)
    modality = models.CharField(max_length=5, choices=Modality.choices)
    sha256 = models.BinaryField(max_length=32)
    size_bytes = models.BigIntegerField()
    published_on = models.DateField(null=True, blank=True)
    # Text: the MinHash signature; image: the perceptual hash. Compared by contributors.operations.
    fingerprint = models.BinaryField(blank=True)
    cluster = models.ForeignKey(DuplicateCluster, on_delete=models.PROTECT, null=True, blank=True, related_name="works")
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["sha256"], name="work_sha256")]
        constraints = [
            models.UniqueConstraint(fields=["dataset", "sha256"], name="a_dataset_holds_a_content_once"),
            models.CheckConstraint(condition=Q(size_bytes__gt=0), name="work_is_not_empty"),
            models.CheckConstraint(condition=~Q(title=""), name="work_has_a_title"),
        ]
        triggers = [
            # A title may be corrected, a work may join a cluster; what it is, and whose, stays.
            pgtrigger.ReadOnly(
                name="a_work_keeps_its_content",
                fields=[
                    "public_id",
                    "dataset",
                    "modality",
                    "sha256",
                    "size_bytes",
                    "fingerprint",
                    "created_at",
                ],
            ),
            pgtrigger.Protect(name="a_work_is_never_deleted", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def content_path(self) -> str:
        """The content's path, relative to TRIBUTARY_DATA."""
        digest = bytes(self.sha256).hex()
        return f"works/{digest[:2]}/{digest}"


class FingerprintBand(models.Model):
    """A part of a work's fingerprint. Works that share one are compared; the index makes a full scan unnecessary."""

    work = models.ForeignKey(Work, on_delete=models.PROTECT, related_name="bands", db_index=False)
    key = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "work"], name="a_work_has_a_band_once")]
        triggers = [pgtrigger.Protect(name="a_band_never_changes", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"band {self.key} of {self.work}"


class DuplicatePair(models.Model):
    """Two works found to be the same (`exact`) or nearly so (`near`), the earlier one first."""

    class Kind(models.TextChoices):
        EXACT = "exact"
        NEAR = "near"

    first = models.ForeignKey(Work, on_delete=models.PROTECT, related_name="duplicates_after")
    second = models.ForeignKey(Work, on_delete=models.PROTECT, related_name="duplicates_before")
    kind = models.CharField(max_length=5, choices=Kind.choices)
    similarity_ppb = models.BigIntegerField()
    found_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["first", "second"], name="a_duplicate_pair_is_found_once"),
            models.CheckConstraint(condition=Q(first__lt=F("second")), name="a_duplicate_pair_is_ordered"),
            models.CheckConstraint(
                condition=Q(similarity_ppb__gte=0, similarity_ppb__lte=PPB), name="similarity_is_a_part_of_the_whole"
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="a_duplicate_pair_never_changes", operation=pgtrigger.Update | pgtrigger.Delete)
        ]

    def __str__(self) -> str:
        return f"{self.first} = {self.second} ({self.kind})"


class Consent(models.Model):
    """A dated statement of what may be done with a contributor's works. Append-only: a change is a new row.

    It speaks of all works of the contributor, of one dataset or of one work. Of the statements about the same target
    and scope the one that begins last holds (of two that begin together, the one recorded last), until it ends. Of the
    targets that a work belongs to, the most restrictive wins, and where nothing is said the answer is no.
    """

    class Scope(models.TextChoices):
        SEARCH = "search", "Search results"
        AI_INDEX = "ai_index", "Index of an AI search"
        AI_INPUT = "ai_input", "Source of an AI answer"
        TRAIN_GENERATIVE = "train_generative", "Training generative models"
        TRAIN_NON_GENERATIVE = "train_non_generative", "Training other models"
        FINE_TUNE = "fine_tune", "Fine-tuning"
        STYLE_OR_LIKENESS = "style_or_likeness", "Style or likeness"
        DATA_MINING = "data_mining", "Text and data mining"

    class Value(models.TextChoices):
        ALLOW = "allow", "Allowed"
        DENY = "deny", "Refused"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    contributor = models.ForeignKey(Contributor, on_delete=models.PROTECT, related_name="consents")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, null=True, blank=True, related_name="consents")
    work = models.ForeignKey(Work, on_delete=models.PROTECT, null=True, blank=True, related_name="consents")
    scope = models.CharField(max_length=24, choices=Scope.choices)
    value = models.CharField(max_length=5, choices=Value.choices)
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True, blank=True)
    recorded_at = models.DateTimeField()
    recorded_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    source = models.CharField(max_length=40)
    evidence_sha256 = models.BinaryField(max_length=32)

    class Meta:
        indexes = [models.Index(fields=["contributor", "scope", "valid_from"], name="consent_in_time")]
        constraints = [
            models.CheckConstraint(
                condition=Q(valid_to__isnull=True) | Q(valid_to__gt=F("valid_from")),
                name="consent_ends_after_it_begins",
            ),
            models.CheckConstraint(
                condition=Q(dataset__isnull=True) | Q(work__isnull=True), name="consent_speaks_of_one_thing"
            ),
            models.CheckConstraint(
                condition=Q(value="allow") | Q(valid_from__gte=F("recorded_at")), name="a_refusal_is_not_backdated"
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="a_consent_never_changes", operation=pgtrigger.Update | pgtrigger.Delete),
            pgtrigger.Trigger(
                name="a_consent_speaks_of_own_works",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func="""
                    IF NEW.contributor_id <> COALESCE(
                        (SELECT contributor_id FROM contributors_dataset WHERE id = NEW.dataset_id),
                        (SELECT d.contributor_id FROM contributors_work w
                            JOIN contributors_dataset d ON d.id = w.dataset_id WHERE w.id = NEW.work_id),
                        NEW.contributor_id)
                    THEN
                        RAISE EXCEPTION 'the consent speaks of works of another contributor'
                            USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.value} {self.scope} from {self.valid_from:%Y-%m-%d}"


class SplitProposal(models.Model):
    """A new split sheet that each co-author has to agree to. It becomes Split rows when the last one does."""

    # open -> agreed (the sheet is written) | refused (by one of them) | withdrawn (by who proposed it)
    class State(models.TextChoices):
        OPEN = "open"
        AGREED = "agreed"
        REFUSED = "refused"
        WITHDRAWN = "withdrawn"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    holder = models.ForeignKey(Holder, on_delete=models.PROTECT, related_name="proposals")
    # Set where one work leaves its holder for one of its own, made when all agreed.
    work = models.ForeignKey(Work, on_delete=models.PROTECT, null=True, blank=True, related_name="split_proposals")
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
    """A co-author claims a part of another's share. While it is open, what that part earns is put on hold."""

    # open -> upheld (what was held goes to who claimed it) | declined (to whom it was split to) | withdrawn
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
                fields=["holder", "claimant", "against"], condition=Q(state="open"),
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
        ]  # fmt: skip
        triggers = [
            pgtrigger.Protect(name="a_contest_is_never_deleted", operation=pgtrigger.Delete),
            pgtrigger.ReadOnly(
                name="a_contest_keeps_its_claim",
                fields=["holder", "claimant", "against", "ppb", "reason", "raised_by", "raised_at"],
            ),
            pgtrigger.Protect(
                name="a_decided_contest_stands", operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state__df="open"),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.claimant} claims {self.ppb} ppb of {self.holder} from {self.against}"

    @property
    def account(self) -> str:
        """How accounts name what is contested: no contract has a code like it."""
        return f"dispute:{self.pk}"
