"""Every request that the product makes to Stripe, as functions from our values to our dataclasses."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from payouts.rails.stripe.client import Guard, guarded, our_errors, reader, sender, writer
from payouts.rails.stripe.errors import UnableToUseStripe
from payouts.rails.stripe.values import (
    Account,
    Balance,
    BalanceTransaction,
    BankTransfer,
    ToppedUp,
    Transfer,
    TransferRequest,
    TransferReversal,
)

PAGE = 100
Read = TypeVar("Read")


def _moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _form(params: Mapping[str, Any]) -> str:
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if isinstance(value, Mapping):
            pairs += [(f"{name}[{inner}]", str(value[inner])) for inner in value]
        else:
            pairs.append((name, str(value)))
    # The SDK leaves square brackets as they are.
    return urllib.parse.urlencode(pairs, safe="[]")


def _text(value: Any) -> str:
    """An id, whether Stripe sent it bare or expanded."""
    if isinstance(value, Mapping):
        return str(value.get("id", ""))
    return str(value or "")


# --- transfers ----------------------------------------------------------------------------------------------------
def transfer_request(
    *, amount_minor: int, currency: str, destination: str, transfer_group: str, metadata: Mapping[str, str]
) -> TransferRequest:
    """Build the request for a transfer of `amount_minor` minor units."""
    return TransferRequest(
        _form(
            {
                "amount": amount_minor,
                "currency": currency.lower(),
                "destination": destination,
                "transfer_group": transfer_group,
                "metadata": dict(metadata),
            }
        )
    )


def reversal_request(*, amount_minor: int, metadata: Mapping[str, str]) -> TransferRequest:
    """Build the request that reverses `amount_minor` minor units of a transfer."""
    return TransferRequest(_form({"amount": amount_minor, "metadata": dict(metadata)}))


def _transfer(raw: Mapping[str, Any]) -> Transfer:
    return Transfer(
        id=str(raw["id"]),
        amount_minor=int(raw["amount"]),
        currency=str(raw["currency"]).upper(),
        destination=_text(raw.get("destination")),
        transfer_group=_text(raw.get("transfer_group")),
        balance_transaction=_text(raw.get("balance_transaction")),
        destination_payment=_text(raw.get("destination_payment")),
        reversed_minor=int(raw.get("amount_reversed") or 0),
        created=_moment(raw.get("created") or 0),
        metadata={str(k): str(v) for k, v in (raw.get("metadata") or {}).items()},
    )


def _reversal(raw: Mapping[str, Any]) -> TransferReversal:
    return TransferReversal(
        id=str(raw["id"]),
        transfer=_text(raw.get("transfer")),
        amount_minor=int(raw["amount"]),
        balance_transaction=_text(raw.get("balance_transaction")),
        created=_moment(raw.get("created") or 0),
        metadata={str(k): str(v) for k, v in (raw.get("metadata") or {}).items()},
    )


def _sent(request: TransferRequest, deadline: float, call: Callable[[], Any], read: Callable[[Any], Read]) -> Read:
    """The answer to a request that moves money: written byte for byte, in its slot, before `deadline` (boot_clock).

    Raises UnableToSend when nothing was written, UnableToUseStripe with the verdict on any answer but success.
    """
    guard = Guard(deadline, request.sha256)
    try:
        with our_errors("write", guard), guarded(guard):
            return read(call().to_dict())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # An unreadable answer says nothing about the effect of the request.
        raise UnableToUseStripe(f"Stripe's answer could not be read: {error!r}") from error


def create_transfer(request: TransferRequest, *, idempotency_key: str, deadline: float) -> Transfer:
    """Send exactly these bytes under this key. Raises as `_sent` does."""

    def call() -> Any:
        return sender().v1.transfers.create(
            request.params,  # type: ignore[arg-type]
            {"idempotency_key": idempotency_key},
        )

    return _sent(request, deadline, call, _transfer)


def reverse_transfer(
    transfer_id: str, request: TransferRequest, *, idempotency_key: str, deadline: float
) -> TransferReversal:
    """Take a transfer back with exactly these bytes under this key. Raises as `_sent` does."""

    def call() -> Any:
        return sender().v1.transfers.reversals.create(
            transfer_id,
            request.params,  # type: ignore[arg-type]
            {"idempotency_key": idempotency_key},
        )

    return _sent(request, deadline, call, _reversal)


def _pages(fetch: Any, params: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every object of a list, page by page."""
    asked = {**params, "limit": PAGE}
    while True:
        with our_errors("read"):
            page = fetch(asked).to_dict()
        rows = page["data"]
        yield from rows
        if not page.get("has_more") or not rows:
            return
        asked["starting_after"] = rows[-1]["id"]


