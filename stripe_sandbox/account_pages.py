"""Links and sessions that bring a person to the hosted onboarding page."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from stripe_sandbox import refusals
from stripe_sandbox.accounts import connected
from stripe_sandbox.events import Call
from stripe_sandbox.lists import unix
from stripe_sandbox.models import Account, AccountLink
from stripe_sandbox.refusals import UnableToServe

LINK_LIFE = timedelta(minutes=5)
SESSION_LIFE = timedelta(minutes=30)


def _named_account(call: Call) -> Account:
    account = connected(call.params["account"])
    if account is None:
        raise refusals.no_such("account", call.params["account"], param="account", status=400)
    return account


def _link(call: Call, account: Account, **values: Any) -> AccountLink:
    return AccountLink.objects.create(
        token=secrets.token_urlsafe(24), account=account, created=call.at, expires_at=call.at + LINK_LIFE, **values
    )


def create_account_link(call: Call) -> dict[str, Any]:
    account, params = _named_account(call), call.params
    for name in ("refresh_url", "return_url"):
        if not str(params.get(name, "")).startswith(("http://", "https://")):
            raise UnableToServe("Not a valid URL", code="url_invalid", param=name)
    link = _link(call, account, kind=params["type"], return_url=params["return_url"], refresh_url=params["refresh_url"])
    return {
        "object": "account_link",
        "created": unix(link.created),
        "expires_at": unix(link.expires_at),
        "url": f"{call.base_url}/onboarding/{link.token}",
    }


# Answers of every component of a session, by the kind of its configuration.
_PLAIN = ("account_management", "account_onboarding", "notification_banner")
_COLLECTING = {"disable_stripe_user_authentication": False, "external_account_collection": True}
_PAYOUTS = {
    "disable_stripe_user_authentication": False,
    "edit_payout_schedule": False,
    "external_account_collection": True,
    "instant_payouts": False,
    "standard_payouts": False,
}
_PAYMENTS = {
    "capture_payments": False,
    "destination_on_behalf_of_charge_management": False,
    "dispute_management": False,
    "refund_management": False,
}
_DISPUTES = {
    "destination_on_behalf_of_charge_management": False,
    "dispute_management": False,
    "refund_management": False,
}
_ISSUING = {
    "card_management": False,
    "card_spend_dispute_management": False,
    "cardholder_management": False,
    "spend_control_management": False,
    "disable_stripe_user_authentication": False,
}
_WITHOUT_FEATURES = (
    "balance_report",
    "documents",
    "payout_details",
    "payout_reconciliation_report",
    "payouts_list",
    "tax_registrations",
    "tax_settings",
)
COMPONENTS: dict[str, dict[str, bool]] = {
    **dict.fromkeys(_PLAIN, _COLLECTING),
    **dict.fromkeys(("balances", "payouts"), _PAYOUTS),
    **dict.fromkeys(("payments", "payment_details", "disputes_list"), _PAYMENTS),
    "payment_disputes": _DISPUTES,
    **dict.fromkeys(("issuing_card", "issuing_cards_list"), _ISSUING),
    "financial_account": {
        "disable_stripe_user_authentication": False,
        "external_account_collection": True,
        "send_money": False,
        "transfer_balance": False,
    },
    "financial_account_transactions": {"card_spend_dispute_management": False},
    "instant_payouts_promotion": {
        "disable_stripe_user_authentication": False,
        "external_account_collection": True,
        "instant_payouts": False,
    },
    **{name: {} for name in _WITHOUT_FEATURES},
}


def create_account_session(call: Call) -> dict[str, Any]:
    """The claim with which embedded components are shown. The sandbox has no such components, only the claim."""
    account, asked = _named_account(call), call.params["components"]
    components = {}
    for name, features in COMPONENTS.items():
        given = asked.get(name) or {}
        switched = {one: on for one, on in (given.get("features") or {}).items() if one in features}
        components[name] = {"enabled": given.get("enabled", False), "features": {**features, **switched}}
    return {
        "object": "account_session",
        "account": account.reference,
        "client_secret": f"accs_secret__{secrets.token_urlsafe(24)}",
        "components": components,
        "expires_at": unix(call.at + SESSION_LIFE),
        "livemode": False,
    }
