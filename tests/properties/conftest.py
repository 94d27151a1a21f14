"""The payouts' machine talks to a sandbox, as the tests of payouts do."""

from tests.payouts.conftest import quick_passwords, sandbox, shared_sandbox

__all__ = ["quick_passwords", "sandbox", "shared_sandbox"]
