"""The goals of the ledger, and whether a run reached them. A goal that a run did not measure is shown as such."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    code: str
    sentence: str
    target: str
    # The measured value and whether it is met; None where the run has no such figure.
    measure: Callable[[Found], tuple[str, bool] | None]


def _of(found: Found, **wanted: Any) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if all(row.get(name) == value for name, value in wanted.items())]


def _times(found: Found, ours: dict[str, Any], peer: dict[str, Any], at_least: float) -> tuple[str, bool] | None:
    own, others = _of(found, **ours), _of(found, **peer)
    if not own or not others:
        return None
    ratio = max(r["lines_per_second"] for r in own) / max(r["lines_per_second"] for r in others)
    # Judged by the clock; the ratio of lines a second of processor time is told beside it, for a busy machine.
    cpu = [max(r["lines"] / max(r["cpu_seconds"], 1e-9) for r in rows) for rows in (own, others)]
    return f"{ratio:,.2f}x ({cpu[0] / cpu[1]:,.1f}x by CPU)", ratio >= at_least


def _figure(found: Found, path: str, show: str, met: Callable[[float], bool]) -> tuple[str, bool] | None:
    value: Any = found
    for name in path.split("."):
        if not isinstance(value, dict) or value.get(name) is None:
            return None
        value = value[name]
    return show.format(value), met(value)


OURS = {"peer": "tributary", "accounts": 20_000}
FLOOR = {"peer": "copy_indexed"}
GOALS = (
    Goal("G1", "1,000 generations a commit beside COPY into an indexed table", ">= 0.85x",
         lambda f: _times(f, {**OURS, "batch": 1000}, FLOOR, 0.85)),
    Goal("G2", "django-hordak, its best path beside ours", ">= 40x",
         lambda f: _times(f, OURS, {"peer": "hordak"}, 40)),
    Goal("G2", "django-hordak, 100 generations a commit each", ">= 15x",
         lambda f: _times(f, {**OURS, "batch": 100}, {"peer": "hordak", "batch": 100}, 15)),
    Goal("G2", "django-hordak, 1 generation a commit each", ">= 3x",
         lambda f: _times(f, {**OURS, "batch": 1}, {"peer": "hordak", "batch": 1}, 3)),
    Goal("G3", "pgledger, its best path beside ours", ">= 40x", lambda f: None),
    Goal("G3", "django-ledger, its best path beside ours", ">= 100x",
         lambda f: _times(f, OURS, {"peer": "django_ledger"}, 100)),
    Goal("G4", "one generation posted and committed, 99th percentile", "<= 25 ms",
         lambda f: (lambda r: (f"{r['ms_p99']:.1f} ms", r["ms_p99"] <= 25))(_of(f, **OURS, batch=1)[0])),
    Goal("G5", "entries, lines and documents on disk", "<= 40 bytes a credit",
         lambda f: _figure(f, "bytes_a_credit", "{:.1f}", lambda v: v <= 40)),
    Goal("G6", "200,000 accounts, beside the floor of 20,000", ">= 0.5x",
         lambda f: _times(f, {"peer": "tributary", "accounts": 200_000}, FLOOR, 0.5)),
    Goal("G6", "1,000,000 accounts, beside the floor of 20,000", ">= 0.2x",
         lambda f: _times(f, {"peer": "tributary", "accounts": 1_000_000}, FLOOR, 0.2)),
    Goal("G7", "the balance of an account at any entry, median", "<= 1 ms",
         lambda f: _figure(f, "reads.balance_ms_p50", "{:.2f} ms", lambda v: v <= 1)),
    Goal("G7", "the trial balance as of any entry, median", "<= 500 ms",
         lambda f: _figure(f, "reads.trial_balance_ms_p50", "{:.0f} ms", lambda v: v <= 500)),
    Goal("G7", "full proof: every document, the chain, every line against its documents", "<= 10 s",
         lambda f: _figure(f, "full_proof_seconds", "{:.1f} s", lambda v: v <= 10)),
    Goal("G7", "the chain with every byte of detail, two connections", ">= 3 M credits/s",
         lambda f: _figure(f, "chain_credits_per_second", "{:,.0f}", lambda v: v >= 3e6)),
    Goal("G7", "the same on one connection", ">= 3 M credits/s",
         lambda f: _figure(f, "chain_credits_per_second_alone", "{:,.0f}", lambda v: v >= 3e6)),
    Goal("G8", "export of a month's credits sorted by account", ">= 300,000 credits/s",
         lambda f: _figure(f, "export.credits_per_second", "{:,.0f}", lambda v: v >= 3e5)),
    Goal("G9", "apportionment: exact, each part within a unit of its quota", "100 %",
         lambda f: (lambda a: (f"{a['exact']:,} of {a['rows']:,}", a["exact"] == a["rows"]))(f["apportionment"])),
    Goal("G9", "ties: chance explains who gets the last unit", "p >= 0.001",
         lambda f: _figure(f, "apportionment.tie_bias_p", "p = {:.3f}", lambda v: v >= 0.001)),
    Goal("G9", "processor time of apportioning, of that of posting", "<= 10 %",
         lambda f: _figure(f, "apportionment.of_posting", "{:.1%}", lambda v: v <= 0.1)),
)  # fmt: skip


def judged(found: Found) -> list[dict[str, Any]]:
    """Judge each goal with its measured value: `met` is None where the run has no figure for it."""
    rows = []
    for goal in GOALS:
        result = goal.measure(found)
        rows.append(
            {
                "goal": goal.code,
                "what": goal.sentence,
                "target": goal.target,
                "measured": result[0] if result else "not measured",
                "met": result[1] if result else None,
            }
        )
    return rows
