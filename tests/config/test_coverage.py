"""The coverage of a run: branches of this process and of a program that it starts, summed by package."""

import subprocess
import sys
from pathlib import Path

import pytest
from coverage import Coverage
from coverage.exceptions import NoDataError

from tests.coverage import by_package

PROGRAM = """
import subprocess, sys
from product import choose
choose.yes(True)
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "again"], check=True)
else:
    choose.yes(False)
"""
CONFIGURATION = "[run]\nbranch = true\nsource = product\npatch = subprocess\n"


def test_branches_of_a_started_program_are_summed_by_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "product").mkdir()
    (tmp_path / "product" / "__init__.py").touch()
    (tmp_path / "product" / "choose.py").write_text("def yes(a):\n    if a:\n        return 1\n    return 0\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / ".coveragerc").write_text(CONFIGURATION)
    for arguments in (["run", "program.py"], ["combine", "-q"]):
        subprocess.run([sys.executable, "-m", "coverage", *arguments], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    coverage = Coverage(data_file=str(tmp_path / ".coverage"), config_file=str(tmp_path / ".coveragerc"))
    coverage.load()
    counts = by_package(coverage)["product"]
    assert (counts["num_branches"], counts["covered_branches"]) == (2, 2)


def test_without_data_there_is_no_share(tmp_path: Path) -> None:
    coverage = Coverage(data_file=str(tmp_path / "nothing"), config_file=False)
    coverage.load()
    with pytest.raises(NoDataError):
        by_package(coverage)
