"""What people type on the contributor's pages, turned into arguments of operations."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.utils.html import format_html

from contributors.countries import COUNTRIES
from contributors.fingerprints import CONTENT_BYTES_MAX
from contributors.models import Consent, Contributor, Dataset, Work
from contributors.operations import NewWork

FILES_MAX = 100
WORK_PREFIX = "work:"
UPLOAD_BYTES_MAX = 64 * 1024 * 1024
LICENCES = ("All rights reserved", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC0-1.0", "Public domain")
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
_IMAGE_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")


class DateInput(forms.DateInput):
    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


class RegisterForm(forms.Form):
    kind = forms.ChoiceField(
        label="Who are you registering?",
        choices=[(Contributor.Kind.PERSON, "Myself, a person"), (Contributor.Kind.ORGANISATION, "An organisation")],
        widget=forms.RadioSelect,
        initial=Contributor.Kind.PERSON,
    )
    legal_name = forms.CharField(
        max_length=200,
        help_text="As in a passport or the company register. Payouts are made out to it; the public never sees it.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    display_name = forms.CharField(
        max_length=200,
        required=False,
        help_text="The name or pseudonym beside your works. Your legal name, if you leave it empty.",
        widget=forms.TextInput(attrs={"autocomplete": "nickname"}),
    )
    country = forms.ChoiceField(
        help_text="Where you are resident for tax, or the organisation is registered.",
        choices=[("", "Choose a country"), *sorted(COUNTRIES.items(), key=lambda entry: entry[1])],
        widget=forms.Select(attrs={"autocomplete": "country"}),
    )


class DatasetForm(forms.Form):
    name = forms.CharField(max_length=200, help_text="Such as “Essays 2019 to 2024”.")
    licence = forms.CharField(
        max_length=200,
        help_text="Under which licence the works are published, as a name or an SPDX identifier.",
        widget=forms.TextInput(attrs={"list": "licences"}),
    )
    description = forms.CharField(required=False, max_length=5000, widget=forms.Textarea(attrs={"rows": 4}))


class FilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """One file or several; cleans to a list."""

    widget = FilesInput(attrs={"accept": ".txt,.md,text/plain,image/png,image/jpeg,image/webp,image/gif"})

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile[Any]]:
        given = data if isinstance(data, list | tuple) else [data]
        files = [super(FilesField, self).clean(one, initial) for one in given]
        if len(files) > FILES_MAX:
            raise forms.ValidationError(f"At most {FILES_MAX} files at once; you chose {len(files)}.")
        if sum(file.size or 0 for file in files) > UPLOAD_BYTES_MAX:
            raise forms.ValidationError(
                f"At most {UPLOAD_BYTES_MAX // 2**20} MiB at once; send the files in two turns."
            )
        return files


class UploadForm(forms.Form):
    dataset = forms.ModelChoiceField(
        Dataset.objects.none(), to_field_name="public_id", empty_label=None, help_text="Where the works belong."
    )
    uploads = FilesField(
        label="Files",
        help_text=f"Text in UTF-8, or PNG, JPEG, WebP, GIF; up to {FILES_MAX} files of up to 5 MiB. "
        "One file is one whole work.",
    )
    title = forms.CharField(
        max_length=300, required=False, help_text="For a single file. Otherwise each work is named after its file."
    )
    published_on = forms.DateField(
        label="First published", required=False, widget=DateInput(), help_text="The same date for all files."
    )

    def __init__(self, contributor: Contributor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["dataset"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = contributor.datasets.order_by("name")

    def works(self) -> list[NewWork]:
        """The files as works. What is too long is read no further than shows it; the operation refuses it by name."""
        files: list[UploadedFile[Any]] = self.cleaned_data["uploads"]
        works = []
        for file in files:
            content = file.read(CONTENT_BYTES_MAX + 1)
            title = self.cleaned_data["title"] if len(files) == 1 else ""
            works.append(
                NewWork(
                    title=title or PurePath(file.name or "").stem.replace("_", " ").strip() or "Untitled",
                    modality="image" if _looks_like_image(content) else "text",
                    content=content,
                    published_on=self.cleaned_data["published_on"],
                )
            )
        return works


def _looks_like_image(content: bytes) -> bool:
    return content.startswith(_IMAGE_BEGINNINGS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


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


def begin(chosen: datetime.date | None, at: datetime.datetime) -> datetime.datetime:
    """The moment that a date on a form means: the beginning of that day in UTC, and for today this moment."""
    if chosen is None or chosen == at.date():
        return at
    return datetime.datetime.combine(chosen, datetime.time(), datetime.UTC)


class GrantForm(TargetForm):
    scopes = ScopesField(label="What may be done with them")
    valid_from = forms.DateField(label="From", required=False, widget=DateInput(), help_text="From now, if left empty.")
    valid_to = forms.DateField(
        label="Until",
        required=False,
        widget=DateInput(),
        help_text="Without an end, if left empty. The day itself is not included.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        start, end = cleaned.get("valid_from"), cleaned.get("valid_to")
        if end and end <= (start or datetime.datetime.now(datetime.UTC).date()):
            self.add_error("valid_to", "The end must come after the beginning.")
        return cleaned


class WithdrawForm(TargetForm):
    scopes = ScopesField(label="What shall no longer be done with them")
    valid_from = forms.DateField(label="From", required=False, widget=DateInput(), help_text="From now, if left empty.")

    def clean_valid_from(self) -> datetime.date | None:
        chosen: datetime.date | None = self.cleaned_data["valid_from"]
        if chosen and chosen < datetime.datetime.now(datetime.UTC).date():
            raise forms.ValidationError("A withdrawal cannot be dated back; choose today or a later day.")
        return chosen


# --- split sheets -------------------------------------------------------------------------------------------------
class ShareField(forms.DecimalField):
    """A percentage that cleans to parts per billion, exactly."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=Decimal(0), max_digits=10, decimal_places=7, **kwargs)

    def clean(self, value: Any) -> int | None:
        cleaned = super().clean(value)
        return None if cleaned is None else int(cleaned * 10_000_000)


