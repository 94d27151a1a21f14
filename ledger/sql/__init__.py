"""The ledger's functions, triggers and privileges as plain SQL; `invariants` are queries."""

from pathlib import Path

SCRIPTS = (
    "guards", "posting", "plans", "pools", "contracts", "disputes", "manual", "verbs", "withholding", "advances",
    "voids", "advance_cancellations", "exports", "trial", "earned", "privileges",
)  # fmt: skip


def script(name: str) -> str:
    return (Path(__file__).parent / f"{name}.sql").read_text()
