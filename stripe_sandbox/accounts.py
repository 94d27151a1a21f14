"""Connected accounts: created, onboarded, restricted, rejected, disconnected; and their capabilities.

A person's details are accepted where Stripe's schema allows them and are not kept. The sandbox decides by the outcome
that is chosen on the onboarding page or set through the controls. It holds no personal data.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from stripe_sandbox import currencies, refusals
from stripe_sandbox.events import Call, emit, merged
from stripe_sandbox.lists import page, unix
from stripe_sandbox.models import Account, Capability, mint
from stripe_sandbox.refusals import UnableToServe

FIRST_DUE = [
    "business_type",
    "external_account",
    "individual.address.line1",
    "individual.dob.day",
    "individual.email",
    "individual.first_name",
    "individual.last_name",
    "tos_acceptance.date",
    "tos_acceptance.ip",
]
DOCUMENT_DUE = ["individual.verification.document"]
REJECTIONS = {"fraud": "rejected.fraud", "terms_of_service": "rejected.terms_of_service", "other": "rejected.other"}


def next_midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


# --- what is shown ------------------------------------------------------------------------------------------------
def _requirements(account: Account) -> dict[str, Any]:
    return {
        "alternatives": [],
        "current_deadline": unix(account.current_deadline) if account.current_deadline else None,
        "currently_due": account.currently_due,
        "disabled_reason": account.disabled_reason or None,
        "errors": [],
        "eventually_due": [*account.currently_due, *account.eventually_due],
        "past_due": account.past_due,
        "pending_verification": account.pending_verification,
    }


def bank_json(account: Account) -> dict[str, Any]:
    bank = account.bank or {}
    return {
        "id": bank["id"],
        "object": "bank_account",
        "account": account.reference,
        "account_holder_name": None,
        "account_holder_type": None,
        "account_type": None,
        "available_payout_methods": ["standard"],
        "bank_name": "SANDBOX BANK",
        "country": account.country,
        "currency": account.default_currency,
        "default_for_currency": True,
        "fingerprint": hashlib.sha256(f"{account.reference}:{bank['last4']}".encode()).hexdigest()[:16],
        "last4": bank["last4"],
        "metadata": {},
        "routing_number": "110000000",
        "status": bank["status"],
    }


def _banks(account: Account) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [bank_json(account)] if account.bank else [],
        "has_more": False,
        "url": f"/v1/accounts/{account.reference}/external_accounts",
    }


def account_json(account: Account, capabilities: list[Capability] | None = None) -> dict[str, Any]:
    if capabilities is None:
        capabilities = list(Capability.objects.filter(account=account).order_by("name"))
    named = {one.name: one.status for one in capabilities if one.requested}
    tos = account.tos_accepted_at
    return {
        "id": account.reference,
        "object": "account",
        "business_profile": None,
        "business_type": account.business_type or None,
        "capabilities": named,
        "charges_enabled": named.get("card_payments") == "active",
        "controller": {"type": "application", "is_controller": True, **account.controller},
        "country": account.country,
        "created": unix(account.created),
        "default_currency": account.default_currency,
        "details_submitted": account.details_submitted,
        "email": account.email or None,
        "external_accounts": _banks(account),
        "future_requirements": {
            "alternatives": [],
            "current_deadline": unix(account.future_deadline) if account.future_deadline else None,
            "currently_due": account.future_due,
            "disabled_reason": None,
            "errors": [],
            "eventually_due": account.future_due,
            "past_due": [],
            "pending_verification": [],
        },
        "metadata": account.metadata,
        "payouts_enabled": account.payouts_enabled,
        "requirements": _requirements(account),
        "settings": {
            "branding": {"icon": None, "logo": None, "primary_color": None, "secondary_color": None},
            "card_payments": {
                "decline_on": {"avs_failure": False, "cvc_failure": False},
                "statement_descriptor_prefix": None,
                "statement_descriptor_prefix_kana": None,
                "statement_descriptor_prefix_kanji": None,
            },
            "dashboard": {"display_name": None, "timezone": "Etc/UTC"},
            "payments": {
                "statement_descriptor": None,
                "statement_descriptor_kana": None,
                "statement_descriptor_kanji": None,
            },
            "payouts": {
                "debit_negative_balances": account.debit_negative_balances,
                "schedule": {"delay_days": 2, **account.payout_schedule},
                "statement_descriptor": account.statement_descriptor or None,
            },
        },
        "tos_acceptance": {"date": unix(tos) if tos else None, "service_agreement": account.service_agreement},
        "type": account.kind,
    }


def capability_json(capability: Capability, account: Account) -> dict[str, Any]:
    live = capability.status == "active"
    due = [] if live else account.currently_due
    return {
        "id": capability.name,
        "object": "capability",
        "account": account.reference,
        "requested": capability.requested,
        "requested_at": unix(capability.requested_at) if capability.requested_at else None,
        "requirements": {
            "alternatives": [],
            "current_deadline": None,
            "currently_due": due,
            "disabled_reason": None if live else "requirements.fields_needed" if due else "other",
            "errors": [],
            "eventually_due": due,
            "past_due": [] if live else account.past_due,
            "pending_verification": [] if live else account.pending_verification,
        },
        "status": capability.status,
    }


# --- finding ------------------------------------------------------------------------------------------------------
def connected(reference: str) -> Account | None:
    """A connected account that still is one."""
    return Account.objects.filter(reference=reference, is_platform=False, disconnected_at=None).first()


def _account(call: Call, *, lock: bool = False) -> Account:
    accounts = Account.objects.select_for_update(no_key=True) if lock else Account.objects
    found = accounts.filter(reference=call.args["account"], disconnected_at=None).first()
    if found is None or (not call.account.is_platform and call.account != found):
        raise refusals.no_access(call.key, call.args["account"])
    return found


# --- requests -----------------------------------------------------------------------------------------------------
def create_account(call: Call) -> dict[str, Any]:
    params = call.params
    country = params.get("country", "US").upper()
    if country not in currencies.COUNTRY_CURRENCY:
        raise UnableToServe(
            f"Country '{country}' is not supported by the sandbox.", code="country_unsupported", param="country"
        )
    if "type" in params and "controller" in params:
        raise UnableToServe("You may not provide the `type` parameter and `controller` together.", param="type")
    agreement = (params.get("tos_acceptance") or {}).get("service_agreement", "full")
    if agreement not in {"full", "recipient"}:
        raise UnableToServe(f"Invalid service agreement: {agreement}", param="tos_acceptance[service_agreement]")
    requested = {name: asked.get("requested", False) for name, asked in (params.get("capabilities") or {}).items()}
    if not requested and params.get("type") != "standard":
        requested = {"transfers": True}
    account = Account.objects.create(
        kind=params.get("type", "none"),
        controller=_controller(params),
        country=country,
        default_currency=params.get("default_currency", currencies.COUNTRY_CURRENCY[country]).lower(),
        email=params.get("email", ""),
        business_type=params.get("business_type", ""),
        service_agreement=agreement,
        metadata=merged({}, params.get("metadata")),
        currently_due=FIRST_DUE,
        past_due=FIRST_DUE,
        disabled_reason="requirements.past_due",
        next_payout_at=next_midnight(call.at),
        created=call.at,
    )
    asked_for = [
        Capability(account=account, name=name, requested_at=call.at) for name, wanted in requested.items() if wanted
    ]
    Capability.objects.bulk_create(asked_for)
    return account_json(account, asked_for)


def _controller(params: dict[str, Any]) -> dict[str, Any]:
    given = params.get("controller") or {}
    return {
        "fees": {"payer": "account", **given.get("fees", {})},
        "losses": {"payments": "stripe", **given.get("losses", {})},
        "requirement_collection": given.get("requirement_collection", "stripe"),
        "stripe_dashboard": {"type": "full", **given.get("stripe_dashboard", {})},
    }


def get_account(call: Call) -> dict[str, Any]:
    return account_json(_account(call))


def list_accounts(call: Call) -> dict[str, Any]:
    accounts = Account.objects.filter(is_platform=False, disconnected_at=None)
    return page(accounts, call.params, account_json, "/v1/accounts")


def update_account(call: Call) -> dict[str, Any]:
    account, params = _account(call, lock=True), call.params
    account.email = params.get("email", account.email)
    account.business_type = params.get("business_type", account.business_type)
    account.default_currency = params.get("default_currency", account.default_currency)
    account.metadata = merged(account.metadata, params.get("metadata"))
    agreement = (params.get("tos_acceptance") or {}).get("service_agreement", account.service_agreement)
    if agreement != account.service_agreement and account.tos_accepted_at:
        raise UnableToServe(
            "The service agreement cannot be changed once it was accepted.", param="tos_acceptance[service_agreement]"
        )
    account.service_agreement = agreement
    account.save()
    for name, asked in (params.get("capabilities") or {}).items():
        _request(account, name, wanted=asked.get("requested", False), at=call.at)
    shown = account_json(account)
    emit("account.updated", shown, at=call.at, account=account, call=call, previous={})
    return shown


def delete_account(call: Call) -> dict[str, Any]:
    account = _account(call, lock=True)
    account.disconnected_at = call.at
    account.save(update_fields=["disconnected_at"])
    return {"id": account.reference, "object": "account", "deleted": True}


def reject_account(call: Call) -> dict[str, Any]:
    account, reason = _account(call, lock=True), call.params["reason"]
    if reason not in REJECTIONS:
        raise UnableToServe(f"Invalid reason: must be one of {', '.join(REJECTIONS)}", param="reason")
    restrict(account=account, reason=f"rejected.platform_{reason}", at=call.at)
    return account_json(account)


def _request(account: Account, name: str, *, wanted: bool, at: datetime) -> Capability:
    ready = not account.disabled_reason and account.details_submitted
    status = ("active" if ready else "inactive") if wanted else "unrequested"
    capability, _ = Capability.objects.update_or_create(
        account=account, name=name, defaults={"requested": wanted, "status": status, "requested_at": at}
    )
    return capability


def list_capabilities(call: Call) -> dict[str, Any]:
    account = _account(call)
    rows = Capability.objects.filter(account=account).order_by("name")
    return {
        "object": "list",
        "data": [capability_json(one, account) for one in rows],
        "has_more": False,
        "url": f"/v1/accounts/{account.reference}/capabilities",
    }


def get_capability(call: Call) -> dict[str, Any]:
    account, name = _account(call), call.args["capability"]
    found = Capability.objects.filter(account=account, name=name).first()
    if found is None:
        raise refusals.no_such("capability", name, param="capability")
    return capability_json(found, account)


def update_capability(call: Call) -> dict[str, Any]:
    account, name = _account(call, lock=True), call.args["capability"]
    found = Capability.objects.filter(account=account, name=name).first()
    wanted = call.params.get("requested", found.requested if found else True)
    shown = capability_json(_request(account, name, wanted=wanted, at=call.at), account)
    emit("capability.updated", shown, at=call.at, account=account, call=call, previous={})
    return shown


def list_banks(call: Call) -> dict[str, Any]:
    return _banks(_account(call))


# --- what happens to an account -----------------------------------------------------------------------------------
def _settle(account: Account, status: str, *, at: datetime) -> None:
    """Save the account and give every requested capability `status`, each with its event."""
    account.save()
    for capability in Capability.objects.filter(account=account, requested=True).exclude(status=status):
        before, capability.status = capability.status, status
        capability.save(update_fields=["status"])
        shown = capability_json(capability, account)
        emit("capability.updated", shown, at=at, account=account, previous={"status": before})
    emit("account.updated", account_json(account), at=at, account=account, previous={})


def complete(*, account: Account, at: datetime) -> None:
    """Everything was given and found to be in order: money can be sent to the account and on to its bank."""
    account.details_submitted = account.payouts_enabled = True
    account.currently_due = account.past_due = account.pending_verification = []
    account.eventually_due, account.future_due = [], []
    account.current_deadline = account.future_deadline = None
    account.disabled_reason = ""
    account.tos_accepted_at = account.tos_accepted_at or at
    if account.bank is None:
        change_bank(account=account, at=at, tell=False)
    _settle(account, "active", at=at)


def restrict(
    *, account: Account, reason: str, at: datetime, due: list[str] | None = None, pending: bool = False
) -> None:
    """Stripe (or the platform) stops the account for `reason`, one of Stripe's values of `disabled_reason`."""
    account.details_submitted = True
    account.payouts_enabled = False
    account.disabled_reason = reason
    account.current_deadline = None
    account.currently_due = account.past_due = due or []
    account.pending_verification = DOCUMENT_DUE if pending else []
    _settle(account, "pending" if pending else "inactive", at=at)


