"""Debts and payments of model services: prefunding, invoices, deposits applied, collections."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from attribution.models import ModelService
from ledger import journal
from ledger.journal import AccountKey, Posted, post
from ledger.models import EntryKind
from ledger.money import asset, to_minor, whole_minor
from ledger.operations.periods import dated
from people.presentation import amounts


class UnableToBillService(Exception):
    """There is nothing to invoice, to apply or to collect."""

    status = 409
    problem = "nothing-to-bill"


def _account(kind: str, currency: str, service: ModelService) -> AccountKey:
    return AccountKey(kind, currency, f"service:{service.pk}")


def prefund_service(*, service: ModelService, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """A service paid in advance. Idempotent by `reference` (the bank's)."""
    return post(
        kind=EntryKind.PREFUND_SERVICE,
        idem_key=f"prefund_service:{reference}",
        effective=dated(at),
        lines=[(AccountKey("bank", currency), -amount), (_account("service_deposit", currency, service), amount)],
        reference=reference,
    )


def invoice_service(
    *, service: ModelService, currency: str, reference: str, at: datetime, tax: int = 0, jurisdiction: str = ""
) -> Posted:
    """Invoice all that is unbilled, in whole minor units; the residue stays unbilled. `tax` comes on top.

    Idempotent by `reference` (the invoice's number). Raises UnableToBillService where less than a minor unit is
    unbilled or the tax is not payable as it stands.
    """
    key = f"invoice_service:{reference}"
    with transaction.atomic():
        if (stored := journal.find(key)) is not None:
            return Posted(stored, True)
        journal.hold_still()
        unbilled = _account("service_unbilled", currency, service)
        amount = whole_minor(max(0, journal.owed(unbilled)), currency)
        if not amount:
            raise UnableToBillService(f"{service} has less than a minor unit of {currency} unbilled.")
        if tax < 0 or whole_minor(tax, currency) != tax or bool(tax) != bool(jurisdiction):
            raise UnableToBillService("Tax is a whole amount of minor units that is owed to a jurisdiction.")
        lines = [(_account("service_receivable", currency, service), -amount - tax), (unbilled, amount)]
        if tax:
            lines.append((AccountKey("tax_payable", currency, f"jurisdiction:{jurisdiction}/sales"), tax))
        return post(kind=EntryKind.INVOICE_SERVICE, idem_key=key, effective=dated(at), lines=lines, reference=reference)


def apply_deposit(*, service: ModelService, currency: str, reference: str, at: datetime) -> Posted:
    """Settle the receivable from the service's prefunded money, as far as it goes. Idempotent by `reference`."""
    key = f"apply_deposit:{reference}"
    with transaction.atomic():
        if (stored := journal.find(key)) is not None:
            return Posted(stored, True)
        journal.hold_still()
        deposit = _account("service_deposit", currency, service)
        receivable = _account("service_receivable", currency, service)
        amount = min(journal.owed(deposit), journal.owed(receivable))
        if amount <= 0:
            raise UnableToBillService(f"{service} has no deposit to apply to an invoice in {currency}.")
        return post(
            kind=EntryKind.APPLY_DEPOSIT,
            idem_key=key,
            effective=dated(at),
            lines=[(deposit, -amount), (receivable, amount)],
            reference=reference,
        )


def collect_receivable(*, service: ModelService, amount: int, currency: str, reference: str, at: datetime) -> Posted:
    """A service paid an invoice. Idempotent by `reference` (the bank's). Refused beyond the receivable."""
    key = f"collect:{reference}"
    with transaction.atomic():
        receivable = _account("service_receivable", currency, service)
        if journal.find(key) is None:
            journal.hold_still()
            to_minor(amount, currency)
            if amount > (owed := journal.owed(receivable)):
                raise UnableToBillService(
                    f"{service} owes {amounts.text(owed, asset(currency))}, less than the received sum."
                )
        return post(
            kind=EntryKind.COLLECT,
            idem_key=key,
            effective=dated(at),
            lines=[(AccountKey("bank", currency), -amount), (receivable, amount)],
            reference=reference,
        )
