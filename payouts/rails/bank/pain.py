"""Payment orders as ISO 20022 pain.001.001.09: plain values in, the file's bytes out, the same for the same values.

It knows nothing of models. `checked` holds the bytes to the official schema (shipped by sepaxml) before anybody sees
them. Names are written in Latin letters, which is all that banks must take (EPC217-08).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from xml.etree import ElementTree

from payouts.rails.bank.numbers import Number

SCHEMA = "pain.001.001.09"
NAMESPACE = f"urn:iso:std:iso:20022:tech:xsd:{SCHEMA}"


class UnableToOrder(Exception):
    """The values make no valid file."""

    status = 422
    problem = "bank-file-invalid"


@dataclass(frozen=True)
class Party:
    name: str
    iban: str
    bic: str = ""
    # The local number of an account without an IBAN.
    local: Number | None = None


@dataclass(frozen=True)
class Order:
    """One credit transfer. `amount` has as many decimals as the currency."""

    instruction_id: str
    end_to_end_id: str
    creditor: Party
    amount: Decimal
    remittance: str


def pain_001(
    *, message_id: str, made_at: datetime, execution_on: date, currency: str, debtor: Party, orders: Sequence[Order]
) -> bytes:
    """The file: one block of payment information, each order in the given order."""
    root = ElementTree.Element("Document", xmlns=NAMESPACE)
    initiation = ElementTree.SubElement(root, "CstmrCdtTrfInitn")
    total = str(sum((order.amount for order in orders), Decimal(0)))
    header = _under(initiation, "GrpHdr")
    _texts(
        header,
        MsgId=message_id,
        CreDtTm=f"{made_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z",
        NbOfTxs=str(len(orders)),
        CtrlSum=total,
    )
    _texts(_under(header, "InitgPty"), Nm=latin(debtor.name, 140))
    block = _under(initiation, "PmtInf")
    _texts(block, PmtInfId=message_id, PmtMtd="TRF", BtchBookg="false", NbOfTxs=str(len(orders)), CtrlSum=total)
    if currency == "EUR":
        _texts(_under(_under(block, "PmtTpInf"), "SvcLvl"), Cd="SEPA")
    _texts(_under(block, "ReqdExctnDt"), Dt=execution_on.isoformat())
    _texts(_under(block, "Dbtr"), Nm=latin(debtor.name, 140))
    _texts(_under(_under(block, "DbtrAcct"), "Id"), IBAN=debtor.iban)
    _agent(block, "DbtrAgt", debtor.bic)
    _texts(block, ChrgBr="SLEV" if currency == "EUR" else "SHAR")
    for order in orders:
        one = _under(block, "CdtTrfTxInf")
        _texts(_under(one, "PmtId"), InstrId=order.instruction_id, EndToEndId=order.end_to_end_id)
        amount = _under(_under(one, "Amt"), "InstdAmt")
        amount.set("Ccy", currency)
        amount.text = str(order.amount)
        if order.creditor.local is not None:
            _local_agent(one, order.creditor.bic, order.creditor.local)
        elif order.creditor.bic:
            _agent(one, "CdtrAgt", order.creditor.bic)
        creditor = _under(one, "Cdtr")
        _texts(creditor, Nm=latin(order.creditor.name, 140))
        if order.creditor.local is not None:
            _tax_number(creditor, order.creditor.local)
            _local_account(one, order.creditor.local)
        else:
            _texts(_under(_under(one, "CdtrAcct"), "Id"), IBAN=order.creditor.iban)
        _texts(_under(one, "RmtInf"), Ustrd=latin(order.remittance, 140))
    ElementTree.indent(root, " ")
    body: bytes = ElementTree.tostring(root, encoding="utf-8")
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        + body.removeprefix(b"<?xml version='1.0' encoding='utf-8'?>\n")
        + b"\n"
    )


def checked(content: bytes) -> bytes:
    """The same bytes, once they follow the schema; raises UnableToOrder otherwise."""
    # The schema is compiled on first use: a second that a web process need not spend while starting.
    from sepaxml.validation import ValidationError, try_valid_xml

    try:
        try_valid_xml(content, SCHEMA)
    except ValidationError as error:
        raise UnableToOrder(f"The file does not follow {SCHEMA}: {error.__cause__ or error}"[:500]) from error
    return content


def latin(text: str, length_max: int) -> str:
    """The text in the letters that every bank takes."""
    from text_unidecode import unidecode

    allowed = "/-?:().,'+ "
    folded = "".join(letter if letter.isalnum() or letter in allowed else " " for letter in unidecode(text))
    return " ".join(folded.split())[:length_max].rstrip() or "NOTPROVIDED"


def _under(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, name)


def _texts(parent: ElementTree.Element, **texts: str) -> None:
    for name, text in texts.items():
        _under(parent, name).text = text


def _agent(parent: ElementTree.Element, name: str, bic: str) -> None:
    institution = _under(_under(parent, name), "FinInstnId")
    if bic:
        _texts(institution, BICFI=bic)
    else:
        _texts(_under(institution, "Othr"), Id="NOTPROVIDED")


def _local_agent(order: ElementTree.Element, bic: str, number: Number) -> None:
    """Name the bank by its BIC, its number in the clearing of its country, or both."""
    institution = _under(_under(order, "CdtrAgt"), "FinInstnId")
    if bic:
        _texts(institution, BICFI=bic)
    if number.clearing:
        member = _under(institution, "ClrSysMmbId")
        _texts(_under(member, "ClrSysId"), Cd=number.clearing)
        _texts(member, MmbId=number.member)


# ExternalCashAccountType1Code of the kinds of account; a kind of one country alone is written as that country does.
_ACCOUNT_TYPES = {("US", "CHECKING"): "CACC", ("US", "SAVINGS"): "SVGS"}


def _local_account(order: ElementTree.Element, number: Number) -> None:
    account = _under(order, "CdtrAcct")
    _texts(_under(_under(account, "Id"), "Othr"), Id=number.account)
    if kind := number.fields.get("account_type"):
        code = _ACCOUNT_TYPES.get((number.country, kind))
        _texts(_under(account, "Tp"), **({"Cd": code} if code else {"Prtry": kind}))


def _tax_number(creditor: ElementTree.Element, number: Number) -> None:
    """Brazil pays only to the tax number of the account's holder: eleven digits of a person, fourteen of a company."""
    if tax_number := number.fields.get("tax_number"):
        kind = "PrvtId" if len(tax_number) == 11 else "OrgId"
        other = _under(_under(_under(creditor, "Id"), kind), "Othr")
        _texts(other, Id=tax_number)
        _texts(_under(other, "SchmeNm"), Cd="TXID")
