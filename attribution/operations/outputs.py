"""Outputs as services report them: text, or parts of which some are pictures, recordings, films or other files.

A part that is not text comes as bytes, or as a digest alone where it may not leave its service. Its type is verified by
its content: a picture is decoded, a recording or a film recognised, and everything else is kept without a look inside.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attribution.models import Generation
from attribution.operations.fields import UnableToAccept, invalid, read_object, read_text
from contributors.fingerprints import fingerprint
from contributors.formats import UnreadableContent, kind_of

PARTS_MAX = 16
MEDIA_BYTES_MAX = 16 * 2**20
FINGERPRINT_BYTES_MAX = 64
MODALITIES = ("image", "audio", "video")
# Other names that people use for the same types.
SAME_TYPES = {
    "image/jpg": "image/jpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/mp3": "audio/mpeg",
    "audio/x-m4a": "audio/mp4",
    "video/quicktime": "video/mp4",
    "video/matroska": "video/x-matroska",
}
_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]{0,90}")
_HEX = re.compile(r"[0-9a-f]*")
Modality = Generation.Modality


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an output that is not text. `content` is None where only its digest was reported."""

    position: int
    modality: str
    media_type: str
    sha256: bytes
    content: bytes | None
    size_bytes: int | None
    fingerprint: bytes

    @property
    def told(self) -> list[Any]:
        """The facts that decide whether a second report is of the same output."""
        return [self.position, self.media_type, self.sha256.hex()]


@dataclass(frozen=True, slots=True)
class Output:
    """An output: all of its text, and its other parts in order."""

    text: str
    parts: tuple[Part, ...]
    modality: str
    has_text: bool = True

    @property
    def sha256(self) -> str:
        """The digest of the text, of the only part, or of the lines that name the digest of each part."""
        if not self.parts:
            return hashlib.sha256(self.text.encode()).hexdigest()
        if len(self.parts) == 1 and not self.has_text:
            return self.parts[0].sha256.hex()
        lines = [f"text\t{hashlib.sha256(self.text.encode()).hexdigest()}\n"]
        lines += [f"{part.position}\t{part.media_type}\t{part.sha256.hex()}\n" for part in self.parts]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_parts(body: Mapping[str, Any], *, text_bytes_max: int, files: Mapping[str, bytes]) -> Output:
    """Read the member `media` or `parts` of an output. `files` came beside the report, by name.

    Raises UnableToAccept, with the field, for anything that is no file of its kind.
    """
    if "media" in body:
        part = _media(body["media"], "output.media", 0, files)
        return Output("", (part,), part.modality, has_text=False)
    given = body["parts"]
    if not isinstance(given, list) or not 1 <= len(given) <= PARTS_MAX:
        raise invalid("output.parts", f"must be a list of 1 to {PARTS_MAX} parts.")
    texts: list[str] = []
    parts: list[Part] = []
    for position, each in enumerate(given):
        name = f"output.parts[{position}]"
        if isinstance(each, Mapping) and "text" in each:
            read_object(each, name, required=("text",))
            texts.append(read_text(each["text"], f"{name}.text", text_bytes_max))
        else:
            read_object(each, name, required=("media",))
            parts.append(_media(each["media"], f"{name}.media", position, files))
    text = "".join(texts)
    # Each alone is within its limit, and so must be all together.
    read_text(text, "output.parts", text_bytes_max)
    kinds = {part.modality for part in parts} | ({Modality.TEXT.value} if texts else set())
    return Output(text, tuple(parts), kinds.pop() if len(kinds) == 1 else Modality.MIXED.value, has_text=bool(texts))


