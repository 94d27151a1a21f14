"""Attribution indexes, their build steps, revisions and removals of works."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from attribution.models.fields import PlainArrayField
from attribution.models.model_versions import ModelVersion
from contributors.models import PPB
from people.models import uuid7


class AttributionIndex(models.Model):
    """The index of one model version under one configuration, and the evaluation that measures its quality."""

    # building -> built -> audited | failed; audited <-> failed when audited again; each of them -> retired.
    # Only an audited index moves money by attribution; under any other, weight_ppb is 0.
    class State(models.TextChoices):
        BUILDING = "building"
        BUILT = "built"
        AUDITED = "audited"
        FAILED = "failed"
        RETIRED = "retired"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "building": {"built", "retired"},
        "built": {"audited", "failed", "retired"},
        "audited": {"failed", "retired"},
        "failed": {"audited", "retired"},
        "retired": set(),
    }

    # Rows that attribute generations: the query of `settles`.
    SETTLES: ClassVar[Q] = Q(state__in=["audited", "failed"]) | Q(base_pool_at__isnull=False)

    class Attributor(models.TextChoices):
        """The method that makes the scores (influence/scorers/). Chosen by the configuration."""

        MIDPOINT = "midpoint", "Influence by gradients"
        LEXICAL = "lexical", "Similarity of wording"
        HYBRID = "hybrid", "Influence and similarity of wording"
        ENCODER = "encoder", "Similarity of embeddings"
        PUSHED = "pushed", "Features that the service reports"

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="indexes")
    attributor = models.CharField(max_length=10, choices=Attributor.choices, default=Attributor.MIDPOINT)
    # How the attributor worked in the end: the midpoint's is plain influence where the initial checkpoint is unknown.
    method = models.CharField(max_length=20, default="midpoint")
    config = models.JSONField(default=dict)
    config_sha256 = models.BinaryField(max_length=32)
    sha256 = models.BinaryField(max_length=32, null=True, blank=True)
    # Ensemble members and numbers of each: the shape of features that a service reports. Null: it takes none.
    feature_shape = ArrayField(models.IntegerField(), size=2, null=True, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.BUILDING)
    audit = models.JSONField(null=True, blank=True)
    weight_ppb = models.BigIntegerField(default=0)
    # A score below this many standard errors earns nothing: its part is unattributed.
    noise_z = models.FloatField(default=2.0)
    # The rule of shares of its generations (influence/paid_items.py has rule 2). One that was built before rule 2 keeps
    # rule 1, so that its receipts stay as they are.
    rule = models.SmallIntegerField(default=1)
    # Rule 2: as many items can be paid for one generation; its evaluation chooses the number.
    items_paid = models.IntegerField(default=100)
    # True if it attributes new generations. The first index serves from the day it is built. A later one takes over
    # when it passes its evaluation; one that failed goes on serving, at weight 0, until then.
    serving = models.BooleanField(default=False)
    # When two people decided that its generations are paid by the base pool, although it is not evaluated. Without
    # that, generations wait for the evaluation.
    base_pool_at = models.DateTimeField(null=True, blank=True)
    # Changes with every revision; `sha256` is the manifest's of the current one.
    revision = models.IntegerField(default=1)
    # Fit of its basis to its items (influence.index.reader.Condition): counts, captured energy, reasons to refit.
    condition = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    # When it was handed to the workers; null for an index that its caller builds itself.
    queued_at = models.DateTimeField(null=True, blank=True)
    audited_at = models.DateTimeField(null=True, blank=True)
    # While an audit waits for the workers or is made by them; and why the last one that was queued failed.
    audit_queued_at = models.DateTimeField(null=True, blank=True)
    audit_error = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model_version"], condition=Q(serving=True), name="one_index_serves_a_model_version"
            ),
            models.UniqueConstraint(
                fields=["model_version", "config_sha256"],
                condition=~Q(state="retired"),
                name="a_configuration_is_indexed_once",
            ),
            models.CheckConstraint(
                condition=Q(serving=False) | Q(state__in=["built", "audited", "failed"]),
                name="a_serving_index_is_built",
            ),
            models.CheckConstraint(
                condition=Q(attributor__in=["midpoint", "lexical", "hybrid", "encoder", "pushed"]),
                name="an_index_has_an_attributor_that_exists",
            ),
            models.CheckConstraint(condition=Q(noise_z__gte=0), name="noise_floor_is_not_negative"),
            models.CheckConstraint(condition=Q(rule__in=[1, 2]), name="an_index_has_a_rule_of_shares"),
            models.CheckConstraint(
                condition=Q(items_paid__gte=1, items_paid__lte=1_000), name="an_index_pays_1_to_1000_items"
            ),
            models.CheckConstraint(
                condition=Q(state="building") | Q(state="retired") | Q(sha256__isnull=False),
                name="a_built_index_has_a_digest",
            ),
            models.CheckConstraint(
                condition=Q(weight_ppb__gte=0, weight_ppb__lte=PPB), name="index_weight_is_a_part_of_the_whole"
            ),
            models.CheckConstraint(
                condition=Q(weight_ppb=0) | Q(state__in=["audited", "retired"]), name="only_an_audited_index_has_weight"
            ),
            models.CheckConstraint(
                condition=Q(audit_queued_at__isnull=True) | ~Q(state="building"),
                name="only_a_built_index_is_queued_for_its_audit",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.method} of {self.model_version}"

    @property
    def is_evaluated(self) -> bool:
        return self.state in {self.State.AUDITED, self.State.FAILED}

    @property
    def settles(self) -> bool:
        """True if it attributes generations. Until it is evaluated they wait, unless two people decided otherwise."""
        return self.is_evaluated or self.base_pool_at is not None

    @property
    def method_words(self) -> str:
        """Name its scores for readers. Only scores that follow the model's training are called influence."""
        if self.attributor == self.Attributor.PUSHED:
            claim = "as influence" if self.measures_influence else "as similarity, not influence"
            return f"Features that the service computed, {claim}"
        words = {
            "midpoint": "Midpoint Shapley influence",
            "path": f"Shapley influence at {len(self.config.get('nodes', ()))} points of the path",
            "influence": "Plain influence, the initial checkpoint being unknown",
            "lexical": "Similarity of wording, not influence",
            "encoder": "Similarity of embeddings, not influence",
            "hybrid": "Midpoint Shapley influence with similarity of wording",
        }
        return words.get(self.method, self.get_attributor_display())

    @property
    def measures_influence(self) -> bool:
        """True if its scores come, at least in part, from the model's gradients (or a service says that they do)."""
        if self.attributor == self.Attributor.PUSHED:
            return self.method == "influence"
        return self.attributor in {self.Attributor.MIDPOINT, self.Attributor.HYBRID}

    @property
    def directory(self) -> str:
        """The index's directory, relative to TRIBUTARY_DATA."""
        return f"indexes/{self.public_id}"


