"""The ledger's functions, triggers and partitions as plain SQL, run by the migrations beside them."""

from pathlib import Path


def script(name: str) -> str:
    return (Path(__file__).parent / f"{name}.sql").read_text()
