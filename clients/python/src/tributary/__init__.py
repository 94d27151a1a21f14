"""The client of Tributary, the royalty back office of a generative-AI programme."""

from tributary.async_client import AsyncTributary
from tributary.client import Tributary
from tributary.errors import Interrupted, InvalidInput, ProblemError, TributaryError, Unreachable
from tributary.reporting import Counts, Refusal
from tributary.transport import VERSION

__version__ = VERSION

__all__ = [
    "AsyncTributary",
    "Counts",
    "Interrupted",
    "InvalidInput",
    "ProblemError",
    "Refusal",
    "Tributary",
    "TributaryError",
    "Unreachable",
    "__version__",
]