def change_bank(*, account: Account, at: datetime, tell: bool = True) -> None:
    """A new bank account takes the place of the old one; payouts that a failed bank had stopped go on."""
    first = account.bank is None
    number = int(account.bank["last4"]) + 1 if account.bank else 6789
    account.bank = {"id": mint("ba"), "last4": f"{number % 10_000:04}", "status": "new"}
    if account.details_submitted and not account.disabled_reason.startswith(("rejected", "listed")):
        account.payouts_enabled = True
        account.currently_due = account.past_due = [one for one in account.currently_due if one != "external_account"]
    account.save()
    kind = "account.external_account.created" if first else "account.external_account.updated"
    emit(kind, bank_json(account), at=at, account=account)
    if tell:
        emit("account.updated", account_json(account), at=at, account=account, previous={})


def fail_bank(*, account: Account, at: datetime) -> None:
    """Stop paying to a bank after a returned payout, as Stripe does, until the bank is replaced."""
    account.bank = {**(account.bank or {}), "status": "errored"}
    account.payouts_enabled = False
    account.currently_due = account.past_due = ["external_account"]
    account.save()
    emit("account.external_account.updated", bank_json(account), at=at, account=account)
    emit("account.updated", account_json(account), at=at, account=account, previous={})


def disconnect(*, account: Account, at: datetime) -> None:
    """The person withdraws the platform's access; the platform's key no longer reaches the account."""
    account.disconnected_at = at
    account.save(update_fields=["disconnected_at"])
    application = {"id": "ca_sandbox", "object": "application", "name": "Tributary sandbox"}
    emit("account.application.deauthorized", application, at=at, account=account)


