"""Which contributors a generation drew on: services, models, manifests, indexes, generations, attributions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from contributors.models import PPB, uuid7


class RealField(models.FloatField):  # type: ignore[type-arg]
    """A float4: the precision at which scores are stored, and from which shares are made."""

    def db_type(self, connection: Any) -> str:
        return "real"


class PlainArrayField(ArrayField):  # type: ignore[type-arg]
    """An array of numbers that the driver takes as they are: converting them one by one takes a third of a report."""

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return value


class ModelService(models.Model):
    """An API caller: something that runs models and reports what they generate."""

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    name = models.CharField(max_length=100, unique=True)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class ServiceKeyQuerySet(models.QuerySet["ServiceKey"]):
    def in_force(self, at: datetime) -> ServiceKeyQuerySet:
        """Keys that prove something at `at`."""
        not_ended = Q(expires_at__isnull=True) | Q(expires_at__gt=at)
        not_revoked = Q(revoked_at__isnull=True) | Q(revoked_at__gt=at)
        return self.filter(not_ended, not_revoked)


class ServiceKey(models.Model):
    """A service's credential. Shown once; only its digest is stored, and that never changes (trigger)."""

    class Scope(models.TextChoices):
        GENERATIONS_WRITE = "generations:write"
        GENERATIONS_READ = "generations:read"
        MODELS_WRITE = "models:write"
        FEATURES_WRITE = "features:write"

    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="keys")
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.BinaryField(max_length=32)
    scopes = ArrayField(models.CharField(max_length=24, choices=Scope.choices))
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    # The key that this one took over from when it was rotated.
    replaces = models.OneToOneField("self", on_delete=models.PROTECT, null=True, blank=True, related_name="replaced_by")
    issued_by = models.ForeignKey(
        "contributors.User", on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    objects = ServiceKeyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(scopes__len__gt=0), name="service_key_has_a_scope"),
            models.CheckConstraint(
                condition=Q(expires_at__isnull=True) | Q(expires_at__gte=F("created_at")),
                name="service_key_ends_after_it_begins",
            ),
        ]

    def __str__(self) -> str:
        return self.prefix

    def in_force(self, at: datetime) -> bool:
        return not (self.expires_at and self.expires_at <= at) and not (self.revoked_at and self.revoked_at <= at)


class ModelVersion(models.Model):
    """One trained checkpoint of a service's model, with what is needed to load it again."""

    # registered -> ready (its manifest is stored) -> retired; registered -> retired
    class State(models.TextChoices):
        REGISTERED = "registered"
        READY = "ready"
        RETIRED = "retired"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "registered": {"ready", "retired"},
        "ready": {"retired"},
        "retired": set(),
    }

    public_id = models.UUIDField(default=uuid7, unique=True, editable=False)
    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="model_versions")
    name = models.CharField(max_length=100)
    adapter = models.CharField(max_length=40)
    factory = models.CharField(max_length=40)
    config = models.JSONField(default=dict)
    # The directory models/<hex of this digest>/ under TRIBUTARY_DATA; the digest covers every file in it.
    checkpoint_sha256 = models.BinaryField(max_length=32)
    initial_sha256 = models.BinaryField(max_length=32, null=True, blank=True)
    trained_at = models.DateTimeField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.REGISTERED)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["service", "name"], name="a_service_names_a_model_version_once"),
            models.CheckConstraint(condition=~Q(name=""), name="model_version_has_a_name"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def directory(self) -> str:
        """The model's directory, relative to TRIBUTARY_DATA."""
        return f"models/{bytes(self.checkpoint_sha256).hex()}"


class TrainingManifest(models.Model):
    """Exactly what a model version was trained on."""

    model_version = models.OneToOneField(ModelVersion, on_delete=models.PROTECT, related_name="manifest")
    sha256 = models.BinaryField(max_length=32)
    n_items = models.IntegerField()
    n_works = models.IntegerField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(n_items__gt=0), name="manifest_has_items")]

    def __str__(self) -> str:
        return f"manifest of {self.model_version}"


class ManifestWork(models.Model):
    """A work of a manifest with the consent that allowed its use when the model was trained."""

    manifest = models.ForeignKey(TrainingManifest, on_delete=models.PROTECT, related_name="works")
    work = models.ForeignKey("contributors.Work", on_delete=models.PROTECT, related_name="manifest_works")
    consent = models.ForeignKey("contributors.Consent", on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["manifest", "work"], name="a_manifest_names_a_work_once")]

    def __str__(self) -> str:
        return f"{self.work} in {self.manifest}"


