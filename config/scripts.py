"""Run the SQL scripts of the apps: functions, triggers, privileges and staff groups, which change without a migration.

A script is `<app>/sql/<name>.sql`, named in SCRIPTS of that app's `sql` package. It can run any number of times with
the same result. `AppliedScript` records the digest of each. After every `migrate` (signal post_migrate, so that also
`setup_database` and the test database are covered), the first script with another digest runs, and all after it:
a later one may build on an earlier one, as grants do on functions.

The order is fixed: the apps as INSTALLED_APPS lists them, in each app its SCRIPTS, last the state machines of all
models. The catalogue's own digest shows a change by hand; then every script runs again.

A migration never reads a script. SQL that runs once stands beside its migration and has the migration's number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import apps
from django.db import connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model
from django.utils import timezone

from config.models import AppliedScript

CATALOGUE = "catalogue"

# Functions, triggers and privileges as the server holds them. Partitions come and go with the months.
_CATALOGUE_SQL = """
SELECT encode(sha256(convert_to(coalesce(string_agg(what, E'\\n' ORDER BY what), ''), 'UTF8')), 'hex') FROM (
  SELECT pg_get_functiondef(oid) || coalesce(proacl::text, '') AS what FROM pg_proc
   WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
  UNION ALL
  SELECT pg_get_triggerdef(t.oid) || t.tgenabled::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
   WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal AND NOT c.relispartition
  UNION ALL
  SELECT relname || coalesce(relacl::text, '') FROM pg_class
   WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S') AND NOT relispartition
) AS held"""


@dataclass(frozen=True, slots=True)
class Script:
    """One script; `name` is `<app>/<file>`, `sha256` the hex digest of its text."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def scripts() -> list[Script]:
    """List every script in the order in which they run."""
    found = []
    for app in apps.get_app_configs():
        if find_spec(f"{app.name}.sql") is None:
            continue
        for name in import_module(f"{app.name}.sql").SCRIPTS:
            text = (Path(app.path) / "sql" / f"{name}.sql").read_text(encoding="utf-8")
            found.append(Script(f"{app.label}/{name}", text))
    return [*found, Script("state machines", state_machines())]


def state_machines() -> str:
    """Write the triggers that hold the rows of every model with TRANSITIONS to its arrows.

    TRANSITIONS maps each state to the states after it. BEGINS holds the states in which a row may begin; without it
    any. A table of a model that has no TRANSITIONS any more loses its trigger.
    """
    machines: dict[str, type[Model]] = {
        model._meta.db_table: model for model in apps.get_models() if hasattr(model, "TRANSITIONS")
    }
    names = ", ".join(f"'{table}'" for table in sorted(machines))
    lines = [
        "DO $$ DECLARE name text; BEGIN",
        "  FOR name IN SELECT tgrelid::regclass::text FROM pg_trigger",
        f"              WHERE tgname = 'follows_the_arrows' AND tgrelid::regclass::text NOT IN ({names}) LOOP",
        "    EXECUTE format('DROP TRIGGER follows_the_arrows ON %s', name);",
        "  END LOOP;",
        "END $$;",
    ]
    for table, model in sorted(machines.items()):
        begins = sorted(getattr(model, "BEGINS", ()))
        transitions: dict[str, set[str]] = model.TRANSITIONS  # type: ignore[attr-defined]
        arrows = [f"{state}>{end}" for state, ends in transitions.items() for end in sorted(ends)]
        arguments = ", ".join(f"'{argument}'" for argument in [*(f"={state}" for state in begins), *arrows])
        events = "INSERT OR UPDATE OF state" if begins else "UPDATE OF state"
        lines += [
            f"CREATE OR REPLACE TRIGGER follows_the_arrows BEFORE {events} ON {table}",
            f"  FOR EACH ROW EXECUTE FUNCTION rows_follow_the_arrows({arguments});",
        ]
    return "\n".join(lines)


def changed_scripts(using: str = "default") -> list[str]:
    """Name the scripts with a recorded digest that is not that of their text; one that never ran has none."""
    recorded = dict(AppliedScript.objects.using(using).values_list("name", "sha256"))
    return [script.name for script in scripts() if recorded.get(script.name) != script.sha256]


def is_catalogue_changed(using: str = "default") -> bool:
    """Tell whether functions, triggers or privileges differ from those after the last run of the scripts."""
    recorded = AppliedScript.objects.using(using).filter(name=CATALOGUE).values_list("sha256", flat=True).first()
    return recorded != _catalogue_digest(using)


def apply_scripts(using: str = "default") -> list[str]:
    """Run the first changed script and all after it, in one transaction; return the names of those that ran.

    All run where the catalogue was changed by other means. Needs the role that owns the tables.
    """
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('config.scripts'))")
        all_scripts = scripts()
        changed = set(changed_scripts(using))
        if is_catalogue_changed(using):
            first = 0
        elif changed:
            first = next(place for place, script in enumerate(all_scripts) if script.name in changed)
        else:
            return []
        for script in all_scripts[first:]:
            cursor.execute(script.sql)
            _record(script.name, script.sha256, using)
        AppliedScript.objects.using(using).exclude(name__in=[s.name for s in all_scripts]).delete()
        _record(CATALOGUE, _catalogue_digest(using), using)
    return [script.name for script in all_scripts[first:]]


def apply_after_migrations(*, using: str, verbosity: int = 1, **_: Any) -> None:
    """Apply the scripts at the end of `migrate`, unless it stopped before the last migration."""
    if _migrations_to_come(using):
        return
    done = apply_scripts(using)
    if done and verbosity:
        print(f"SQL scripts applied: {', '.join(done)}")


def waiting(using: str = "default") -> list[str]:
    """Name the changes that `setup_database` would still apply: migrations, else scripts; nothing where all is up to
    date.
    """
    migrations = _migrations_to_come(using)
    if migrations:
        return [f"{migrations} not applied: run setup_database"]
    changed = changed_scripts(using)
    return [f"SQL scripts not applied as they are now: {', '.join(changed)}; run setup_database"] if changed else []


def _migrations_to_come(using: str) -> int:
    executor = MigrationExecutor(connections[using])
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _record(name: str, sha256: str, using: str) -> None:
    AppliedScript.objects.using(using).update_or_create(
        name=name, defaults={"sha256": sha256, "applied_at": timezone.now()}
    )


def _catalogue_digest(using: str) -> str:
    with connections[using].cursor() as cursor:
        cursor.execute(_CATALOGUE_SQL)
        return str(cursor.fetchone()[0])
