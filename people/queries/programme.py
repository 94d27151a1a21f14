"""Reads of the programme's own data, and of the things at stake."""

from __future__ import annotations

from django.conf import settings
from django.utils.module_loading import import_string

from people.models import Programme, User
from people.presentation.countries import COUNTRIES

LIVE_KEYS = ("sk_live_", "rk_live_")
ADMIN = "admin"


def programme() -> Programme:
    """The programme's row; an empty one, not stored, where nothing was entered yet."""
    return Programme.objects.filter(pk=1).first() or Programme(pk=1)


def on_trial() -> bool:
    """Whether one person tries the programme out, and may do both halves of a two-person act."""
    return Programme.objects.filter(pk=1, on_trial=True).exists()


def has_live_key() -> bool:
    """Whether a Stripe key of this process moves or reads real money."""
    return any(str(key).startswith(LIVE_KEYS) for key in (settings.STRIPE_SECRET_KEY, settings.STRIPE_READ_KEY))


def books_are_empty() -> bool:
    """Whether the ledger holds no entry. The ledger stands above this floor, so a setting names its query."""
    return bool(import_string(settings.BOOKS_ARE_EMPTY)())


def nothing_is_at_stake() -> bool:
    """Whether the books are empty and no live key is set: then a new role can move no money."""
    return not has_live_key() and books_are_empty()


def has_administrator() -> bool:
    return User.objects.filter(groups__name=ADMIN, is_active=True).exists()


def administrators() -> int:
    """Count the people that administer. A stand-in of a trial is nobody."""
    return User.objects.filter(groups__name=ADMIN, is_active=True, stands_for=None).count()


def legal_entity() -> tuple[str, ...]:
    """The lines of the legal entity on every paper: its name, address, country and tax number."""
    row = programme()
    country = [COUNTRIES[row.country]] if row.country in COUNTRIES else []
    number = [f"Tax number {row.tax_number}"] if row.tax_number else []
    return (row.payer, *row.address_lines, *country, *number)


def legal_entity_line() -> str:
    """The legal entity in one line, for a cell of a table."""
    return ", ".join(legal_entity())


def sender_of_papers() -> tuple[str, ...]:
    """The lines of the sender on statements and remittance advices: the legal entity and the site."""
    return (*legal_entity(), str(settings.SITE_URL))
