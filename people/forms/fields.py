"""Fields that the forms of every app share."""

from __future__ import annotations

from typing import Any

from django import forms

from people.presentation.typed import UnableToReadNumber, plain_decimal


class TypedDecimalField(forms.DecimalField):
    """A decimal number as people type it, `12,5` as well as `12.5`; for values below a thousand, such as per cent."""

    def to_python(self, value: Any) -> Any:
        text = "" if value is None else str(value).strip()
        if not text:
            return None
        try:
            # A mark before three digits is a decimal mark here: a thousand is beyond the field.
            return super().to_python(plain_decimal(text.replace(",", "."), thousandths=True))
        except UnableToReadNumber as error:
            raise forms.ValidationError(str(error)) from error