def ask(*, account: Account, at: datetime, days: float, due: list[str], future: bool = False) -> None:
    """Stripe asks for more of an account that goes on being paid: until a day, or only from a day on."""
    deadline = at + timedelta(days=days)
    if future:
        account.future_due, account.future_deadline = due, deadline
    else:
        account.currently_due, account.current_deadline = due, deadline
    account.save()
    emit("account.updated", account_json(account), at=at, account=account, previous={})


def ask_eventually(*, account: Account, at: datetime) -> None:
    """Stripe will want something at some time, without a day."""
    account.eventually_due = DOCUMENT_DUE
    account.save()
    emit("account.updated", account_json(account), at=at, account=account, previous={})


def meet_deadlines(*, account: Account, at: datetime) -> None:
    """A deadline of a locked account has come. The facts still due are past due from then on, and payouts stop."""
    due = account.currently_due if account.current_deadline and account.current_deadline <= at else []
    if account.future_deadline and account.future_deadline <= at:
        due = [*dict.fromkeys([*due, *account.future_due])]
        account.future_due, account.future_deadline = [], None
    if due:
        restrict(account=account, reason="requirements.past_due", due=due, at=at)
    else:
        account.current_deadline = account.current_deadline if account.currently_due else None
        account.save()


def apply(outcome: str, *, account: Account, at: datetime) -> None:
    """One of OUTCOMES happens to a locked account, with its events. Raises KeyError for another word."""
    OUTCOMES[outcome](account=account, at=at)


OUTCOMES: dict[str, Any] = {
    "complete": complete,
    "needs_info": lambda *, account, at: restrict(
        account=account, reason="requirements.past_due", due=DOCUMENT_DUE, at=at
    ),
    "under_review": lambda *, account, at: restrict(account=account, reason="under_review", pending=True, at=at),
    "reject": lambda *, account, at: restrict(account=account, reason="rejected.other", at=at),
    "reject_fraud": lambda *, account, at: restrict(account=account, reason="rejected.fraud", at=at),
    "listed": lambda *, account, at: restrict(account=account, reason="rejected.listed", at=at),
    "listing_review": lambda *, account, at: restrict(account=account, reason="listed", at=at),
    "pause": lambda *, account, at: restrict(account=account, reason="platform_paused", at=at),
    "pause_bank_payouts": lambda *, account, at: restrict(account=account, reason="other", at=at),
    "ask_eventually": ask_eventually,
    "change_bank": change_bank,
    "fail_bank": fail_bank,
    "disconnect": disconnect,
}
