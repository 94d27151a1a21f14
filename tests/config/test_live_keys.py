"""A live Stripe key while one person tries the programme out: no program of the installation starts with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.engine import processes
from people.operations.trial import begin_trial
from people.operations.users import register_user
from tests.coverage import unmeasured
from tests.databases import CommittedDatabase

ROOT = Path(__file__).resolve().parents[2]
MANAGE = [sys.executable, "manage.py"]
LIVE = {"STRIPE_SECRET_KEY": "sk_live_x", "BROKER_URL": "redis://127.0.0.1:9/0"}


def run(command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**unmeasured(os.environ), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_no_program_starts_with_a_live_key_while_one_person_tries_it_out(committed_database: CommittedDatabase) -> None:
    ada = register_user(email="ada@example.org", password="a long enough phrase", roles=["admin"], at=datetime.now(UTC))
    begin_trial(person=ada, at=datetime.now(UTC))
    programs = {
        "web": processes.web("127.0.0.1", 0, workers=1).command,
        "worker": processes.worker("money", "default,payouts").command,
        "beat": processes.beat().command,
        "check_books": [*MANAGE, "check_books"],
        "purge_texts": [*MANAGE, "purge_texts"],
    }
    for name, command in programs.items():
        done = run(command, **LIVE)
        assert done.returncode not in (0, None), name
        assert "End the trial (manage.py try_out --end), or set a test key." in done.stderr + done.stdout, (name, done)
    # The commands that say so, or end it, run.
    assert "End the trial" not in run([*MANAGE, "try_out", "--end"], **LIVE).stderr
    assert run([*MANAGE, "purge_texts"], **LIVE).returncode == 0


@pytest.mark.parametrize("command", [["try_out", "--help"], ["help"], ["verify_statement", "--help"]])
def test_help_asks_no_database(command: list[str]) -> None:
    done = run([*MANAGE, *command], **LIVE, DATABASE_URL="postgres://nobody@127.0.0.1:9/none")
    assert done.returncode == 0, done.stderr