def find_transfers(transfer_group: str) -> list[Transfer]:
    """Every transfer of one payout: the look-up that does not depend on Stripe's memory of a key."""
    return [_transfer(raw) for raw in _pages(reader().v1.transfers.list, {"transfer_group": transfer_group})]


def list_transfers(*, since: datetime, until: datetime | None = None) -> Iterator[Transfer]:
    created = {"gte": int(since.timestamp())}
    if until is not None:
        created["lt"] = int(until.timestamp())
    return (_transfer(raw) for raw in _pages(reader().v1.transfers.list, {"created": created}))


def retrieve_transfer(transfer_id: str) -> Transfer:
    with our_errors("read"):
        return _transfer(reader().v1.transfers.retrieve(transfer_id).to_dict())


def list_reversals(transfer_id: str) -> list[TransferReversal]:
    def fetch(asked: dict[str, Any]) -> Any:
        return reader().v1.transfers.reversals.list(transfer_id, asked)  # type: ignore[arg-type]

    return [_reversal(raw) for raw in _pages(fetch, {})]


# --- balances -----------------------------------------------------------------------------------------------------
def _balance_transaction(raw: Mapping[str, Any]) -> BalanceTransaction:
    return BalanceTransaction(
        id=str(raw["id"]),
        type=str(raw["type"]),
        source=_text(raw.get("source")),
        amount_minor=int(raw["amount"]),
        fee_minor=int(raw.get("fee") or 0),
        currency=str(raw["currency"]).upper(),
        created=_moment(raw.get("created") or 0),
        exchange_rate="" if raw.get("exchange_rate") is None else str(raw["exchange_rate"]),
    )


def list_balance_transactions(
    *, since: datetime | None = None, until: datetime | None = None, account: str = "", payout: str = ""
) -> Iterator[BalanceTransaction]:
    """The platform's balance transactions, or with `account` a connected account's (those of one bank payout)."""
    params: dict[str, Any] = {}
    if since is not None or until is not None:
        params["created"] = {}
        if since is not None:
            params["created"]["gte"] = int(since.timestamp())
        if until is not None:
            params["created"]["lt"] = int(until.timestamp())
    if payout:
        params["payout"] = payout

    def fetch(asked: dict[str, Any]) -> Any:
        options: Any = {"stripe_account": account} if account else {}
        return reader().v1.balance_transactions.list(asked, options)  # type: ignore[arg-type]

    return (_balance_transaction(raw) for raw in _pages(fetch, params))


def balance(account: str = "") -> Balance:
    options: Any = {"stripe_account": account} if account else {}
    with our_errors("read"):
        raw = reader().v1.balance.retrieve({}, options).to_dict()

    def by_currency(rows: Any) -> dict[str, int]:
        sums: dict[str, int] = {}
        for row in rows or []:
            code = str(row["currency"]).upper()
            sums[code] = sums.get(code, 0) + int(row["amount"])
        return sums

    return Balance(by_currency(raw.get("available")), by_currency(raw.get("pending")))


def _topped_up(raw: Mapping[str, Any]) -> ToppedUp:
    return ToppedUp(
        id=str(raw["id"]),
        amount_minor=int(raw["amount"]),
        currency=str(raw["currency"]).upper(),
        state=str(raw["status"]),
        key=str((raw.get("metadata") or {}).get("topup") or ""),
    )


def create_topup(*, amount_minor: int, currency: str, description: str, idempotency_key: str) -> ToppedUp:
    """Ask Stripe for a top-up of `amount_minor` minor units. The key also stands in its metadata."""
    with our_errors("write"):
        raw = (
            writer()
            .v1.topups.create(
                {
                    "amount": amount_minor,
                    "currency": currency.lower(),
                    "description": description,
                    "metadata": {"topup": idempotency_key},
                },
                {"idempotency_key": idempotency_key},
            )
            .to_dict()
        )
    return _topped_up(raw)


def retrieve_topup(topup_id: str) -> ToppedUp:
    with our_errors("read"):
        return _topped_up(reader().v1.topups.retrieve(topup_id).to_dict())


def list_topups(*, since: datetime) -> Iterator[ToppedUp]:
    params = {"created": {"gte": int(since.timestamp())}}
    return (_topped_up(raw) for raw in _pages(reader().v1.topups.list, params))


