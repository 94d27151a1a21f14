"""Answers about a whole bank file, or about one of its blocks, become answers about each of its orders."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from xml.etree import ElementTree

from ledger.money import parse_amount, to_minor
from payouts.models import BankFile
from payouts.rails.bank.answers import PAIN_002, Reported, reference_of
from payouts.rails.bank.iso_answers import rejection
from payouts.rails.bank.pain import NAMESPACE
from people import sealing


class UnableToFindOrders(Exception):
    """The answer is about no file of ours, or its sum is not that of the file's orders."""

    status = 409
    problem = "bank-line-not-recorded"


def orders_of(line: Reported) -> list[Reported]:
    """Return the line itself, or one line for each order of the file or the block that it answers.

    Raises UnableToFindOrders for an unknown file or block, and for a booking with another sum.
    """
    if line.end_to_end_id or not (line.message_id or line.block_id):
        return [line]
    file = _file(line)
    amounts = _amounts(file, line.block_id)
    if line.source == PAIN_002:
        return [
            rejection(own_id, file.message_id, line.booked_on, line.reason, block_id=line.block_id)
            for own_id in amounts
        ]
    total, currency = sum(amounts.values(), Decimal(0)), file.run.currency
    if currency != line.currency or to_minor(parse_amount(str(total), currency), currency) != line.amount_minor:
        raise UnableToFindOrders(
            f"The bank booked one sum for {line.block_id or line.message_id}, which orders {currency} {total} in all. "
            "The sums differ; ask the bank for the single transfers."
        )
    return [
        replace(
            line,
            end_to_end_id=own_id,
            amount_minor=to_minor(parse_amount(str(amount), currency), currency),
            reference=reference_of(line.reference, own_id, line.kind, line.booked_on),
            message_id=file.message_id,
        )
        for own_id, amount in amounts.items()
    ]


def _file(line: Reported) -> BankFile:
    """Return the file by its own name, or by that of its block, which is the file's name or begins with it."""
    names = [line.message_id, line.block_id, line.block_id.rpartition("-")[0]]
    found = BankFile.objects.select_related("run").filter(message_id__in=[name for name in names if name]).first()
    if found is None:
        raise UnableToFindOrders(f"No bank file of ours is called {(line.message_id or line.block_id)[:40]}.")
    return found


def _amounts(file: BankFile, block_id: str) -> dict[str, Decimal]:
    space = {"p": NAMESPACE}
    found = {}
    for block in ElementTree.fromstring(sealing.unseal(file.sealed)).iterfind(".//p:PmtInf", space):
        if block_id in ("", block.findtext("p:PmtInfId", "", space)):
            for order in block.iterfind("p:CdtTrfTxInf", space):
                own_id = order.findtext("p:PmtId/p:EndToEndId", "", space)
                found[own_id] = Decimal(order.findtext("p:Amt/p:InstdAmt", "0", space))
    if not found:
        raise UnableToFindOrders(f"The file {file.message_id} has no block called {block_id[:40]}.")
    return found
