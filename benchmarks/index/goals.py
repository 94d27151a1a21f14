"""The measured figures, in words, and their targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def show(figures: dict[str, Any]) -> None:
    print(f"\n{figures['machine']}, {figures['cores']} cores, load {figures['load']:.1f}, one torch thread\n")
    for line in lines(figures):
        print(line)
    print("\nGoals")
    for goal, met in goals(figures):
        print(f"  {'met    ' if met else 'not met'}  {goal}")


def lines(figures: dict[str, Any]) -> Iterator[str]:
    for row in figures.get("query", ()):
        yield (
            f"query    {row['holders']:>9,} holders x {row['k']}, {row['items']:>9,} works  {row['query_ms']:8.2f} ms "
            f"  {row['query_ms'] / row['read_ms']:5.1f} x reading the matrix   {row['bytes_an_item']:.0f} bytes an item"
        )
    for row in figures.get("scan", ()):
        yield (
            f"scan     {row['items']:>9,} items x {row['k']} int8  {row['scan_ms']:8.1f} ms "
            f"  {row['scan_ms'] / row['read_ms']:5.1f} x reading them; every work's score "
            f"{row['every_ms'] / row['read_ms']:.1f} x, rows into floats {row['convert_ms'] / row['read_ms']:.1f} x"
        )
    for row in figures.get("changes", ()):
        yield (
            f"changes  {row['removed']:>9,} of {row['items']:,} items taken out in {row['seconds']:.2f} s; sums "
            f"differ from fresh ones by {row['relative_error']:.0e} of the largest"
        )
    for name in ("build", "holders"):
        for row in figures.get(name, ()):
            yield (
                f"build    {row['items']:>9,} items, {row['holders']:>7,} holders  {row['cpu_seconds']:7.1f} CPU s   "
                f"{row['own_mib']:6.1f} MiB of its own above {row['before_mib']}, labels {row['labels_mib']} of them; "
                f"peak RSS {row['peak_rss_mib']} MiB with mapped files"
            )
    for row in figures.get("holders", ()):
        yield (
            f"query    {row['holders']:>9,} holders x 64  {row['query_ms']:8.2f} ms   "
            f"{row['query_ms'] / row['read_ms']:5.1f} x reading the matrix of {row['matrix_mib']} MiB"
        )
    for row in figures.get("worker", ()):
        parts = ", ".join(f"{name} {ms:.2f}" for name, ms in row["ms_a_generation"].items())
        yield (
            f"worker   {row['per_cpu_second']:.0f} generations in a second of one core ({row['per_second']:.0f} on the "
            f"wall); ms each: {parts}"
        )


def goals(figures: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    if rows := figures.get("query"):
        few, many = rows[0], rows[-1]
        yield (
            f"10,000 holders, k = 512: a query in 2 ms (now {many['query_ms']:.2f})",
            many["query_ms"] <= 2.0,
        )
        ratio = many["query_ms"] / few["query_ms"]
        yield f"ten times the works cost a query nothing (now {ratio:.2f} x)", ratio < 1.25
    for row in figures.get("scan", ()):
        ratio = row["scan_ms"] / row["read_ms"]
        yield f"a scan within 3.5 x of reading memory (now {ratio:.1f})", ratio <= 3.5
    for row in figures.get("changes", ()):
        error = row["relative_error"]
        yield f"sums after a change are fresh sums to 1e-5 (now {error:.0e})", error <= 1e-5
    if rows := figures.get("build"):
        few, many = (row["own_mib"] - row["labels_mib"] for row in (rows[0], rows[-1]))
        yield (
            f"ten times the items, memory but for labels at most 1.5 x (now {many:.0f} MiB after {few:.0f})",
            many <= 1.5 * few,
        )
