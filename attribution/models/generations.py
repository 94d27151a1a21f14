"""Generations, and the stored attribution of each."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from attribution.models.fields import PlainArrayField, RealField
from attribution.models.indexes import AttributionIndex
from attribution.models.model_services import ModelService
from attribution.models.model_versions import ModelVersion
from contributors.models import PPB
from people.models import uuid7


class Generation(models.Model):
    """One output that a service reported. The report never changes (trigger); only its state does."""

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

    class Modality(models.TextChoices):
        """The kind of its output; mixed where its parts are of several kinds."""

        TEXT = "text"
        IMAGE = "image", "picture"
        AUDIO = "audio", "recording"
        VIDEO = "video", "film"
        OTHER = "other"
        MIXED = "mixed", "text and media, or media of several kinds"

    BEGINS: ClassVar[set[str]] = {"received"}

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    service = models.ForeignKey(ModelService, on_delete=models.PROTECT, related_name="generations", db_index=False)
    external_id = models.CharField(max_length=200)
    model_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="generations")
    modality = models.CharField(max_length=5, choices=Modality.choices, default=Modality.TEXT)
    prompt_text = models.TextField(blank=True)
    output_text = models.TextField(blank=True)
    output_sha256 = models.BinaryField(max_length=32)
    # The prompt's tokens as the model read them, if the service reported them; else its text is tokenised.
    prompt_token_ids = PlainArrayField(models.IntegerField(), null=True, blank=True)
    # The output's own tokens as the service reported them; null when the worker is to tokenise the text again.
    token_ids = PlainArrayField(models.IntegerField(), null=True, blank=True)
    # Features that the service computed where its model runs, little-endian float32, and the index they are meant for.
    features = models.BinaryField(max_length=65_536, null=True, blank=True)
    features_index = models.ForeignKey(
        AttributionIndex, on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    occurred_at = models.DateTimeField()
    received_at = models.DateTimeField()
    # In billionths of the currency, for any minor unit: the ledger turns it into units of its asset.
    # Null under a plan that sets the price itself.
    gross = models.BigIntegerField(null=True, blank=True)
    currency = models.CharField(max_length=3, default="USD")
    request_sha256 = models.BinaryField(max_length=32)
    # The digest of each part of the request, so that a conflict can name the parts that differ.
    request_parts = models.JSONField(default=dict)
    state = models.CharField(max_length=14, choices=State.choices, default=State.RECEIVED)
    error = models.CharField(max_length=500, blank=True)
    # When text, token ids and media were deleted, after the period of the service (operations/retention.py).
    texts_deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            # The workers claim from here: one model version at a time, the oldest first.
            models.Index(
                fields=["model_version", "received_at"], condition=Q(state="received"), name="generation_to_attribute"
            ),
            models.Index(fields=["occurred_at"], name="generation_occurred"),
            # A service lists its own, the newest first: the ids are in the order of the reports.
            models.Index(fields=["service", "id"], name="generation_of_service"),
            # The purge of texts reads from here.
            models.Index(
                fields=["service", "received_at"],
                condition=Q(texts_deleted_at__isnull=True) & ~Q(state="received"),
                name="generation_with_texts",
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["service", "external_id"], name="a_service_reports_an_external_id_once"),
            models.CheckConstraint(condition=~Q(external_id=""), name="generation_has_an_external_id"),
            models.CheckConstraint(
                condition=Q(features__isnull=True, features_index__isnull=True)
                | Q(features__isnull=False, features_index__isnull=False),
                name="features_name_their_index",
            ),
            models.CheckConstraint(
                condition=Q(texts_deleted_at__isnull=True)
                | Q(prompt_text="", output_text="", prompt_token_ids__isnull=True, token_ids__isnull=True)
                & ~Q(state="received"),
                name="a_deleted_text_is_gone_and_was_attributed",
            ),
            models.CheckConstraint(condition=Q(gross__isnull=True) | Q(gross__gt=0), name="gross_is_positive"),
            models.CheckConstraint(condition=Q(currency__regex="^[A-Z]{3}$"), name="gross_currency_is_iso_4217"),
            models.CheckConstraint(
                condition=~Q(state="unattributable") | ~Q(error=""), name="an_unattributable_generation_says_why"
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class GenerationPart(models.Model):
    """A part of an output that is not text. Its bytes lie under their digest, unless they never left the service."""

    generation = models.ForeignKey(Generation, on_delete=models.PROTECT, related_name="media", db_index=False)
    position = models.SmallIntegerField()
    modality = models.CharField(max_length=5, choices=Generation.Modality.choices)
    media_type = models.CharField(max_length=100)
    sha256 = models.BinaryField(max_length=32)
    size_bytes = models.BigIntegerField(null=True, blank=True)
    # False where the service reported the digest alone.
    is_kept = models.BooleanField()
    # Of a picture its perceptual hash, or the service's own fingerprint of bytes that it keeps to itself.
    fingerprint = models.BinaryField(max_length=64, blank=True)

    class Meta:
        # A file goes when no generation needs it any more.
        indexes = [models.Index(fields=["sha256"], condition=Q(is_kept=True), name="kept_part_by_digest")]
        constraints = [
            models.UniqueConstraint(fields=["generation", "position"], name="an_output_has_one_part_at_a_position"),
            models.CheckConstraint(
                condition=Q(modality__in=["image", "audio", "video", "other"]), name="a_part_is_not_text"
            ),
            models.CheckConstraint(condition=Q(position__gte=0), name="part_position_is_from_0"),
            models.CheckConstraint(
                condition=Q(size_bytes__gt=0) | Q(size_bytes__isnull=True, is_kept=False), name="a_kept_part_has_a_size"
            ),
        ]

    def __str__(self) -> str:
        return f"part {self.position} of {self.generation}"


class GeneralShares(models.Model):
    """General shares of one revision of an index: those of every generation that it attributes under rule 2.

    Append-only. A revision has another row when holders that count as one have changed since.
    """

    index = models.ForeignKey(AttributionIndex, on_delete=models.PROTECT, related_name="general_shares")
    index_revision = models.IntegerField()
    # Of holders, scores, errors, groups and noise floor: of everything that the shares are made of.
    sha256 = models.BinaryField(max_length=32)
    noise_z = models.FloatField()
    # Every holder of the index, ascending, paid or not.
    holder_ids = PlainArrayField(models.BigIntegerField())
    scores = PlainArrayField(RealField())
    se = PlainArrayField(RealField())
    ppb = PlainArrayField(models.BigIntegerField())
    unattributed_ppb = models.BigIntegerField()
    # As those of an attribution; their specific scores are nought.
    groups = models.JSONField(default=list)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["index", "index_revision", "sha256"], name="general_shares_of_a_revision_stand_once"
            ),
            models.CheckConstraint(
                condition=Q(unattributed_ppb__gte=0, unattributed_ppb__lte=PPB),
                name="unattributed_general_shares_are_a_part_of_the_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"general shares of {self.index}, revision {self.index_revision}"


class Attribution(models.Model):
    """The stored result for one generation: its holders, their scores, and everything needed to compute it again.

    Append-only. The arrays run parallel to `holder_ids`: under rule 1 every holder of the index in its order, under
    rule 2 the paid holders alone.
    """

    class Rule(models.IntegerChoices):
        """The rule of shares that made them."""

        SUMS = 1, "Sums of holders"
        ITEMS = 2, "Items, then sums"

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
    rule = models.SmallIntegerField(choices=Rule.choices, default=Rule.SUMS)
    # Rule 2: parts of a grid of 2**30, of which the shares are made; the pay of all items in nats, of which they are
    # parts; the score that an item had to exceed; the number of items that could be paid, and of those judged.
    parts = PlainArrayField(models.IntegerField(), default=list)
    pay = RealField(default=0)
    threshold = RealField(default=0)
    items_paid = models.IntegerField(default=0)
    items_counted = models.IntegerField(default=0)
    # Rule 2: general shares, which stand once for all generations of a revision of the index.
    general = models.ForeignKey(
        "GeneralShares", on_delete=models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    # Rule 1. General influence (on every output alike): the shares that the base pool follows.
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
    # Of a text: the number of its tokens, prompt and output, and how many of them the model read: the last ones.
    given_tokens = models.IntegerField(default=0)
    read_tokens = models.IntegerField(default=0)
    # It could not be measured: the base pool gets all of it, and the reason stands with the generation.
    unattributable = models.BooleanField(default=False)
    seed = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["generation"], condition=Q(unattributable=True), name="attribution_of_nobody"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["generation", "revision"], name="a_generation_has_a_revision_once"),
            models.CheckConstraint(condition=Q(revision__gt=0), name="revision_is_positive"),
            models.CheckConstraint(
                condition=Q(rule=1, general__isnull=True, items_paid=0)
                | Q(rule=2, general__isnull=False, items_paid__gt=0),
                name="an_attribution_is_of_one_rule_of_shares",
            ),
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
                condition=Q(prompt_tokens__gte=0) & (Q(scored_tokens__gt=0) | Q(unattributable=True)),
                name="attribution_scored_a_token",
            ),
            models.CheckConstraint(
                condition=Q(unattributable=False)
                | Q(weight_ppb=0, unattributed_ppb=PPB, prompt_tokens=0, scored_tokens=0),
                name="what_is_unattributable_goes_to_nobody",
            ),
            models.CheckConstraint(
                condition=Q(read_tokens__gte=0, given_tokens__gte=F("read_tokens")), name="no_more_is_read_than_given"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.generation} revision {self.revision}"
