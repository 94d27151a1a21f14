import subprocess
import sys

import pytest
from django.contrib.auth.models import Group
from django.db import InternalError, ProgrammingError, connection

from config.database import APP_ROLE
from tests.conftest import CommittedDatabase


@pytest.mark.django_db
def test_a_test_acts_as_the_application_role() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone()[0] == APP_ROLE


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement", ["TRUNCATE django_session", "CREATE TABLE intruder (id int)", "DROP TABLE auth_group"]
)
def test_the_application_role_changes_no_schema_and_truncates_nothing(statement: str) -> None:
    with pytest.raises((ProgrammingError, InternalError)), connection.cursor() as cursor:
        cursor.execute(statement)


def test_a_committed_row_is_seen_by_another_process(committed_database: CommittedDatabase) -> None:
    Group.objects.create(name="seen")
    code = (
        "import django; django.setup();"
        "from django.contrib.auth.models import Group; print(Group.objects.filter(name='seen').count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "1", done.stderr


def test_a_clone_starts_without_the_rows_of_the_last_one(committed_database: CommittedDatabase) -> None:
    assert not Group.objects.filter(name="seen").exists()
