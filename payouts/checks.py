"""Findings of `manage.py check --deploy` about the settings that money depends on."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from people.queries.mail import destination

LIVE = ("sk_live_", "rk_live_")


@register("payouts", deploy=True)
def check_keys(app_configs: Any = None, **_: Any) -> list[CheckMessage]:
    """One key to read and one to move money, both restricted; webhook secrets; the accounts of bank transfers."""
    found: list[CheckMessage] = []
    key, read_key = str(settings.STRIPE_SECRET_KEY), str(settings.STRIPE_READ_KEY)
    if key.startswith(LIVE):
        if read_key == key or not read_key:
            found.append(
                Error(
                    "STRIPE_READ_KEY is the key that moves money.",
                    id="payouts.E001",
                    hint="Make a restricted key with read permissions alone, for reconciliation and pages.",
                )
            )
        if not key.startswith("rk_live_"):
            found.append(
                Warning(
                    "STRIPE_SECRET_KEY is an unrestricted key.",
                    id="payouts.W001",
                    hint="A restricted key needs: transfers, accounts, account links, top-ups: write.",
                )
            )
        if not settings.STRIPE_WEBHOOK_SECRETS or not settings.STRIPE_CONNECT_WEBHOOK_SECRETS:
            found.append(Warning("A webhook endpoint has no secret: its deliveries are refused.", id="payouts.W002"))
    if not destination().leaves and "filebased" in settings.EMAIL_BACKEND:
        found.append(
            Warning(
                f"Mails go to {destination().words}.",
                id="payouts.W004",
                hint="Set EMAIL_URL, for example smtp+tls://user:password@mail.internal:587.",
            )
        )
    from payouts.rails import transfers
    from payouts.rails.countries import UnableToReadCountries, at_stripe

    try:
        transfers.rules()
        listed = at_stripe()
        if not listed.countries:
            found.append(
                Warning(
                    f"By the list of countries Stripe pays nobody from {listed.platform}: bank transfers pay all.",
                    id="payouts.W005",
                    hint="Set STRIPE_PLATFORM_COUNTRY to the country of the programme's account at Stripe.",
                )
            )
    except UnableToReadCountries as error:
        found.append(Error(str(error), id="payouts.E003"))
    from payouts.operations.bank_orders import UnableToExport, programme_account
    from payouts.operations.banks import UnableToRecordBankDetails

    for currency in settings.PROGRAMME_ACCOUNTS:
        try:
            programme_account(currency)
        except (UnableToExport, UnableToRecordBankDetails) as error:
            found.append(Error(f"PROGRAMME_ACCOUNTS, {currency}: {error}", id="payouts.E002"))
    if settings.PROGRAMME_ACCOUNTS and not settings.BANK_DETAILS_KEYS:
        found.append(
            Warning(
                "Bank details are sealed under SECRET_KEY.",
                id="payouts.W003",
                hint="Set BANK_DETAILS_KEYS, so that SECRET_KEY can be replaced without losing them.",
            )
        )
    return found