class TrainingItem(models.Model):
    """What a model was trained on: a part of a work, in tokens of the model's own tokeniser."""

    manifest = models.ForeignKey(TrainingManifest, on_delete=models.PROTECT, related_name="items")
    ordinal = models.IntegerField()
    work = models.ForeignKey("contributors.Work", on_delete=models.PROTECT, related_name="training_items")
    token_start = models.IntegerField()
    token_end = models.IntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["manifest", "ordinal"], name="a_manifest_numbers_an_item_once"),
            models.CheckConstraint(
                condition=Q(token_start__gte=0, token_end__gt=F("token_start")),
                name="training_item_is_a_range_of_tokens",
            ),
        ]

    def __str__(self) -> str:
        return f"item {self.ordinal}"


class AttributionIndex(models.Model):
    """The index of one model version under one configuration, and the audit that says what it is worth."""

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

    class Attributor(models.TextChoices):
        """What makes the scores (attribution/attributors/). Chosen by the configuration."""

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
    # Ensemble members and numbers of each: what features must be that a service reports. Null: it takes none.
    feature_shape = ArrayField(models.IntegerField(), size=2, null=True, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.BUILDING)
    audit = models.JSONField(null=True, blank=True)
    weight_ppb = models.BigIntegerField(default=0)
    # A score below this many standard errors earns nothing: its part is unattributed.
    noise_z = models.FloatField(default=2.0)
    # Whether new generations are attributed by it. The first index serves from the day it is built, a later one takes
    # over when it passes its audit; one that failed goes on serving, at weight 0, until then.
    serving = models.BooleanField(default=False)
    # Changes with every revision; `sha256` is the manifest's of the current one.
    revision = models.IntegerField(default=1)
    # How well its basis still fits its items (attribution.index.Condition): counts, captured energy, reasons to refit.
    condition = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    # When it was handed to the workers; null for one that is built by whoever asked for it.
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
                fields=["model_version", "config_sha256"], condition=~Q(state="retired"),
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
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.method} of {self.model_version}"

    @property
    def method_words(self) -> str:
        """What its scores are, for readers. Only what follows the model's training is called influence."""
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
        """Whether its scores come, at least in part, from the model's gradients (or a service says that they do)."""
        if self.attributor == self.Attributor.PUSHED:
            return self.method == "influence"
        return self.attributor in {self.Attributor.MIDPOINT, self.Attributor.HYBRID}

    @property
    def directory(self) -> str:
        """The index's directory, relative to TRIBUTARY_DATA."""
        return f"indexes/{self.public_id}"


