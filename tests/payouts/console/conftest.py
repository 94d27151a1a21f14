"""The console's payout pages, seen through a browser."""

from tests.ledger.conftest import accrued, programme
from tests.worlds.browser import at, log_in

__all__ = ["accrued", "at", "log_in", "programme"]
