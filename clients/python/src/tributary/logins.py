"""Stored addresses and keys of services, in a file that only its owner can read, and uploads that are under way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tributary.errors import InvalidInput

DEFAULT = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")


@dataclass(frozen=True)
class Login:
    """An installation's address and a service key. The key is never shown, also not by repr()."""

    url: str
    key: str = field(repr=False)

    @property
    def prefix(self) -> str:
        """The public part of the key, by which the console lists it."""
        parts = self.key.split("_")
        return "_".join(parts[:2]) if len(parts) > 2 else ""


def folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the stored files: TRIBUTARY_CONFIG, or `tributary` in the user's folder of settings."""
    given = os.environ if environment is None else environment
    if given.get("TRIBUTARY_CONFIG"):
        return Path(given["TRIBUTARY_CONFIG"])
    base = given.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "tributary"


def read_logins() -> dict[str, Login]:
    """Read every stored login by its name. Raises InvalidInput for a file that others can read or change."""
    path = folder() / "logins.json"
    if os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
        raise InvalidInput(f"others can read {path}: run `chmod 600 {path}`, and rotate the keys in it")
    stored = _read(path)
    try:
        return {name: Login(entry["url"], entry["key"]) for name, entry in stored.items()}
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}; remove it and log in again") from None


def store_login(name: str, login: Login) -> Path:
    """Store a login, with mode 0600, in place of one of the same name. Returns the file. Raises InvalidInput."""
    if not _NAME.fullmatch(name):
        raise InvalidInput("a name has up to 60 letters, digits and . _ -", field="name")
    logins = {**read_logins(), name: login}
    path = folder() / "logins.json"
    _write(path, {name: {"url": login.url, "key": login.key} for name, login in sorted(logins.items())})
    return path


def find_login(name: str | None, environment: Mapping[str, str] | None = None) -> Login:
    """Find the login of a command: by name, else TRIBUTARY_URL and TRIBUTARY_KEY, else the default one."""
    given = os.environ if environment is None else environment
    url, key = given.get("TRIBUTARY_URL", ""), given.get("TRIBUTARY_KEY", "")
    if name is None and url and key:
        return Login(url, key)
    if name is None and (url or key):
        raise InvalidInput("TRIBUTARY_URL and TRIBUTARY_KEY are set together or not at all")
    logins = read_logins()
    wanted = name or DEFAULT
    if wanted in logins:
        return logins[wanted]
    if name is None and len(logins) == 1:
        return next(iter(logins.values()))
    known = ", ".join(sorted(logins)) or "none"
    raise InvalidInput(f"there is no login {wanted!r} (stored: {known}); run `tributary login URL`", field="service")


# --- uploads under way ------------------------------------------------------------------------------------------------
def unfinished_upload(url: str, sha256: str) -> str | None:
    """Return the id of an upload of this directory that was begun and did not end."""
    found = _read(folder() / "uploads.json").get(f"{url} {sha256}")
    return found if isinstance(found, str) else None


def note_upload(url: str, sha256: str, upload: str | None) -> None:
    """Keep the id of an upload that begins; None when it has ended."""
    path = folder() / "uploads.json"
    stored = _read(path)
    stored.pop(f"{url} {sha256}", None)
    if upload is not None:
        stored[f"{url} {sha256}"] = upload
    _write(path, stored)


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from None
    return stored if isinstance(stored, dict) else {}


def _write(path: Path, stored: Mapping[str, Any]) -> None:
    """Write a file that appears whole, with mode 0600 from its first byte."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(stored, file, indent=2)
            file.write("\n")
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
