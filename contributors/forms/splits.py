"""Forms for split sheets and ownership disputes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import QuerySet

from contributors.forms.fields import DateInput
from contributors.models import Contributor
from contributors.queries.people import called
from people.forms.fields import TypedDecimalField


# --- split sheets -------------------------------------------------------------------------------------------------
class ShareField(TypedDecimalField):
    """A percentage that cleans to parts per billion, exactly."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=Decimal(0), max_digits=10, decimal_places=7, **kwargs)

    def clean(self, value: Any) -> int | None:
        cleaned = super().clean(value)
        return None if cleaned is None else int(cleaned * 10_000_000)


class SplitForm(forms.Form):
    effective_from = forms.DateField(
        label="From",
        required=False,
        widget=DateInput(),
        help_text="From the moment at which the last co-author agrees, if left empty or past by then.",
    )
    note = forms.CharField(required=False, max_length=300, help_text="Your co-authors read this.")


class SplitPartForm(forms.Form):
    """One co-author of a proposed sheet; an empty row is left out."""

    contributor = forms.CharField(label="Co-author", required=False, max_length=300)
    share = ShareField(label="Share, per cent", required=False)

    def clean_contributor(self) -> Contributor | None:
        name = self.cleaned_data["contributor"].strip()
        if not name:
            return None
        found = called(name)
        if not found:
            raise forms.ValidationError(f"No contributor is called “{name}”; they have to register first.")
        if len(found) > 1:
            raise forms.ValidationError(
                f"Several contributors are called “{name}”. Ask your co-author for the number on their page People, "
                "and give that number here."
            )
        return found[0]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if "contributor" in cleaned and "share" in cleaned:
            if cleaned["contributor"] is not None and cleaned["share"] is None:
                self.add_error("share", "Say how much is theirs, or leave the row empty.")
            if cleaned["contributor"] is None and cleaned["share"]:
                self.add_error("contributor", "Name the owner of this share.")
        return cleaned


class ContestForm(forms.Form):
    against = forms.ModelChoiceField(
        Contributor.objects.none(), label="Whose share", empty_label=None, to_field_name="public_id"
    )
    share = ShareField(label="How much of the whole, per cent", help_text="Your part of it, as you see it.")
    reason = forms.CharField(
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 5}),
        help_text="Your co-author and the deciding person read this.",
    )

    def __init__(self, others: QuerySet[Contributor], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["against"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = others
