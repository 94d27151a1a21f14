"""Fields that the forms of every app share."""

from __future__ import annotations

import re
from typing import Any

from django import forms

from people.presentation.typed import UnableToReadNumber, plain_decimal

_WHOLE = re.compile("-?[0-9]+")
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE]-?[0-9]{1,3})?")


class TypedIntegerField(forms.IntegerField):
    """A whole number in the digits 0 to 9. Python's own reader also takes 1_0 and the digits of other scripts."""

    def to_python(self, value: Any) -> Any:
        text = "" if value is None else str(value).strip()
        if text and not _WHOLE.fullmatch(text):
            raise forms.ValidationError(f"“{text}” is no whole number, such as 30.")
        return super().to_python(text)


class TypedFloatField(forms.FloatField):
    """A measured number, such as 0.1 or 1e-3, in the digits 0 to 9."""

    def to_python(self, value: Any) -> Any:
        text = "" if value is None else str(value).strip()
        if text and not _FLOAT.fullmatch(text):
            raise forms.ValidationError(f"“{text}” is no number, such as 0.1 or 1e-3.")
        return super().to_python(text)


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