class SplitForm(forms.Form):
    effective_from = forms.DateField(
        label="From", required=False, widget=DateInput(),
        help_text="From the moment at which the last co-author agrees, if left empty or past by then.",
    )  # fmt: skip
    note = forms.CharField(required=False, max_length=300, help_text="Your co-authors read this.")


class SplitPartForm(forms.Form):
    """One co-author of a proposed sheet; an empty row is left out."""

    contributor = forms.CharField(label="Co-author", required=False, max_length=200)
    share = ShareField(label="Share, per cent", required=False)

    def clean_contributor(self) -> Contributor | None:
        name = self.cleaned_data["contributor"].strip()
        if not name:
            return None
        found = list(Contributor.objects.filter(display_name__iexact=name)[:2])
        if not found:
            raise forms.ValidationError(f"No contributor is called “{name}”; they have to register first.")
        if len(found) > 1:
            raise forms.ValidationError(f"Several contributors are called “{name}”; ask support to propose this sheet.")
        return found[0]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "contributor" in cleaned and "share" in cleaned:
            if cleaned["contributor"] is not None and cleaned["share"] is None:
                self.add_error("share", "Say how much is theirs, or leave the row empty.")
            if cleaned["contributor"] is None and cleaned["share"]:
                self.add_error("contributor", "Say whose share this is.")
        return cleaned


SplitParts = forms.formset_factory(SplitPartForm, extra=3, max_num=50)


class ContestForm(forms.Form):
    against = forms.ModelChoiceField(
        Contributor.objects.none(), label="Whose share", empty_label=None, to_field_name="public_id"
    )
    share = ShareField(label="How much of the whole, per cent", help_text="What you hold to be yours of it.")
    reason = forms.CharField(
        max_length=1000, widget=forms.Textarea(attrs={"rows": 5}),
        help_text="Your co-author and whoever decides read this.",
    )  # fmt: skip

    def __init__(self, others: QuerySet[Contributor], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["against"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = others
