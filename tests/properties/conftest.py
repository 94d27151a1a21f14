"""The payouts' machine talks to a sandbox, as the tests of payouts do."""

from tests.payouts.conftest import sandbox, shared_sandbox

__all__ = ["sandbox", "shared_sandbox"]