def _media(value: Any, name: str, position: int, files: Mapping[str, bytes]) -> Part:
    body = read_object(value, name, required=("type",), optional=("base64", "file", "sha256", "size", "fingerprint"))
    media_type = _type(body["type"], f"{name}.type")
    forms = [form for form in ("base64", "file", "sha256") if form in body]
    if len(forms) != 1:
        raise invalid(name, "needs exactly one of base64, file (a part of a multipart body) and sha256.")
    if forms == ["sha256"]:
        return _digest_alone(body, name, position, media_type)
    for key in ("size", "fingerprint"):
        if key in body:
            raise invalid(f"{name}.{key}", "is taken beside sha256 alone: of bytes it is found out here.")
    content = _bytes(body, forms[0], name, files)
    modality = _modality_of(media_type)
    if modality == Modality.OTHER.value:
        if found := kind_of(content):
            raise _mismatch(name, media_type, found.media_type)
        return Part(position, modality, media_type, hashlib.sha256(content).digest(), content, len(content), b"")
    found = kind_of(content)
    if found is None or found.media_type != media_type:
        raise _mismatch(name, media_type, found.media_type if found else "")
    try:
        known_by = fingerprint(modality, content, bytes_max=MEDIA_BYTES_MAX)
    except UnreadableContent as error:
        raise UnableToAccept("invalid-media", f"{name}: {error}.", field=name) from None
    return Part(position, modality, media_type, hashlib.sha256(content).digest(), content, len(content), known_by)


def _type(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _TYPE.fullmatch(value.lower()):
        raise invalid(name, "must be a media type, as image/png.")
    named = SAME_TYPES.get(value.lower(), value.lower())
    if named.startswith("text/"):
        raise UnableToAccept("invalid-media", f"{name} is text: report it as output.text.", field=name)
    if named == "image/svg+xml":
        detail = f"{name} is SVG, which is a program that draws: report the picture as PNG, JPEG, WebP or GIF."
        raise UnableToAccept("invalid-media", detail, field=name)
    return named


def _modality_of(media_type: str) -> str:
    general = media_type.partition("/")[0]
    return general if general in MODALITIES else Modality.OTHER.value


def _bytes(body: Mapping[str, Any], form: str, name: str, files: Mapping[str, bytes]) -> bytes:
    value = body[form]
    if not isinstance(value, str):
        raise invalid(f"{name}.{form}", "must be a string.")
    if form == "file":
        if value not in files:
            known = ", ".join(sorted(files)) or "none"
            detail = f"{name}.file names no file of this request; there is {known}. Send it as multipart/form-data."
            raise UnableToAccept("missing-file", detail, field=f"{name}.file")
        content = files[value]
    else:
        if len(value) > 4 * -(-MEDIA_BYTES_MAX // 3):
            raise _too_large(name)
        try:
            content = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"{name}.base64", "must be base64 (RFC 4648, section 4).") from None
    if not content:
        raise UnableToAccept("invalid-media", f"{name} is empty.", field=name)
    if len(content) > MEDIA_BYTES_MAX:
        raise _too_large(name)
    return content


def _digest_alone(body: Mapping[str, Any], name: str, position: int, media_type: str) -> Part:
    digest, size = _hex(body["sha256"], f"{name}.sha256"), body.get("size")
    if len(digest) != 32:
        raise invalid(f"{name}.sha256", "must be 64 hexadecimal digits.")
    if size is not None and (type(size) is not int or not 0 < size < 2**53):
        raise invalid(f"{name}.size", "must be the number of bytes, more than zero.")
    known_by = _hex(body.get("fingerprint", ""), f"{name}.fingerprint")
    if len(known_by) > FINGERPRINT_BYTES_MAX:
        raise invalid(f"{name}.fingerprint", f"has at most {2 * FINGERPRINT_BYTES_MAX} hexadecimal digits.")
    return Part(position, _modality_of(media_type), media_type, digest, None, size, known_by)


def _hex(value: Any, name: str) -> bytes:
    if not isinstance(value, str) or len(value) % 2 or not _HEX.fullmatch(value.lower()):
        raise invalid(name, "must be hexadecimal digits, two for each byte.")
    return bytes.fromhex(value)


def _mismatch(name: str, declared: str, found: str) -> UnableToAccept:
    is_known = f"is {found}" if found else "is none of the pictures, recordings and films that are taken"
    detail = f"{name}.type says {declared}, and its content {is_known}."
    return UnableToAccept("invalid-media", detail, field=f"{name}.type")


def _too_large(name: str) -> UnableToAccept:
    detail = f"{name} takes at most {MEDIA_BYTES_MAX} bytes ({MEDIA_BYTES_MAX // 2**20} MiB)."
    return UnableToAccept("media-too-large", detail, field=name, bytes_max=MEDIA_BYTES_MAX)
