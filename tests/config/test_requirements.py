"""Lock files: every pinned requirement is locked at its version with hashes, and the version of the product is read."""

import re
import tomllib
from pathlib import Path

import pytest
import stripe
from django.conf import settings
from django.test import Client

from payouts.rails.stripe import client as gateway_client

ROOT = Path(__file__).resolve().parents[2]
# Installed by version alone: its build, and with it the hash, differs by platform.
UNHASHED = {"torch"}


def pins(name: str) -> dict[str, str]:
    """Read the pinned packages of a requirements file with those that it includes."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line.startswith("-r "):
            found |= pins(line.removeprefix("-r ").strip())
        elif match := re.match(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", line):
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


@pytest.mark.parametrize("name", ["requirements", "requirements-dev"])
def test_the_lock_file_has_every_requirement_with_hashes(name: str) -> None:
    wanted, locked = pins(f"{name}.txt"), pins(f"{name}.lock")
    different = {package for package in wanted.keys() - UNHASHED if locked.get(package) != wanted[package]}
    assert not different, f"run `make lock` and commit {name}.lock"
    assert not UNHASHED & locked.keys()
    hashed = re.findall(r"^\S+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", (ROOT / f"{name}.lock").read_text(), re.M)
    assert len(hashed) == len(locked)


def test_both_lock_files_agree() -> None:
    runtime, development = pins("requirements.lock"), pins("requirements-dev.lock")
    assert runtime.items() <= development.items()


def test_torch_is_pinned_by_version() -> None:
    assert pins("requirements.txt")["torch"]


def test_no_lock_file_names_a_registry() -> None:
    for path in ROOT.glob("*.lock"):
        assert "://" not in path.read_text(), path.name


def test_the_version_has_one_place(client: Client) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version == settings.VERSION
    assert stripe.app_info is not None, gateway_client.__name__
    assert stripe.app_info["version"] == version
    assert client.get("/api/v1/openapi.json").json()["info"]["version"] == version
