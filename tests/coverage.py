"""Print the branch coverage of the product by package, from the data file that a test run left.

python -m tests.coverage
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError

COUNTED = ("num_statements", "covered_lines", "num_branches", "covered_branches")


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
