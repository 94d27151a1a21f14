"""Consents: the allowed and the refused uses of works."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import F, Q

from contributors.models.people import Contributor
from contributors.models.works import Dataset, Work
from people.models import User, uuid7


class Consent(models.Model):
    """A dated statement that allows or refuses a use of a contributor's works. Append-only: a change is a new row.

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
