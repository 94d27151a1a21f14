"""Fields of a reported generation, read with the same words for every fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class UnableToAccept(Exception):
    """One generation of a batch was not stored. `problem` names the reason, `members` its further facts."""

    def __init__(self, problem: str, detail: str, *, status: int = 422, **members: Any) -> None:
        super().__init__(detail)
        self.problem = problem
        self.status = status
        self.members = members


def invalid(name: str, requirement: str) -> UnableToAccept:
    return UnableToAccept("invalid-field", f"{name or 'A generation'} {requirement}", field=name)


def read_object(value: Any, name: str, *, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    # The check by type is many times quicker, and parsed JSON has no other mapping.
    if type(value) is not dict and not isinstance(value, Mapping):
        raise invalid(name, "must be an object.")
    path = f"{name}." if name else ""
    for key in required:
        if key not in value:
            raise UnableToAccept("missing-field", f"{path}{key} is missing.", field=f"{path}{key}")
    for key in value:
        # A misspelt field would otherwise be money silently left out.
        if key not in required and key not in optional:
            known = ", ".join([*required, *optional])
            raise UnableToAccept("unknown-field", f"{name or 'A generation'} takes only {known}.", field=name)
    return value


def read_text(value: Any, name: str, bytes_max: int) -> str:
    if not isinstance(value, str):
        raise invalid(name, "must be a string.")
    if len(value) > bytes_max:
        raise _too_long(name, bytes_max)
    try:
        n_bytes = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        n_bytes = None
    if n_bytes is None or "\x00" in value:
        raise UnableToAccept("malformed-text", f"{name} holds a NUL or half a surrogate pair.", field=name)
    if n_bytes > bytes_max:
        raise _too_long(name, bytes_max)
    return value


def _too_long(name: str, bytes_max: int) -> UnableToAccept:
    detail = f"{name} takes at most {bytes_max} bytes of UTF-8."
    return UnableToAccept("text-too-long", detail, field=name, bytes_max=bytes_max)