class BuildStep(models.Model):
    """One step of a build that workers share (attribution/building.py). Files say whether it is done; this row is what
    a worker claims, by an advisory lock on it, and what the console shows."""

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
    """A state of an index: what was taken out or put in since the one before. Append-only.

    A work whose holder became another is both: taken out of the one and put in for the other.

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
                fields=["model_version", "work"], condition=Q(restored_at__isnull=True),
                name="a_work_is_removed_from_a_model_version_once",
            ),
            models.CheckConstraint(
                condition=Q(reason__in=["consent", "unlearned", "claim"]), name="a_removal_has_a_reason"
            ),
            models.CheckConstraint(
                condition=Q(restored_at__isnull=True) | Q(restored_at__gte=F("removed_at")),
                name="a_removal_ends_after_it_begins",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.work} removed from {self.model_version}"


class Generation(models.Model):
    """One output that a service reported. What was reported never changes (trigger); only its state does."""

    # received -> attributed | unattributable; unattributable -> attributed when it is attributed again.
    # `unattributable` carries its reason in `error`.
    class State(models.TextChoices):
        RECEIVED = "received"
        ATTRIBUTED = "attributed"
        UNATTRIBUTABLE = "unattributable"

    TRANSITIONS: ClassVar[dict[str, set[str]]] = {
        "received": {"attributed", "unattributable"},
        "attributed": set(),
        "unattributable": {"attributed"},
    }
    BEGINS: ClassVar[set[str]] = {"received"}

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="generations", db_index=False)
    external_id = models.CharField(max_length=200)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="generations")
    modality = models.CharField(max_length=5, default="text")
    prompt_text = models.TextField(blank=True)
    output_text = models.TextField(blank=True)
    output_sha256 = models.BinaryField(max_length=32)
    # The output's own tokens as the service reported them; null when the worker is to tokenise the text again.
    token_ids = PlainArrayField(models.IntegerField(), null=True, blank=True)
    # What the service computed where its model runs, little-endian float32, and the index that it is meant for.
    features = models.BinaryField(max_length=65_536, null=True, blank=True)
    features_index = models.ForeignKey(
        AttributionIndex, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    # In billionths of the currency, whatever its minor unit: the ledger turns it into units of its asset.
    # Null under a plan that sets the price itself.
    gross = models.BigIntegerField(null=True, blank=True)
    currency = models.CharField(max_length=3, default="USD")
    request_sha256 = models.BinaryField(max_length=32)
    # The digest of each part of the request, so that a conflict can name what differs.
    request_parts = models.JSONField(default=dict)
    state = models.CharField(max_length=14, choices=State.choices, default=State.RECEIVED)
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        indexes = [
            # What the workers claim from: one model version at a time, the oldest first.
            models.Index(
                fields=["model_version", "received_at"], condition=Q(state="received"), name="generation_to_attribute"
            ),
            models.Index(fields=["occurred_at"], name="generation_occurred"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["service", "external_id"], name="a_service_reports_an_external_id_once"),
            models.CheckConstraint(condition=~Q(external_id=""), name="generation_has_an_external_id"),
            models.CheckConstraint(
                condition=Q(features__isnull=True, features_index__isnull=True)
                | Q(features__isnull=False, features_index__isnull=False),
                name="features_name_their_index",
            ),
            models.CheckConstraint(condition=Q(gross__isnull=True) | Q(gross__gt=0), name="gross_is_positive"),
            models.CheckConstraint(condition=Q(currency__regex="^[A-Z]{3}$"), name="gross_currency_is_iso_4217"),
            models.CheckConstraint(
                condition=~Q(state="unattributable") | ~Q(error=""), name="an_unattributable_generation_says_why"
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class Attribution(models.Model):
    """The stored result for one generation: who shaped it, by how much, and everything needed to compute it again.

    Append-only. The arrays run parallel to `holder_ids`, which holds every holder of the index in its order.
    """

    generation = models.ForeignKey(Generation, on_delete=models.PROTECT, related_name="attributions", db_index=False)
    revision = models.IntegerField(default=1)
    index = models.ForeignKey(AttributionIndex, on_delete=models.PROTECT, related_name="attributions")
    index_revision = models.IntegerField(default=1)
    weight_ppb = models.BigIntegerField()
    noise_z = models.FloatField()
    holder_ids = PlainArrayField(models.BigIntegerField())
    # Specific influence (about this output): mean over the ensemble, its standard error, and the shares made of them.
    scores = PlainArrayField(RealField())
    se = PlainArrayField(RealField())
    shares_ppb = PlainArrayField(models.BigIntegerField())
    unattributed_ppb = models.BigIntegerField()
    # General influence (what was taught for every output): the shares that the floor pool follows.
    general_scores = PlainArrayField(RealField())
    general_se = PlainArrayField(RealField())
    general_ppb = PlainArrayField(models.BigIntegerField())
    general_unattributed_ppb = models.BigIntegerField()
    # Holders that counted as one: [{"holders": [ids], "score", "se", "general_score", "general_se"}, ...]. Their score
    # is of the sum of their works, and its error is none that could be made of theirs.
    groups = models.JSONField(default=list)
    # {holder id: [[work id, score], ...]}, strongest first.
    top_works = models.JSONField(default=dict)
    # How many tokens were read as prompt, and how many of the output were scored.
    prompt_tokens = models.IntegerField()
    scored_tokens = models.IntegerField()
    seed = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["generation", "revision"], name="a_generation_has_a_revision_once"),
            models.CheckConstraint(condition=Q(revision__gt=0), name="revision_is_positive"),
            models.CheckConstraint(
                condition=Q(unattributed_ppb__gte=0, unattributed_ppb__lte=PPB),
                name="unattributed_is_a_part_of_the_whole",
            ),
            models.CheckConstraint(
                condition=Q(general_unattributed_ppb__gte=0, general_unattributed_ppb__lte=PPB),
                name="general_unattributed_is_a_part_of_the_whole",
            ),
            models.CheckConstraint(
                condition=Q(weight_ppb__gte=0, weight_ppb__lte=PPB), name="attribution_weight_is_a_part_of_the_whole"
            ),
            models.CheckConstraint(
                condition=Q(prompt_tokens__gte=0, scored_tokens__gt=0), name="attribution_scored_a_token"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.generation} revision {self.revision}"
