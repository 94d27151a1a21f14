"""Payment orders as ISO 20022 pain.001.001.09: plain values in, the file's bytes out, the same for the same values.

It knows nothing of models. `checked` holds the bytes to the official schema (shipped by sepaxml) before anybody sees
them. Names are written in Latin letters, which is all that banks must take (EPC217-08). SEPA transfers stand in a block
of their own, because other transfers have another service level, other charges and longer names.
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
class Address:
    """A postal address in parts, as banks want it (PstlAdr); `country` is a code of ISO 3166."""

    town: str
    country: str
    street: str = ""
    building: str = ""
    post_code: str = ""


@dataclass(frozen=True)
class Party:
    name: str
    iban: str
    bic: str = ""
    # The local number of an account without an IBAN.
    local: Number | None = None
    address: Address | None = None

    @property
    def country(self) -> str:
        """The country of the account."""
        return self.local.country if self.local is not None else self.iban[:2]


@dataclass(frozen=True)
class Order:
    """One credit transfer. `amount` has as many decimals as the currency."""

    instruction_id: str
    end_to_end_id: str
    creditor: Party
    amount: Decimal
    remittance: str
    is_sepa: bool = False


# The letters of a name that a bank takes, in a SEPA transfer and in any other (EPC132-08; ISO 20022 Max140Text).
NAME_MAX, SEPA_NAME_MAX = 140, 70


def name_max(*, sepa: bool) -> int:
    """Return how many letters a name may have."""
    return SEPA_NAME_MAX if sepa else NAME_MAX


def why_not_name(name: str, *, sepa: bool) -> str:
    """Tell why banks cannot take a name, or ""."""
    written = latin(name)
    if not written:
        return f"“{name}” has no letter that a bank takes. Write it in Latin letters."
    if len(written) > name_max(sepa=sepa):
        return (
            f"“{written}” has {len(written)} letters; a bank takes {name_max(sepa=sepa)}. Write a shorter name, as the "
            "account's bank knows it."
        )
    return ""


def pain_001(
    *,
    message_id: str,
    made_at: datetime,
    execution_on: date,
    currency: str,
    debtor: Party,
    orders: Sequence[Order],
    other_service_level: str = "",
) -> bytes:
    """The file: a block of SEPA transfers and a block of the others, each with its orders in the given order.

    Raises UnableToOrder for a name that a bank cannot take.
    """
    root = ElementTree.Element("Document", xmlns=NAMESPACE)
    initiation = ElementTree.SubElement(root, "CstmrCdtTrfInitn")
    is_sepa = any(order.is_sepa for order in orders)
    header = _under(initiation, "GrpHdr")
    _texts(
        header,
        MsgId=message_id,
        CreDtTm=f"{made_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z",
        NbOfTxs=str(len(orders)),
        CtrlSum=_total(orders),
    )
    _texts(_under(header, "InitgPty"), Nm=_name(debtor.name, sepa=is_sepa))
    for number, sepa in enumerate(sorted({order.is_sepa for order in orders}, reverse=True), start=1):
        part = [order for order in orders if order.is_sepa == sepa]
        block = _under(initiation, "PmtInf")
        block_id = message_id if number == 1 else f"{message_id}-{number}"
        _texts(block, PmtInfId=block_id, PmtMtd="TRF", BtchBookg="false", NbOfTxs=str(len(part)), CtrlSum=_total(part))
        if level := "SEPA" if sepa else other_service_level:
            _texts(_under(_under(block, "PmtTpInf"), "SvcLvl"), Cd=level)
        _texts(_under(block, "ReqdExctnDt"), Dt=execution_on.isoformat())
        _texts(_under(block, "Dbtr"), Nm=_name(debtor.name, sepa=sepa))
        _texts(_under(_under(block, "DbtrAcct"), "Id"), IBAN=debtor.iban)
        _agent(block, "DbtrAgt", debtor.bic)
        _texts(block, ChrgBr="SLEV" if sepa else "SHAR")
        for order in part:
            _transfer(block, order, currency)
    ElementTree.indent(root, " ")
    body: bytes = ElementTree.tostring(root, encoding="utf-8")
    return (
        b'<?xml version="1.0" encoding="UTF-8"?>\n'
        + body.removeprefix(b"<?xml version='1.0' encoding='utf-8'?>\n")
        + b"\n"
    )


def _total(orders: Sequence[Order]) -> str:
    return str(sum((order.amount for order in orders), Decimal(0)))


def _name(name: str, *, sepa: bool) -> str:
    if refusal := why_not_name(name, sepa=sepa):
        raise UnableToOrder(refusal)
    return latin(name)


def _transfer(block: ElementTree.Element, order: Order, currency: str) -> None:
    one = _under(block, "CdtTrfTxInf")
    _texts(_under(one, "PmtId"), InstrId=order.instruction_id, EndToEndId=order.end_to_end_id)
    amount = _under(_under(one, "Amt"), "InstdAmt")
    amount.set("Ccy", currency)
    amount.text = str(order.amount)
    to = order.creditor
    if to.local is not None:
        _local_agent(one, to.bic, to.local)
    elif to.bic:
        _agent(one, "CdtrAgt", to.bic)
    creditor = _under(one, "Cdtr")
    _texts(creditor, Nm=_name(to.name, sepa=order.is_sepa))
    if to.address is not None:
        _address(creditor, to.address)
    if to.local is not None:
        _tax_number(creditor, to.local)
        _local_account(one, to.local)
    else:
        _texts(_under(_under(one, "CdtrAcct"), "Id"), IBAN=to.iban)
    _texts(_under(one, "RmtInf"), Ustrd=latin(order.remittance)[:140].rstrip() or "NOTPROVIDED")


def _address(creditor: ElementTree.Element, address: Address) -> None:
    """Write the parts that are given, in the order of PostalAddress24."""
    parts = {
        "StrtNm": latin(address.street),
        "BldgNb": latin(address.building),
        "PstCd": latin(address.post_code),
        "TwnNm": latin(address.town),
        "Ctry": address.country,
    }
    _texts(_under(creditor, "PstlAdr"), **{name: text for name, text in parts.items() if text})


def checked(content: bytes) -> bytes:
    """The same bytes, once they follow the schema; raises UnableToOrder otherwise."""
    # The schema is compiled on first use: a second that a web process need not spend while starting.
    from sepaxml.validation import ValidationError, try_valid_xml

    try:
        try_valid_xml(content, SCHEMA)
    except ValidationError as error:
        raise UnableToOrder(f"The file does not follow {SCHEMA}: {error.__cause__ or error}"[:500]) from error
    return content


def latin(text: str) -> str:
    """The text in the letters that every bank takes; empty where it has none."""
    from text_unidecode import unidecode

    allowed = "/-?:().,'+ "
    folded = "".join(letter if letter.isalnum() or letter in allowed else " " for letter in unidecode(text))
    return " ".join(folded.split())


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
