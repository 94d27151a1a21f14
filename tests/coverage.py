"""Print the branch coverage of the product by package, from the data file that a test run left.

python -m tests.coverage
"""

import contextlib
import json
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError

COUNTED = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave measuring out of the environment of a program that a test ends by SIGKILL.

    Such a program never writes its measurement, so that tracing it only takes time.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_PROCESS_")}


def remove_empty(data_file: Path) -> int:
    """Remove the data files beside `data_file` that hold no measurement yet, and return their number.

    A program that is killed while it saves leaves such a file. A damaged file stays, and coverage warns of it.
    """
    empty = [path for path in data_file.parent.glob(f"{data_file.name}.*") if _is_empty(path)]
    for path in empty:
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    return len(empty)


def _is_empty(path: Path) -> bool:
    if path.name.endswith("-journal"):
        return False
    # A connection that may write takes an uncommitted transaction back; a reader may not.
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(path, timeout=10)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "coverage_schema" not in tables:
            return not tables
        return bool(database.execute("SELECT count(*) FROM coverage_schema").fetchone() == (0,))
    return False


def by_package(coverage: Coverage) -> dict[str, Counter[str]]:
    """Sum statements and branches, and the executed ones among them, by the first folder of each file.

    Raises NoDataError without a data file.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "coverage.json"
        coverage.json_report(outfile=str(report))
        files = json.loads(report.read_text())["files"]
    packages: dict[str, Counter[str]] = {}
    for path, file in files.items():
        counts = Counter({name: file["summary"][name] for name in COUNTED})
        packages.setdefault(Path(path).parts[0], Counter()).update(counts)
    return packages


def share(executed: int, whole: int) -> str:
    """Write a share in per cent, with one decimal."""
    return f"{100 * executed / whole:5.1f} %" if whole else "      -"


def main() -> None:
    """Print one row for each package and one for the product."""
    coverage = Coverage()
    coverage.load()
    try:
        packages = by_package(coverage)
    except NoDataError:
        sys.exit("There is no coverage data. `make test` measures it.")
    total = sum(packages.values(), Counter())
    print(f"{'coverage':16s} {'branches':>9s} {'executed':>9s}          {'statements':>10s} {'executed':>9s}")
    for name, counts in [*sorted(packages.items()), ("product", total)]:
        statements, lines, branches, executed = (counts[key] for key in COUNTED)
        print(
            f"{name:16s} {branches:9d} {executed:9d}  {share(executed, branches)}"
            f" {statements:10d} {lines:9d}  {share(lines, statements)}"
        )


if __name__ == "__main__":
    main()
