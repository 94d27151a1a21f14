"""What the layout promises, checked on the code itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("config", "contributors", "attribution", "ledger", "payouts")
NAMELESS = {
    "utils",
    "helpers",
    "common",
    "core",
    "constants",
    "exceptions",
    "signals",
    "mixins",
    "managers",
    "services",
}


def product_modules() -> list[Path]:
    return [path for app in APPS for path in sorted((ROOT / app).rglob("*.py")) if "migrations" not in path.parts]


def test_the_web_process_starts_without_torch() -> None:
    code = (
        "import sys, django; django.setup();"
        "import config.wsgi; from django.urls import get_resolver; get_resolver().url_patterns;"
        "print([name for name in ('torch', 'scipy', 'sentencepiece') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_module_has_a_name_that_gives_no_reason() -> None:
    assert [str(path) for path in product_modules() if path.stem in NAMELESS] == []


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", product_modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_public_operations_take_keywords_only(path: Path) -> None:
    """An operation is called with names: `pay(contributor=..., amount=...)` cannot be given in the wrong order."""
    if "operations" not in path.parts and path.stem != "operations":
        return
    tree = ast.parse(path.read_text())
    positional = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.args.args
    ]
    assert positional == []
