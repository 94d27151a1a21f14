"""SQL scripts: applied once, again when their text or the catalogue changes, and recorded by the owner alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction

from config import scripts
from config.engine.roles import APP_ROLE, OWNER_ROLE, acting_as, take_role
from config.health import CHECKS
from config.models import AppliedScript
from tests.databases import CommittedDatabase

ROOT = Path(__file__).resolve().parent.parent.parent
TRIGGER = "SELECT count(*) FROM pg_trigger WHERE tgname = %s AND tgrelid = %s::regclass"


def _run(sql: str) -> None:
    with acting_as(OWNER_ROLE) as owner, owner.cursor() as cursor:
        cursor.execute(sql)


def _apply() -> list[str]:
    with acting_as(OWNER_ROLE):
        return scripts.apply_scripts()


def _count(trigger: str, table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(TRIGGER, [trigger, table])
        return int(cursor.fetchone()[0])


def _change(monkeypatch: pytest.MonkeyPatch, name: str, more: str) -> None:
    """Let the script of this name end with more SQL, as an edit of its file would."""
    found = [
        scripts.Script(script.name, script.sql + more) if script.name == name else script
        for script in scripts.scripts()
    ]
    monkeypatch.setattr(scripts, "scripts", lambda: found)


def test_a_fresh_database_holds_every_script_and_a_second_run_changes_nothing(
    committed_database: CommittedDatabase,
) -> None:
    recorded = dict(AppliedScript.objects.values_list("name", "applied_at"))
    assert set(recorded) == {*(script.name for script in scripts.scripts()), scripts.CATALOGUE}
    assert scripts.waiting() == []
    assert not scripts.is_catalogue_changed()
    assert _apply() == []
    assert dict(AppliedScript.objects.values_list("name", "applied_at")) == recorded


def test_every_script_may_run_again_and_leaves_the_catalogue_as_it_was(committed_database: CommittedDatabase) -> None:
    before = AppliedScript.objects.get(name=scripts.CATALOGUE)
    with acting_as(OWNER_ROLE):
        AppliedScript.objects.all().delete()
        assert scripts.apply_scripts() == [script.name for script in scripts.scripts()]
    assert AppliedScript.objects.get(name=scripts.CATALOGUE).sha256 == before.sha256


def test_a_changed_script_runs_again_with_all_after_it_and_is_recorded(
    committed_database: CommittedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [script.name for script in scripts.scripts()]
    _change(
        monkeypatch,
        "payouts/guards",
        "CREATE OR REPLACE TRIGGER new_rule BEFORE DELETE ON payouts_notice"
        " FOR EACH ROW EXECUTE FUNCTION rows_refuse_change('kept');",
    )
    assert scripts.changed_scripts() == ["payouts/guards"]
    assert "payouts/guards" in CHECKS["migrations"]()
    with pytest.raises(CommandError, match="payouts/guards"):
        call_command("setup_database", "--check")
    assert _apply() == names[names.index("payouts/guards") :]
    assert _count("new_rule", "payouts_notice") == 1
    assert scripts.waiting() == []
    assert CHECKS["migrations"]() == ""


def test_a_script_that_fails_leaves_nothing_of_the_run(
    committed_database: CommittedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    _change(monkeypatch, "payouts/rails", "DROP TRIGGER bank_line_is_append_only ON payouts_bankline; SELECT 1 / 0;")
    with pytest.raises(Exception, match="division by zero"):
        _apply()
    assert _count("bank_line_is_append_only", "payouts_bankline") == 1
    assert scripts.changed_scripts() == ["payouts/rails"]


@pytest.mark.parametrize(
    ("attack", "trigger", "table"),
    [
        ("DROP TRIGGER reversal_is_append_only ON payouts_reversal", "reversal_is_append_only", "payouts_reversal"),
        ("DROP TRIGGER follows_the_arrows ON payouts_payout", "follows_the_arrows", "payouts_payout"),
        ("DROP TRIGGER four_eyes ON ledger_entry", "four_eyes", "ledger_entry"),
    ],
)
def test_a_removed_trigger_is_noticed_and_comes_back_on_the_next_run(
    committed_database: CommittedDatabase, attack: str, trigger: str, table: str
) -> None:
    _run(attack)
    assert _count(trigger, table) == 0
    with pytest.raises(CommandError, match="changed by hand"):
        call_command("setup_database", "--check")
    _apply()
    assert _count(trigger, table) == 1
    call_command("setup_database", "--check")


def test_a_privilege_given_by_hand_is_taken_back(committed_database: CommittedDatabase) -> None:
    _run(f"GRANT DELETE ON people_auditevent TO {APP_ROLE}")
    assert scripts.is_catalogue_changed()
    _apply()
    with connection.cursor() as cursor:
        cursor.execute("SELECT has_table_privilege(%s, 'people_auditevent', 'DELETE')", [APP_ROLE])
        assert cursor.fetchone() == (False,)


def test_a_changed_arrow_of_a_model_takes_effect(
    committed_database: CommittedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = apps.get_model("payouts", "TopUp")
    monkeypatch.setattr(model, "TRANSITIONS", model.TRANSITIONS | {"failed": {"requested"}})
    assert scripts.changed_scripts() == ["state machines"]
    assert _apply() == ["state machines"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'follows_the_arrows'"
            " AND tgrelid = 'payouts_topup'::regclass",
            [],
        )
        assert "failed>requested" in cursor.fetchone()[0]


def test_a_model_without_transitions_loses_its_state_machine(
    committed_database: CommittedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(apps.get_model("payouts", "TopUp"), "TRANSITIONS")
    _apply()
    assert _count("follows_the_arrows", "payouts_topup") == 0
    assert _count("follows_the_arrows", "payouts_payout") == 1


def test_every_state_machine_names_states_of_its_model() -> None:
    found = [model for model in apps.get_models() if hasattr(model, "TRANSITIONS")]
    assert len(found) >= 20
    for model in found:
        states = {value for value, _ in model._meta.get_field("state").choices}  # type: ignore[union-attr]
        assert set(model.TRANSITIONS) == states, model
        assert set().union(*model.TRANSITIONS.values()) <= states, model
        assert set(getattr(model, "BEGINS", ())) <= states, model


def test_migrate_alone_applies_the_scripts(committed_database: CommittedDatabase) -> None:
    _run("DROP TRIGGER reversal_is_append_only ON payouts_reversal")
    with acting_as(OWNER_ROLE):
        call_command("migrate", interactive=False, verbosity=0)
    assert _count("reversal_is_append_only", "payouts_reversal") == 1


def test_the_application_role_reads_the_record_and_cannot_write_it(committed_database: CommittedDatabase) -> None:
    take_role(connection, APP_ROLE)
    assert AppliedScript.objects.exists()
    for statement in (
        "INSERT INTO config_appliedscript VALUES ('x', 'y', now())",
        "UPDATE config_appliedscript SET sha256 = ''",
        "DELETE FROM config_appliedscript",
        "TRUNCATE config_appliedscript",
    ):
        with pytest.raises(ProgrammingError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


def test_every_sql_file_is_a_script_or_a_query_and_no_migration_reads_one() -> None:
    names = {script.name for script in scripts.scripts()}
    files = {f"{path.parent.parent.name}/{path.stem}" for path in ROOT.glob("*/sql/*.sql")}
    assert files - names == {"ledger/invariants", "ledger/payments"}
    for path in ROOT.glob("*/migrations/*.py"):
        assert "sql import" not in path.read_text(), path
        assert '"sql"' not in path.read_text(), path


def test_the_initial_migrations_are_what_makemigrations_writes() -> None:
    command = [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
