"""Kinds of files by their content, and pictures drawn anew, also of files that were made to hurt."""

from __future__ import annotations

import io
import struct
import wave
import zipfile

import pytest
from PIL import Image

from contributors import formats
from contributors.formats import Kind, UnreadableContent, kind_of, open_picture, thumbnail_of
from tests.worlds import people

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def recording(*, hertz: int = 8_000, samples: int = 800) -> bytes:
    """A real WAV file of silence."""
    written = io.BytesIO()
    with wave.open(written, "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(hertz)
        opened.writeframes(bytes(2 * samples))
    return written.getvalue()


def saved(form: str) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (30, 20), (200, 30, 30)).save(written, form)
    return written.getvalue()


def mp3() -> bytes:
    """Two frames of 128 kbit/s at 44,100 Hz, with content that nobody plays."""
    frame = b"\xff\xfb\x90\x00".ljust(417, b"\0")
    return 2 * frame


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (saved("PNG"), Kind("image", "image/png")),
        (saved("JPEG"), Kind("image", "image/jpeg")),
        (saved("WEBP"), Kind("image", "image/webp")),
        (saved("GIF"), Kind("image", "image/gif")),
        (recording(), Kind("audio", "audio/wav")),
        (b"fLaC\0" + bytes(40), Kind("audio", "audio/flac")),
        (b"OggS" + bytes(40), Kind("audio", "audio/ogg")),
        (b"ID3\x04" + bytes(40), Kind("audio", "audio/mpeg")),
        (mp3(), Kind("audio", "audio/mpeg")),
        (struct.pack(">I", 24) + b"ftypM4A " + bytes(16), Kind("audio", "audio/mp4")),
        (struct.pack(">I", 24) + b"ftypisom" + bytes(16), Kind("video", "video/mp4")),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm" + bytes(16), Kind("video", "video/webm")),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x88matroska" + bytes(16), Kind("video", "video/x-matroska")),
        (SVG, None),
        (b"%PDF-1.7", None),
        (b"MZ\x90\0", None),
        (b"\xff\xfbtwo bytes of sync alone", None),
        ("Übrigens".encode(), None),
        (b"OggS and fLaC are words of this poem", None),
        (b"ID3 is another", None),
        (b"", None),
    ],
)
def test_a_file_is_of_the_kind_that_its_content_shows(content: bytes, found: Kind | None) -> None:
    assert kind_of(content) == found


def test_a_thumbnail_holds_the_pixels_and_nothing_else_of_a_file() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("run.js", "alert('a script behind the picture')")
    polyglot = people.picture(1) + archive.getvalue()
    drawn = thumbnail_of(polyglot, side=320)
    assert kind_of(drawn) == Kind("image", "image/webp")
    assert b"alert" in polyglot
    assert b"alert" not in drawn
    assert not zipfile.is_zipfile(io.BytesIO(drawn))


def test_a_large_picture_becomes_small_and_a_tiny_one_keeps_every_pixel() -> None:
    large, tiny = Image.new("L", (2_000, 1_000)), Image.new("L", (16, 16))
    tiny.putpixel((3, 4), 255)

    def drawn(picture: Image.Image) -> Image.Image:
        written = io.BytesIO()
        picture.save(written, "PNG")
        return Image.open(io.BytesIO(thumbnail_of(written.getvalue(), side=320)))

    assert drawn(large).size == (320, 160)
    shown = drawn(tiny)
    assert shown.size == (160, 160)
    assert shown.convert("L").resize((16, 16), Image.Resampling.NEAREST).tobytes() == tiny.tobytes()


@pytest.mark.parametrize("content", [SVG, b"GIF89a", saved("PNG")[:60], saved("BMP"), b"\x89PNG\r\n\x1a\n" + bytes(99)])
def test_bytes_that_are_no_picture_are_refused_in_words(content: bytes) -> None:
    with pytest.raises(UnreadableContent, match="not a readable PNG, JPEG, WEBP, GIF picture"):
        open_picture(content)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "PIXELS_MAX", 500)
    with pytest.raises(UnreadableContent, match="30 x 20 pixels, 500 in all are allowed"):
        open_picture(saved("PNG"))
