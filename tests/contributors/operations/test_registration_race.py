"""Two registrations at once, on a database in which commits are real."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from contributors.models import Dataset, DuplicatePair, Work
from contributors.operations.works import UnableToRegisterWorks, register_works
from tests.databases import CommittedDatabase
from tests.worlds import people


def test_two_registrations_of_the_same_content_at_once_see_each_other(
    committed_database: CommittedDatabase, django_db_blocker: Any, at: datetime
) -> None:
    with django_db_blocker.unblock():
        datasets = [people.dataset(people.contributor(name, at), at) for name in ("Ada", "Ben", "Cy", "Di")]
        outcomes: list[Any] = []

        def register(dataset: Dataset, title: str) -> None:
            try:
                outcomes.append(register_works(dataset=dataset, works=[people.text_work(1, title)], at=at))
            except UnableToRegisterWorks as error:
                outcomes.append(error)
            finally:
                connection.close()

        with transaction.atomic():
            register_works(dataset=datasets[0], works=[people.text_work(1)], at=at)
            threads = [threading.Thread(target=register, args=(each, "Copy")) for each in datasets]
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            assert outcomes == []  # All wait until the first one has committed.
        for thread in threads:
            thread.join(30)
        assert len([outcome for outcome in outcomes if isinstance(outcome, list)]) == 3
        assert [str(outcome) for outcome in outcomes if not isinstance(outcome, list)] == [
            "Nothing was registered: another call has just registered the same."
        ]
        assert DuplicatePair.objects.count() == 6  # Each of four works with each.
        assert Work.objects.values("cluster").distinct().count() == 1
