"""Kinds of files by their content: pictures, recordings and films; never by a name or by the word of a sender.

Pure: bytes in, facts out. A picture is decoded as a whole. Of a recording or a film the beginning is read, and nothing
is decoded: nobody here plays it. A drawing of a program (SVG), a document or an archive is of no kind.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image, ImageOps

PIXELS_MAX = 40_000_000
# Pictures of other modes take up to 10 bytes a pixel while they are compared.
LEAN_MODES = {"1", "L", "RGB"}
OTHER_PIXELS_MAX = 16_000_000
TINY_SIDE = 64
IMAGE_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
# The brands of an ISO base media file that hold sound alone.
_SOUND_BRANDS = frozenset({b"M4A ", b"M4B ", b"F4A "})
_BITRATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_SAMPLE_RATES = (44_100, 48_000, 32_000, 0)


class UnreadableContent(Exception):
    """The bytes differ from their claimed form; the message names the fault."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: image, audio or video, and its media type."""

    modality: str
    media_type: str


def kind_of(content: bytes) -> Kind | None:
    """Recognise a picture, a recording or a film by its first bytes; None for anything else, such as text or SVG."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind("image", "image/png")
    if content.startswith(b"\xff\xd8\xff"):
        return Kind("image", "image/jpeg")
    if content.startswith((b"GIF87a", b"GIF89a")):
        return Kind("image", "image/gif")
    if content.startswith(b"RIFF"):
        return {b"WEBP": Kind("image", "image/webp"), b"WAVE": Kind("audio", "audio/wav")}.get(content[8:12])
    if content.startswith((b"fLaC\0", b"fLaC\x80")):
        return Kind("audio", "audio/flac")
    if content.startswith(b"OggS\0"):
        return Kind("audio", "audio/ogg")
    if content.startswith((b"ID3\x02", b"ID3\x03", b"ID3\x04")) or _is_mpeg_audio(content):
        return Kind("audio", "audio/mpeg")
    if content[4:8] == b"ftyp":
        return Kind("audio", "audio/mp4") if content[8:12] in _SOUND_BRANDS else Kind("video", "video/mp4")
    if content.startswith(b"\x1a\x45\xdf\xa3"):
        # The kind of document stands in the header, which is short.
        return Kind("video", "video/webm" if b"webm" in content[:64] else "video/x-matroska")
    return None


def open_picture(content: bytes) -> Image.Image:
    """Decode a PNG, JPEG, WebP or GIF, its first frame, upright. Raises UnreadableContent, with the fault."""
    try:
        picture = Image.open(io.BytesIO(content), formats=tuple(IMAGE_TYPES))
        width, height = picture.size
        if width * height > PIXELS_MAX:
            raise UnreadableContent(f"it has {width:,} x {height:,} pixels, {PIXELS_MAX:,} in all are allowed")
        if picture.mode not in LEAN_MODES and width * height > OTHER_PIXELS_MAX:
            raise UnreadableContent(
                f"it has {width:,} x {height:,} pixels, {OTHER_PIXELS_MAX:,} in all are allowed with a palette or with "
                "transparency; save it as JPEG"
            )
        picture.load()
        return picture
    except UnreadableContent:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableContent(f"it has far more than the {PIXELS_MAX:,} pixels that are allowed") from error
    except Exception as error:
        # Pillow's decoders raise almost anything for bytes that were made to hurt them.
        raise UnreadableContent(f"it is not a readable {', '.join(IMAGE_TYPES)} picture") from error


def thumbnail_of(content: bytes, *, side: int) -> bytes:
    """Draw a picture anew as a WebP of at most `side` pixels: nothing but its pixels is left of the file.

    Raises UnreadableContent.
    """
    picture = open_picture(content)
    try:
        upright = ImageOps.exif_transpose(picture).convert("RGBA" if picture.has_transparency_data else "RGB")
        upright.thumbnail((side, side))
        is_tiny = max(upright.size) <= TINY_SIDE
        if is_tiny:
            # Every pixel of a tiny picture counts, and is drawn as a square.
            upright = ImageOps.scale(upright, side // max(upright.size) // 2 or 1, Image.Resampling.NEAREST)
        written = io.BytesIO()
        upright.save(written, "WEBP", quality=80, lossless=is_tiny)
    except Exception as error:
        raise UnreadableContent("no thumbnail can be drawn of it") from error
    return written.getvalue()


def check_kind(modality: str, content: bytes) -> None:
    """Raise UnreadableContent unless the content is a recording or a film, as the modality says."""
    found = kind_of(content)
    if found is None or found.modality != modality:
        wanted = {
            "audio": "a recording in WAV, FLAC, Ogg, MP3 or M4A",
            "video": "a film in MP4, WebM or Matroska",
        }[modality]
        raise UnreadableContent(f"it is not {wanted}")


def _is_mpeg_audio(content: bytes) -> bool:
    """Whether two frames of MPEG-1 audio, layer 3, follow each other: two bytes of sync alone are found anywhere."""
    length = _frame_length(content[:4])
    return length > 0 and _frame_length(content[length : length + 4]) > 0


def _frame_length(header: bytes) -> int:
    """Return the length in bytes of the frame with this header; 0 where it is none."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xFE != 0xFA:
        return 0
    kilobits, hertz = _BITRATES[header[2] >> 4], _SAMPLE_RATES[header[2] >> 2 & 3]
    return 144_000 * kilobits // hertz + (header[2] >> 1 & 1) if kilobits and hertz else 0
