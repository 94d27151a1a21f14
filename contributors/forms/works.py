"""Forms for datasets and uploads."""

from __future__ import annotations

import codecs
import mimetypes
from pathlib import PurePath
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from contributors.fingerprints import CONTENT_BYTES_MAX
from contributors.formats import IMAGE_TYPES, kind_of
from contributors.forms.fields import DateInput
from contributors.forms.splits import SplitPartForm
from contributors.models import Contributor, Dataset
from contributors.operations.works import NewWork

FILES_MAX = 100
UPLOAD_BYTES_MAX = 64 * 1024 * 1024
LICENCES = ("All rights reserved", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC0-1.0", "Public domain")
_BEGINNING_BYTES = 4096
_GENERAL_KINDS = {
    "audio": "audio in another format",
    "video": "video in another format",
    "image": "a picture in another format",
    "font": "a font",
}
_TAKEN = (
    "We accept text, PNG, JPEG, WebP and GIF, recordings (WAV, FLAC, Ogg, MP3, M4A) and films (MP4, WebM, Matroska)."
)
_KINDS = {
    "application/pdf": "a PDF",
    "application/epub+zip": "an e-book (EPUB)",
    "application/zip": "a ZIP archive",
    "application/msword": "a Word document",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "a Word document",
    "application/vnd.oasis.opendocument.text": "an OpenDocument text",
}


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

    widget = FilesInput(
        attrs={"accept": ".txt,.md,text/plain,image/png,image/jpeg,image/webp,image/gif,audio/*,video/*"}
    )

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
        help_text=f"Text in UTF-8, pictures, recordings or films; up to {FILES_MAX} files of up to 5 MiB. "
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

    def clean_uploads(self) -> list[UploadedFile[Any]]:
        """Refuse files of another kind by their name and kind."""
        files: list[UploadedFile[Any]] = self.cleaned_data["uploads"]
        refused = [f"{file.name} is {kind}." for file in files if (kind := _foreign_kind(file))]
        if refused:
            raise forms.ValidationError([*refused[:-1], f"{refused[-1]} {_TAKEN}"])
        return files

    def works(self) -> list[NewWork]:
        """The files as works. Of a file that is too long, only enough is read to show it; the operation refuses it by
        name.
        """
        files: list[UploadedFile[Any]] = self.cleaned_data["uploads"]
        works = []
        for file in files:
            content = file.read(CONTENT_BYTES_MAX + 1)
            kind = kind_of(content)
            title = self.cleaned_data["title"] if len(files) == 1 else ""
            works.append(
                NewWork(
                    title=title or PurePath(file.name or "").stem.replace("_", " ").strip() or "Untitled",
                    modality=kind.modality if kind else "text",
                    content=content,
                    published_on=self.cleaned_data["published_on"],
                )
            )
        return works


def _foreign_kind(file: UploadedFile[Any]) -> str:
    """Name the kind of a file that is neither text nor a kind that we recognise; "" for every other file.

    A file counts as foreign when its content is binary and its name says its kind, and when its text is a program that
    draws (SVG) or the source of a document (RTF). A text file in another encoding stays with the operation, which names
    the byte.
    """
    beginning = file.read(_BEGINNING_BYTES)
    file.seek(0)
    if kind_of(beginning):
        return ""
    if _looks_like_text(beginning):
        return _source_kind(beginning)
    kind = mimetypes.guess_type(file.name or "")[0] or "text"
    general = kind.partition("/")[0]
    if general == "text" or kind in IMAGE_TYPES.values():
        return ""
    return _KINDS.get(kind) or _GENERAL_KINDS.get(general) or f"of the type {kind}"


def _source_kind(beginning: bytes) -> str:
    """Name the kind of a text that nobody reads as it stands."""
    start = beginning.removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"{\\rtf"):
        return "a Rich Text document"
    is_markup = start.startswith((b"<?xml", b"<!DOCTYPE svg", b"<!--", b"<svg"))
    return "an SVG drawing" if is_markup and b"<svg" in beginning else ""


def _looks_like_text(beginning: bytes) -> bool:
    # The last character of the beginning may be cut, so it is decoded as a part of a longer text.
    try:
        codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        return False
    return b"\0" not in beginning


SplitParts = forms.formset_factory(SplitPartForm, extra=3, max_num=50)
