"""Consents are numbered in the order of their commits, so that the feed of the API loses none."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from contributors.models import Consent, Contributor
from contributors.operations.consents import grant_consent
from tests.databases import CommittedDatabase
from tests.worlds import people


def test_a_consent_waits_for_the_commit_of_the_one_before_it(
    committed_database: CommittedDatabase, django_db_blocker: Any, at: datetime
) -> None:
    with django_db_blocker.unblock():
        ada, ben = people.contributor("Ada", at), people.contributor("Ben", at)
        recorded: list[Consent] = []

        def record(contributor: Contributor) -> Consent:
            return grant_consent(
                contributor=contributor, scope="train_generative", valid_from=at, by=None, source="test", at=at
            )

        def record_beside() -> None:
            try:
                recorded.append(record(ben))
            finally:
                connection.close()

        thread = threading.Thread(target=record_beside)
        with transaction.atomic():
            first = record(ada)
            thread.start()
            time.sleep(0.5)
            # It would stand in the feed with a higher number, and the first one would come in below it.
            assert recorded == []
        thread.join(30)
        assert [first.pk, recorded[0].pk] == sorted(Consent.objects.values_list("pk", flat=True))
