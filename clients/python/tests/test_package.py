"""The built package: its files, its one dependency, its command, its version."""

from __future__ import annotations

import email
import subprocess
import sys
import zipfile
from pathlib import Path

from tributary import __version__

PROJECT = Path(__file__).resolve().parents[1]


def test_the_wheel_is_typed_and_needs_httpx_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (place,) = (name for name in names if name.endswith("METADATA"))
        metadata = email.message_from_bytes(wheel.read(place))
        (commands,) = (name for name in names if name.endswith("entry_points.txt"))
        assert b"tributary = tributary.cli.main:main" in wheel.read(commands)
    assert "tributary/py.typed" in names
    sources = {str(file.relative_to(PROJECT / "src")) for file in (PROJECT / "src").rglob("*.py")}
    assert sources <= set(names)
    assert not [name for name in names if name.startswith(("tests", "clients"))]
    assert (metadata["Name"], metadata["Version"]) == ("tributary-client", __version__)
    assert metadata["Requires-Python"] == ">=3.9"
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [line.split("<")[0].split(">")[0] for line in needed] == ["httpx"]
    assert set(metadata.get_all("Provides-Extra", [])) == {"openai", "parquet", "torch", "transformers"}


def test_the_package_is_imported_without_its_extras() -> None:
    code = (
        "import sys, tributary; print([n for n in ('torch', 'transformers', 'openai', 'pyarrow') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[]", done.stderr
