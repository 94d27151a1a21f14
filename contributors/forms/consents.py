"""Forms that grant and withdraw consent."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django import forms
from django.utils.html import format_html

from contributors.forms.fields import DateInput
from contributors.models import Consent, Contributor, Dataset, Work

WORK_PREFIX = "work:"
SCOPE_MEANINGS = {
    Consent.Scope.SEARCH: "A search engine may list the work and show a snippet.",
    Consent.Scope.AI_INDEX: "An AI search may keep the work in its index and link to it.",
    Consent.Scope.AI_INPUT: "An AI may read the work to answer one question, and name it.",
    Consent.Scope.TRAIN_GENERATIVE: "A model that makes text or pictures may be trained on it. This earns royalties.",
    Consent.Scope.TRAIN_NON_GENERATIVE: "A model that sorts, ranks or detects may be trained on the work.",
    Consent.Scope.FINE_TUNE: "A trained model may be tuned further on the work.",
    Consent.Scope.STYLE_OR_LIKENESS: "Output may be made on purpose in your manner or with your likeness.",
    Consent.Scope.DATA_MINING: "The work may be analysed for research and statistics.",
}


class ScopesField(forms.MultipleChoiceField):
    widget = forms.CheckboxSelectMultiple

    def __init__(self, **kwargs: Any) -> None:
        choices = [
            (scope.value, format_html('<strong>{}</strong><br><span class="muted">{}</span>', scope.label, meaning))
            for scope, meaning in SCOPE_MEANINGS.items()
        ]
        super().__init__(choices=choices, **kwargs)


class TargetForm(forms.Form):
    """Which works a statement speaks of: all, one dataset, or one work that the page was opened for."""

    target = forms.ChoiceField(label="Which works")

    def __init__(self, contributor: Contributor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.datasets = {str(dataset.public_id): dataset for dataset in contributor.datasets.order_by("name")}
        self.one_work = self._one_work(contributor)
        field = self.fields["target"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            *([] if self.initial.get("target") else [("", "Choose which works")]),
            *([(f"{WORK_PREFIX}{self.one_work.public_id}", f"Only “{self.one_work}”")] if self.one_work else []),
            ("all", "All my works, also those I register later"),
            *((key, f"Only “{dataset.name}”") for key, dataset in self.datasets.items()),
        ]

    def _one_work(self, contributor: Contributor) -> Work | None:
        wanted = str(self.data.get("target", "") if self.is_bound else self.initial.get("target", ""))
        try:
            public_id = uuid.UUID(wanted.removeprefix(WORK_PREFIX)) if wanted.startswith(WORK_PREFIX) else None
        except ValueError:
            return None
        return Work.objects.filter(dataset__contributor=contributor, public_id=public_id).first() if public_id else None

    @property
    def dataset(self) -> Dataset | None:
        return self.datasets.get(self.cleaned_data["target"])

    @property
    def work(self) -> Work | None:
        return self.one_work if self.cleaned_data["target"].startswith(WORK_PREFIX) else None


class GrantForm(TargetForm):
    scopes = ScopesField(label="Uses that you allow")
    valid_from = forms.DateField(
        label="From",
        required=False,
        widget=DateInput(),
        help_text="From now, if left empty. A day begins at midnight UTC.",
    )
    valid_to = forms.DateField(
        label="Until",
        required=False,
        widget=DateInput(),
        help_text="Without an end, if left empty. The day itself, in UTC, is not included.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        start, end = cleaned.get("valid_from"), cleaned.get("valid_to")
        if end and end <= (start or datetime.datetime.now(datetime.UTC).date()):
            self.add_error("valid_to", "The end must come after the beginning.")
        return cleaned


class WithdrawForm(TargetForm):
    scopes = ScopesField(label="Which uses do you want to stop?")
    valid_from = forms.DateField(
        label="From",
        required=False,
        widget=DateInput(),
        help_text="From now, if left empty. A day begins at midnight UTC.",
    )

    def clean_valid_from(self) -> datetime.date | None:
        chosen: datetime.date | None = self.cleaned_data["valid_from"]
        if chosen and chosen < datetime.datetime.now(datetime.UTC).date():
            raise forms.ValidationError("A withdrawal cannot be dated back; choose today or a later day.")
        return chosen
