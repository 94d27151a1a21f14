"""People, works and log-ins for tests, made by the same operations and pages that make them for everybody."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import struct
import time
from collections.abc import Callable
from datetime import datetime

from django.test import Client
from PIL import Image, ImageDraw

from contributors.models import Contributor, Dataset
from contributors.operations.people import register_contributor
from contributors.operations.works import NewWork, register_dataset
from people.models import User
from people.operations.users import enrol_totp, register_user

PASSWORD = "correct horse battery 9"
TOTP_PERIOD = 30  # seconds
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def user(email: str, at: datetime, roles: tuple[str, ...] = (), *, second_factor: bool = False) -> User:
    made = register_user(email=email, password=PASSWORD, at=at, roles=roles)
    if second_factor:
        enrol_totp(user=made, secret=SECRET)
    return made


def contributor(name: str, at: datetime, owner: User | None = None) -> Contributor:
    owner = owner or user(f"{name.lower()}@example.org", at)
    return register_contributor(
        user=owner, kind="person", legal_name=f"{name} Legal", display_name=name, country="GB", at=at
    )


def dataset(of: Contributor, at: datetime, name: str = "Essays") -> Dataset:
    return register_dataset(contributor=of, name=name, description="", licence="CC-BY-4.0", at=at)


def text(seed: int, words: int = 300) -> str:
    """Words that no other seed repeats."""
    return " ".join(hashlib.sha256(f"{seed}:{i}".encode()).hexdigest()[:7] for i in range(words))


def text_work(seed: int, title: str = "") -> NewWork:
    return NewWork(title or f"Essay {seed}", "text", text(seed).encode())


def picture(seed: int, width: int = 240, height: int = 180, kind: str = "PNG", quality: int = 90) -> bytes:
    """A picture of coloured discs at places that the seed decides; the same at any size."""
    image = Image.new("RGB", (480, 360), "white")
    draw = ImageDraw.Draw(image)
    for i in range(14):
        digest = hashlib.sha256(f"{seed}:{i}".encode()).digest()
        x, y, r = digest[0] * 480 // 256, digest[1] * 360 // 256, 20 + digest[2] // 4
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(digest[3], digest[4], digest[5]))
    file = io.BytesIO()
    image.resize((width, height)).save(file, kind, **({"quality": quality} if kind in {"JPEG", "WEBP"} else {}))
    return file.getvalue()


def totp_code(secret: str = SECRET) -> str:
    """Return a code (RFC 6238) that is valid for at least five seconds more: near its end, wait for the next."""
    left = TOTP_PERIOD - time.time() % TOTP_PERIOD
    if left < 5:
        time.sleep(left)
    counter = struct.pack(">Q", int(time.time()) // TOTP_PERIOD)
    digest = hmac.new(base64.b32decode(secret), counter, hashlib.sha1).digest()
    offset = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[offset : offset + 4])[0] & 0x7FFFFFFF) % 10**6:06d}"


def log_in(client: Client, email: str, *, code: str | Callable[[], str] = "") -> str:
    """Log in through the pages, with a second factor where a code is given; returns where that leads.

    `code` as a function is asked when it is needed: a code made before the password may have lapsed by then.
    """
    response = client.post("/accounts/login/", {"login": email, "password": PASSWORD})
    if code:
        response = client.post("/accounts/2fa/authenticate/", {"code": code() if callable(code) else code})
    return response.headers.get("Location", "")