# --- connected accounts -------------------------------------------------------------------------------------------
def _account(raw: Mapping[str, Any]) -> Account:
    if raw.get("deleted"):
        # Stripe answers so for an account that was deleted a short while ago.
        raise UnableToUseStripe(f"The account {raw['id']} was deleted.", http_status=404, code="resource_missing")
    requirements = dict(raw.get("requirements") or {})
    banks = (raw.get("external_accounts") or {}).get("data") or []
    bank = next((row for row in banks if row.get("default_for_currency")), banks[0] if banks else None)
    return Account(
        id=str(raw["id"]),
        country=str(raw.get("country") or ""),
        default_currency=str(raw.get("default_currency") or "").upper(),
        transfers_capability=str((raw.get("capabilities") or {}).get("transfers") or "unrequested"),
        payouts_enabled=bool(raw.get("payouts_enabled")),
        details_submitted=bool(raw.get("details_submitted")),
        disabled_reason=str(requirements.get("disabled_reason") or ""),
        requirements=_requirements(requirements),
        future_requirements=_requirements(dict(raw.get("future_requirements") or {})),
        bank_fingerprint=f"{bank['id']}:{bank.get('last4', '')}" if bank else "",
        bank_number=str(bank.get("fingerprint") or "") if bank else "",
        set_up=str((raw.get("metadata") or {}).get("set_up") or ""),
    )


def _requirements(raw: Mapping[str, Any]) -> dict[str, Any]:
    names = ("currently_due", "past_due", "eventually_due", "pending_verification", "errors")
    return {name: raw.get(name) or [] for name in names} | {"current_deadline": raw.get("current_deadline")}


def create_account(
    *,
    country: str,
    email: str,
    is_company: bool,
    metadata: Mapping[str, str],
    idempotency_key: str,
    agreement: str = "full",
) -> Account:
    """A connected account that only receives transfers: the fewest questions that Stripe can ask."""
    with our_errors("write"):
        answer = writer().v1.accounts.create(
            {
                "controller": {
                    "fees": {"payer": "application"},
                    "losses": {"payments": "application"},
                    "stripe_dashboard": {"type": "express"},
                },
                "capabilities": {"transfers": {"requested": True}},
                "country": country,
                "business_type": "company" if is_company else "individual",
                "metadata": dict(metadata),
                **({"email": email} if email else {}),
                **({"tos_acceptance": {"service_agreement": agreement}} if agreement != "full" else {}),
            },
            {"idempotency_key": idempotency_key},
        )
        return _account(answer.to_dict())


def account_link(account_id: str, *, refresh_url: str, return_url: str) -> str:
    """A single-use address of Stripe's onboarding pages. Each call has a key of its own: a link is never given twice,
    and a failure never stays."""
    with our_errors("write"):
        link = writer().v1.account_links.create(
            {
                "account": account_id,
                "type": "account_onboarding",
                "refresh_url": refresh_url,
                "return_url": return_url,
            },
            {"idempotency_key": f"link_{uuid4().hex}"},
        )
        return str(link.url)


def list_accounts(*, since: datetime) -> Iterator[Account]:
    """List the connected accounts that were opened since a moment, the newest first."""
    params = {"created": {"gte": int(since.timestamp())}}
    return (_account(raw) for raw in _pages(reader().v1.accounts.list, params))


def retrieve_account(account_id: str) -> Account:
    with our_errors("read"):
        return _account(reader().v1.accounts.retrieve(account_id).to_dict())


def _bank_transfer(raw: Mapping[str, Any]) -> BankTransfer:
    return BankTransfer(
        id=str(raw["id"]),
        amount_minor=int(raw["amount"]),
        currency=str(raw["currency"]).upper(),
        state=str(raw["status"]),
        arrives_on=_moment(raw["arrival_date"]).date() if raw.get("arrival_date") else None,
        failure_code=str(raw.get("failure_code") or ""),
        failure_message=str(raw.get("failure_message") or ""),
        trace_id=_text((raw.get("trace_id") or {}).get("value") if raw.get("trace_id") else ""),
        made_at=_moment(raw.get("created") or 0),
        automatic=bool(raw.get("automatic", True)),
    )


def retrieve_bank_transfer(payout_id: str, *, account: str) -> BankTransfer:
    with our_errors("read"):
        options: Any = {"stripe_account": account}
        return _bank_transfer(reader().v1.payouts.retrieve(payout_id, {}, options).to_dict())


# --- events -------------------------------------------------------------------------------------------------------
def list_events(*, since: datetime, account: str = "") -> Iterator[dict[str, Any]]:
    """The events of the last 30 days at most, newest first, as Stripe would have delivered them."""

    def fetch(asked: dict[str, Any]) -> Any:
        options: Any = {"stripe_account": account} if account else {}
        return reader().v1.events.list(asked, options)  # type: ignore[arg-type]

    return (dict(raw) for raw in _pages(fetch, {"created": {"gte": int(since.timestamp())}}))
