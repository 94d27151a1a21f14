"""The people of the demo: eight authors, eight makers of icons, two people of finance, an auditor and an administrator.

Their passwords and second factors are made at random once and kept beside the data, so that no installation that was
left running can be entered with a password from a public repository.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from config.demo import corpus, pictures

# One maker registered a few icons, which earn less than the threshold. Grant hands in two of Lincoln's addresses as
# reprints.
BELOW_THRESHOLD = next(iter(pictures.FEW))
NOT_ONBOARDED = "Andrew Jackson"
WITHDRAWN = "Thomas Jefferson"
COPIER = "Ulysses S. Grant"


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    email: str
    roles: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Login:
    """How a demo person logs in; `totp_secret` is base32, as an authenticator app takes it."""

    email: str
    password: str
    totp_secret: str


def _email(name: str, domain: str) -> str:
    return f"{name.lower().replace('.', '').replace(' ', '.')}@{domain}"


STAFF = (
    Person("Mara Maker", "maker@finance.example", ("finance_maker",), "builds and executes payout runs"),
    Person("Chidi Checker", "checker@finance.example", ("finance_checker",), "approves runs, closes months"),
    Person("Olu Auditor", "auditor@finance.example", ("auditor",), "reads everything, changes nothing"),
    Person("Ada Admin", "admin@programme.example", ("admin",), "model services and their keys"),
)
NOTES = {
    BELOW_THRESHOLD: "earns less than the least payout",
    NOT_ONBOARDED: "has not finished onboarding with Stripe",
    WITHDRAWN: "withdrew consent after the model was trained",
    COPIER: "two works are copies of Lincoln's",
}
AUTHORS = tuple(
    Person(author.name, _email(author.name, "authors.example"), (), NOTES.get(author.name, "contributor"))
    for author in corpus.AUTHORS
)
MAKERS = tuple(
    Person(maker.name, _email(maker.name, "makers.example"), (), NOTES.get(maker.name, "contributor of icons"))
    for maker in pictures.MAKERS
)
CONTRIBUTORS = (*AUTHORS, *MAKERS)


def logins(path: Path) -> dict[str, Login]:
    """Every demo login by e-mail address, made at the first call and read from `path` afterwards."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # One password for all: a person that tries the demo types it more than once.
        password = "-".join(secrets.token_hex(2) for _ in range(4))
        made = {
            person.email: [password, base64.b32encode(secrets.token_bytes(20)).decode()]
            for person in (*STAFF, *CONTRIBUTORS)
        }
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            json.dump(made, handle, indent=1)
    stored = json.loads(path.read_text())
    return {email: Login(email, password, secret) for email, (password, secret) in stored.items()}


def current_code(totp_secret: str) -> str:
    """The code that an authenticator app would show now."""
    # Built when Django's apps are ready, which the model service never is.
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time

    counter = next(iter(yield_hotp_counters_from_time()))
    return str(format_hotp_value(hotp_value(totp_secret, counter)))
