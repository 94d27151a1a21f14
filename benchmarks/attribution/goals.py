"""Targets of the figures: columns of the tables, goals A1 to A8, and one measurement of speed alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.index.measures import alone

HOLDERS = 10_000
WIDTH = 512
HYBRID = "hybrid, weight"
MIDPOINT = "midpoint, damping 0.3 (default)"
LINEAR = "midpoint, 16,384 coordinates of Linear layers"
FAST = f"{LINEAR}, bfloat16"
TRAKER, DATTRI = "TRAK, traker 0.3.2", "TRAK, dattri 0.3.0"
LDS_OF_MIDPOINT = (0.67, 0.45)


@dataclass(frozen=True)
class Column:
    title: str
    keys: tuple[str, ...]
    form: str = ".3f"
    factor: float = 1.0

    def cell(self, row: dict[str, Any]) -> str:
        values = [row.get(key) for key in self.keys]
        if all(value is None for value in values):
            return "–"
        return " / ".join("–" if value is None else f"{value * self.factor:{self.form}}" for value in values)


def _both(prefix: str) -> tuple[str, str]:
    return f"{prefix}_held_out", f"{prefix}_own"


TEXT_COLUMNS = (
    Column("coalition\nLDS", _both("coalition_lds")),
    Column("item\nLDS", _both("item_lds")),
    Column("specific\npart", _both("specific")),
    Column("general\npart", _both("general"), ".2f"),
    Column("noise's share\nspecific / general", ("noise_specific", "noise_general")),
    Column("copy's share\nto its twin's", ("copy_ratio",), ".2f"),
    Column("build\ns", ("build",), ".1f"),
    Column("features\ns", ("features",), ".1f"),
    Column("one query\nms", ("query",), ".1f", 1e3),
    Column("bytes\nan item", ("bytes",), ",.0f"),
)
DIGITS_COLUMNS = (
    Column("rank correlation\nwith Shapley", ("shapley",)),
    Column("coalition\nLDS", ("coalition_lds",)),
    Column("item\nLDS", ("item_lds",)),
    Column("noise's\nshare", ("noise",)),
    Column("share error\n(total variation)", ("share_error",)),
    Column("copy's share\nto its twin's", ("copy_ratio",), ".2f"),
    Column("build\ns", ("build",), ".2f"),
    Column("one query\nms", ("query",), ".2f", 1e3),
    Column("bytes\nan item", ("bytes",), ",.0f"),
)


def speed() -> dict[str, Any]:
    """Measure the speeds that do not depend on the model: a query, a scan and a change, as in benchmarks.index. Each
    runs in a process of its own, in processor time: on a busy machine wall time shows the load of others."""
    asked = {"query": {"holders": HOLDERS, "items": 2 * HOLDERS, "k": WIDTH}, "scan": {"items": 10**6, "k": WIDTH}}
    asked["changes"] = {"items": 2 * HOLDERS, "holders": 100, "k": WIDTH}
    return {name: alone(name, sizes) for name, sizes in asked.items()}


def judge(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Judge every goal that this run measured: its target, its measured value, and whether it was met."""
    judged: list[dict[str, Any]] = []

    def goal(name: str, what: str, target: str, measured: str, met: bool | None) -> None:
        word = "not measured" if met is None else "yes" if met else "NO"
        judged.append({"name": name, "goal": what, "target": target, "measured": measured, "met": word})

    if "text" in found:
        rows = {row["method"]: row for row in found["text"]["methods"]}
        _judge_text(rows, goal)
    if "digits" in found:
        _judge_digits({row["method"]: row for row in found["digits"]["methods"]}, found["digits"], goal)
    if "speed" in found:
        query, scan, changes = (found["speed"][name] for name in ("query", "scan", "changes"))
        taken = query["query_ms"]
        goal("A4", "query of 10,000 holders, k = 512", "<= 2 ms", f"{taken:.2f} ms", taken <= 2)
        ratio = scan["scan_ms"] / scan["read_ms"]
        goal("A7", "scan of 1,000,000 items", "<= 3.5 x reading", f"{ratio:.1f} x", ratio <= 3.5)
        error = changes["relative_error"]
        goal("A8", "works taken out, against a fresh sum", "<= 1e-5", f"{error:.0e}", error <= 1e-5)
    return judged


