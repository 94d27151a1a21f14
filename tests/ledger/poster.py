"""A client that delivers batches of documents to the journal, as a process of its own, until it is killed.

    python -m tests.ledger.poster BATCHES SEED LOG

Every batch is delivered in an order of its own; each acknowledgement is written to LOG before the next one. A killed
poster is simply started again, as a worker is; it delivers again each batch without an acknowledgement.
"""

from __future__ import annotations

import os
import random
import sys
import time
import uuid
from datetime import date
from pathlib import Path
from typing import Any

GENERATIONS_A_BATCH = 12
CREDITS = 5
CONTRIBUTORS = 40


def documents_of(batch: int) -> list[Any]:
    """Return the documents of a batch: the same for every maker."""
    from ledger import journal
    from ledger.documents import Document
    from ledger.journal import AccountKey

    made = random.Random(batch)
    keys = [AccountKey("service_unbilled", "USD", "service:1"), AccountKey("platform_fee", "USD")]
    people = [AccountKey("contributor_accrued", "USD", f"contributor:{n}") for n in range(1, CONTRIBUTORS + 1)]
    chosen = [made.sample(people, CREDITS) for _ in range(GENERATIONS_A_BATCH)]
    needed = [*keys, *sorted({key for keys_of_one in chosen for key in keys_of_one})]
    numbers = dict(zip(needed, journal.open_accounts(needed), strict=True))
    documents = []
    for place, keys_of_one in enumerate(chosen):
        amounts = [made.randint(1, 10**6) for _ in range(CREDITS + 1)]
        documents.append(
            Document(
                generation_id=uuid.UUID(int=(0x01A00000_0000 << 80) | 7 << 76 | 2 << 62 | batch << 16 | place),
                revision=1,
                plan_id=1,
                source_id=numbers[keys[0]],
                gross=sum(amounts),
                account_ids=[numbers[keys[1]], *(numbers[key] for key in keys_of_one)],
                amounts=amounts,
            )
        )
    return documents


def deliver(batch: int) -> int:
    from django.db import transaction

    from ledger import journal

    with transaction.atomic():
        return journal.post_accruals(
            idem_key=f"batch-{batch}",
            effective=date(2026, 11, 20),
            earned_period=202611,
            documents=documents_of(batch),
        ).entry_id


def main(batches: int, seed: int, log: Path) -> None:
    import django

    django.setup()
    from django.db import DatabaseError, InterfaceError, OperationalError, connection

    from ledger.journal import UnableToPost

    order = list(range(batches))
    random.Random(seed).shuffle(order)
    with log.open("a") as acknowledged:
        for batch in order:
            while True:
                try:
                    entry = deliver(batch)
                    break
                except (DatabaseError, InterfaceError, UnableToPost) as error:
                    # A connection that breaks within a call may come as a plain DatabaseError, which has no code.
                    has_code = getattr(error.__cause__, "pgcode", None) is not None
                    if has_code and not isinstance(error, OperationalError | UnableToPost):
                        raise
                    # A terminated backend or a lost race: an unacknowledged batch is delivered again.
                    if isinstance(error, UnableToPost) and error.problem not in {"document-exists", "try-again"}:
                        raise
                    connection.close()
                    # A server that recovers from a crash takes a moment.
                    time.sleep(0.05)
            acknowledged.write(f"{batch} {entry}\n")
            acknowledged.flush()
            os.fsync(acknowledged.fileno())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
