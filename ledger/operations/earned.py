"""Move the sums of earnings on over the entries that were posted since."""

from __future__ import annotations

from django.db import DatabaseError, connection, transaction

# About a second of work in one transaction.
FOLD_DOCUMENTS = 2_000


class UnableToSum(Exception):
    """The next entry cannot be summed: its documents are not in the database any more."""

    status = 409
    problem = "earnings-not-summable"


def sum_earnings(*, documents: int = FOLD_DOCUMENTS) -> int:
    """Add the next entries, of about so many documents, to the sums. Returns the number of entries; 0 says that none
    is left, or that another worker is at it.

    Raises UnableToSum where the next entry lacks its documents. The pages stay right meanwhile, and get slower.
    """
    if documents < 1:
        raise UnableToSum(f"A step takes 1 document or more, not {documents}.")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT ledger_fold_earned(%s)", [documents])
            return int(cursor.fetchone()[0])
    except DatabaseError as error:
        if getattr(error.__cause__, "pgcode", None) == "LG007":
            raise UnableToSum(str(error).splitlines()[0]) from error
        raise


def sum_all_earnings() -> int:
    """Add every entry to the sums; returns the number of entries."""
    return sum(iter(sum_earnings, 0))