def _judge_text(rows: dict[str, Any], goal: Callable[..., None]) -> None:
    midpoint = rows[MIDPOINT]
    hybrid = next(row for name, row in rows.items() if name.startswith(HYBRID))
    for row, what, targets in ((midpoint, "midpoint, k = 512", LDS_OF_MIDPOINT), (hybrid, "hybrid", (0.72, 0.50))):
        values = [row[key] for key in _both("coalition_lds")]
        goal(
            "A1",
            f"coalition LDS, one model, {what}",
            _pair(">= ", targets),
            _pair("", values),
            _reached(values, targets),
        )
    specific, general = hybrid["specific_own"], midpoint["general_held_out"]
    goal("A1b", "specific part of own generations, hybrid", ">= .54", f"{specific:.3f}", specific >= 0.54)
    goal("A1b", "general part, held out, midpoint", ">= .80", f"{general:.2f}", general >= 0.80)
    best = rows.get("hybrid, 3 checkpoints", hybrid)
    noise, copy = max(best["noise_specific"], best["noise_general"]), best["copy_ratio"]
    goal("A3", "random tokens' share, text", "<= .010", f"{noise:.3f} ({best['method']})", noise <= 0.01)
    goal("A3", "an exact copy's share to its twin's, text", "1", f"{copy:.6f}", abs(copy - 1) < 1e-6)
    library = rows.get("EK-FAC, kronfluence 1.0.1")
    if library is not None:
        ratio = library["query"] / midpoint["query"]
        goal("A5", "one query end to end, against kronfluence", ">= 50 x", f"{ratio:.0f} x", ratio >= 50)
    fast = rows[FAST]
    # A fast method counts for nothing unless it is as good as the target.
    agreement = [fast[key] for key in _both("coalition_lds")]
    is_good = _reached(agreement, LDS_OF_MIDPOINT)
    for cost, what, library, target in (
        ("features", "feature pass", TRAKER, 8),
        ("features", "feature pass", DATTRI, 15),
        ("build", "whole build", TRAKER, 3),
    ):
        if library in rows:
            ratio, whole, of_all = (rows[library][cost] / row[cost] for row in (fast, rows[LINEAR], midpoint))
            told = (
                f"{ratio:.1f} x at LDS {agreement[0]:.2f} / {agreement[1]:.2f} "
                f"(in float32: {whole:.1f} x, and of every coordinate: {of_all:.1f} x)"
            )
            named = f"{what}, against {library}, where the LDS is A1's"
            goal("A6", named, f">= {target} x", told, is_good and ratio >= target)


def _judge_digits(rows: dict[str, Any], about: dict[str, Any], goal: Callable[..., None]) -> None:
    midpoint = rows["midpoint, weight decay"]
    # The product's reference has three nodes; more of them are shown beside it.
    path, finer = rows["path of 3, weight decay"], rows.get("path of 12, weight decay")
    for row, target in ((path, 0.80), (midpoint, 0.72)):
        value = row["shapley"]
        told = f"{value:.3f}" + (f" (path of 12: {finer['shapley']:.3f})" if row is path and finer else "")
        goal("A2", f"rank correlation with Shapley, {row['method']}", f">= {target:.2f}", told, value >= target)
    noise, copy = path["noise"], path["copy_ratio"]
    truth = about["noise_of_truth"]
    goal(
        "A3",
        f"random labels' share, digits (truth {truth:.3f})",
        "<= .010",
        f"{noise:.3f} ({path['method']})",
        noise <= 0.01,
    )
    goal("A3", "an exact copy's share to its twin's, digits", "1", f"{copy:.6f}", abs(copy - 1) < 1e-6)


def _pair(sign: str, values: Sequence[float]) -> str:
    return " / ".join(f"{sign}{value:.3f}" for value in values)


def _reached(values: Sequence[float], targets: Sequence[float]) -> bool:
    return bool(np.all(np.asarray(values) >= np.asarray(targets)))