class BuildStep(models.Model):
    """One step of a build that workers share (influence/index/build.py). Files tell whether it is done. A worker claims
    this row by an advisory lock on it, and the console shows it."""

    # A step that failed so often waits for a person.
    FAILURES_MAX: ClassVar[int] = 3

    index = models.ForeignKey(AttributionIndex, on_delete=models.CASCADE, related_name="steps")
    # Every stage needs those before it; the last one, `assemble`, makes the index usable.
    position = models.SmallIntegerField()
    stage = models.CharField(max_length=20)
    member = models.IntegerField(default=0)
    part = models.IntegerField(default=0)
    failures = models.IntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["index", "position"], condition=Q(done_at__isnull=True), name="build_step_to_do")
        ]
        constraints = [
            models.UniqueConstraint(fields=["index", "stage", "member", "part"], name="a_build_has_a_step_once")
        ]

    def __str__(self) -> str:
        return f"{self.stage} {self.member}/{self.part} of {self.index}"


class IndexRevision(models.Model):
    """A state of an index: the works taken out or put in since the state before. Append-only.

    A work that changed its holder is both: taken out of the old holder and put in for the new one.

    An attribution keeps the revision that made it; its files stay, so that it can be opened as it was.
    """

    index = models.ForeignKey(AttributionIndex, on_delete=models.PROTECT, related_name="revisions")
    revision = models.IntegerField()
    sha256 = models.BinaryField(max_length=32)
    removed_work_ids = PlainArrayField(models.BigIntegerField(), default=list)
    added_work_ids = PlainArrayField(models.BigIntegerField(), default=list)
    # The agreed proposals by which works that it put in had come to their holders.
    followed_proposal_ids = PlainArrayField(models.BigIntegerField(), default=list)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["index", "revision"], name="an_index_has_a_revision_once"),
            models.CheckConstraint(condition=Q(revision__gt=0), name="index_revision_is_positive"),
        ]

    def __str__(self) -> str:
        return f"revision {self.revision} of {self.index}"


class WorkRemoval(models.Model):
    """A work that no longer counts in the indexes of a model version, although the model was trained on it."""

    class Reason(models.TextChoices):
        CONSENT = "consent", "Consent withdrawn"
        UNLEARNED = "unlearned", "The model no longer draws on it"
        CLAIM = "claim", "Another holder's claim"

    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="removals")
    work = models.ForeignKey("contributors.Work", on_delete=models.PROTECT, related_name="removals")
    reason = models.CharField(max_length=10, choices=Reason.choices)
    removed_at = models.DateTimeField()
    restored_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model_version", "work"],
                condition=Q(restored_at__isnull=True),
                name="a_work_is_removed_from_a_model_version_once",
            ),
            models.CheckConstraint(
                condition=Q(reason__in=["consent", "unlearned", "claim"]), name="a_removal_has_a_reason"
            ),
            models.CheckConstraint(
                condition=Q(restored_at__isnull=True) | Q(restored_at__gte=F("removed_at")),
                name="a_removal_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.work} removed from {self.model_version}"
