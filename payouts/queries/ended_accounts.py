"""Accounts at Stripe that came to an end, and whether the present one has to be replaced."""

from __future__ import annotations

from contributors.models import Contributor
from payouts.models import EndedAccount, PayoutAccount
from payouts.queries.hold_reasons import reason_of_disabling

Why = EndedAccount.Why


def why_replaced(account: PayoutAccount) -> str:
    """Return why the present account at Stripe cannot be paid any more: an EndedAccount.Why, or "" where it can.

    Stripe never changes the country or the kind of an account.
    """
    if account.provider_account_id is None:
        return ""
    if account.disabled_reason.startswith("rejected") and reason_of_disabling(account.disabled_reason):
        return Why.REJECTED
    contributor = account.contributor
    opened = account.set_ups.filter(provider_account_id=account.provider_account_id).first()
    country = opened.parameters["country"] if opened else account.country if account.synced_at else contributor.country
    if country != contributor.country:
        return Why.COUNTRY_CHANGED
    if opened and opened.parameters["is_company"] != (contributor.kind == Contributor.Kind.ORGANISATION):
        return Why.KIND_CHANGED
    return Why.DISCONNECTED if account.disconnected_at is not None else ""


# The payee opens a new one alone; after Stripe's own refusal a person of compliance decides.
BY_THE_PAYEE = frozenset({Why.DISCONNECTED, Why.COUNTRY_CHANGED, Why.KIND_CHANGED})


def may_set_up_again(account: PayoutAccount | None) -> bool:
    """Tell whether the payee may replace the account in the portal."""
    return account is not None and why_replaced(account) in BY_THE_PAYEE
