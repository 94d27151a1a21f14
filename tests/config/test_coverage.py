"""The coverage of a run: branches of this process and of a program that it starts, summed by package."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from coverage import Coverage, CoverageData
from coverage.exceptions import NoDataError

from tests.coverage import by_package, remove_empty, unmeasured

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


def test_the_files_of_killed_programs_are_skipped_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    whole = tmp_path / ".coverage"
    data = CoverageData(str(tmp_path / ".coverage.whole"))
    data.add_arcs({"product.py": [(1, 2)]})
    data.close()
    (tmp_path / ".coverage.opened").touch()
    # A kill between the tables and the first row.
    tables = sqlite3.connect(tmp_path / ".coverage.tables")
    tables.execute("CREATE TABLE coverage_schema (version integer)")
    tables.close()
    # A kill in the middle of a transaction that is on the disk in part.
    killed = (
        "import os, sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "d.execute('PRAGMA cache_size = 2'); d.execute('BEGIN'); d.execute('CREATE TABLE coverage_schema (version)');"
        "d.executemany('INSERT INTO coverage_schema VALUES (?)', [('x' * 900,)] * 200); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / ".coverage.killed")], check=False, timeout=60)
    assert (tmp_path / ".coverage.killed-journal").exists()
    (tmp_path / ".coverage.damaged").write_bytes(b"no database at all" * 100)
    other = sqlite3.connect(tmp_path / ".coverage.other")
    other.execute("CREATE TABLE something (else_ integer)")
    other.close()

    assert remove_empty(whole) == 3
    left = sorted(path.name for path in tmp_path.glob(".coverage*"))
    assert left == [".coverage.damaged", ".coverage.other", ".coverage.whole"]


def test_an_unmeasured_program_keeps_the_rest_of_its_environment() -> None:
    measured = {**os.environ, "COVERAGE_PROCESS_CONFIG": "{}", "COVERAGE_PROCESS_START": "x", "DATABASE_URL": "y"}
    kept = unmeasured(measured)
    assert not [name for name in kept if name.startswith("COVERAGE_PROCESS_")]
    assert kept["DATABASE_URL"] == "y"
