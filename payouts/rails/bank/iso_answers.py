"""The bank's answers in XML of ISO 20022: statements (camt.053), notifications (camt.054), statuses (pain.002).

Every version is read: names are compared without their namespace. The parser refuses entities and document types.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from ledger.money import UnableToParseAmount, parse_amount, to_minor
from payouts.rails.bank.answers import (
    CAMT_053,
    CAMT_054,
    PAIN_002,
    Report,
    Reported,
    UnableToReadReport,
    Unbooked,
    is_account,
    is_ours,
    numbered,
    reference_of,
    refuse_account,
)

# Families of bank transactions that bring a transfer back (ExternalBankTransactionSubFamily1Code). An adjustment or a
# reimbursement may be for a fee: without a reason of return it is listed, and a person asks the bank.
RETURNS = {"RRTN", "RPCR"}
_STATEMENTS = {"BkToCstmrStmt": ("Stmt", CAMT_053), "BkToCstmrDbtCdtNtfctn": ("Ntfctn", CAMT_054)}


def read(content: bytes, accounts: frozenset[str]) -> Report:
    """Read the answer of the bank of these accounts (IBANs).

    Raises UnableToReadReport for a broken or hostile file, another message, and another account.
    """
    root = _root(content)
    for element in root.iter():
        if element.tag in _STATEMENTS:
            name, source = _STATEMENTS[element.tag]
            return _statements(element.findall(name), source, accounts)
        if element.tag == "CstmrPmtStsRpt":
            return _statuses(element)
    inner = next((child.tag for child in root), root.tag)
    raise UnableToReadReport(
        f"The XML is a {inner[:40]}. Choose a statement (camt.053), a notification (camt.054) or a status (pain.002)."
    )


def _root(content: bytes) -> Element:
    try:
        root: Element = fromstring(content, forbid_dtd=True)
    except DefusedXmlException as error:
        raise UnableToReadReport("The XML declares a document type or entities, which no bank's answer has.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise UnableToReadReport(
            f"The XML is damaged or ends too early ({error}). Nothing was read; download the file again."
        ) from error
    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
    return root


def _text(element: Element, *paths: str) -> str:
    """Return the first text that stands under one of the paths."""
    return next((found for path in paths if (found := (element.findtext(path) or "").strip())), "")


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _statements(statements: list[Element], source: str, accounts: frozenset[str]) -> Report:
    report = Report()
    named = [_text(one, "Acct/Id/IBAN", "Acct/Id/Othr/Id") for one in statements]
    if not statements:
        raise UnableToReadReport("The file holds no statement.")
    refuse_account(named, accounts)
    for number, (one, account) in enumerate(zip(statements, named, strict=True), start=1):
        if not is_account(account, accounts):
            words = f"It is of another account (… {account[-4:]}) and was not read."
            report.others.append(Unbooked(f"Statement {number}", words))
            continue
        for place, entry in enumerate(one.findall("Ntry"), start=1):
            for found in _entry(entry, f"Statement {number}, entry {place}", source):
                report.add(found)
    report.lines = numbered(report.lines)
    return report


def _entry(entry: Element, place: str, source: str) -> Iterator[Reported | Unbooked]:
    status = _text(entry, "Sts/Cd", "Sts/Prtry", "Sts")
    booked_on = _day(_text(entry, "BookgDt/Dt", "BookgDt/DtTm", "ValDt/Dt", "ValDt/DtTm"))
    if status != "BOOK":
        yield Unbooked(place, f"Not booked yet ({status or 'no status'}). A later statement tells the outcome.")
        return
    if booked_on is None:
        yield Unbooked(place, "It has no day of booking.")
        return
    details = entry.findall("NtryDtls/TxDtls")
    if not details:
        yield _batch(entry, place, source, booked_on)
    for number, one in enumerate(details, start=1):
        where = place if len(details) == 1 else f"{place}, transaction {number}"
        yield _transaction(entry, one, where, source, booked_on, n_together=len(details))


def _batch(entry: Element, place: str, source: str, booked_on: date) -> Reported | Unbooked:
    """One booking of a whole block, without its transactions: it counts where it names our block and has its sum."""
    block = _text(entry, "NtryDtls/Btch/PmtInfId")
    amount = entry.find("Amt")
    if not block or amount is None or _text(entry, "CdtDbtInd") != "DBIT":
        return Unbooked(place, f"{_shown(amount)}: no order of ours, for it has no end-to-end id.")
    try:
        minor = _minor(amount)
    except UnableToParseAmount as error:
        return Unbooked(place, str(error))
    reference = _text(entry, "AcctSvcrRef", "NtryRef")
    return Reported(
        "executed", "", reference, minor, amount.get("Ccy", ""), booked_on, source=source, block_id=block,
        message_id=_text(entry, "NtryDtls/Btch/MsgId"),
    )  # fmt: skip


def _transaction(
    entry: Element, one: Element, place: str, source: str, booked_on: date, *, n_together: int
) -> Reported | Unbooked:
    own_id = _text(one, "Refs/EndToEndId").lower()
    amount = _amount(entry, one, n_together)
    if not is_ours(own_id):
        return Unbooked(place, f"{_shown(amount)}: no order of ours, by its end-to-end id “{own_id[:40]}”.")
    if amount is None:
        return Unbooked(place, f"The order {own_id} has no amount of its own in the batch. Ask the bank for details.")
    try:
        minor = _minor(amount)
    except UnableToParseAmount as error:
        return Unbooked(place, f"The order {own_id}: {error}")
    kind = _kind(entry, one)
    if not kind:
        return Unbooked(
            place,
            f"The order {own_id}: {_shown(amount)} came in without a reason of return. Ask the bank, "
            "then use the table.",
        )
    own_id = own_id.replace("-", "")
    reference = _text(one, "Refs/AcctSvcrRef") or _text(entry, "AcctSvcrRef", "NtryRef")
    return Reported(
        kind=kind,
        end_to_end_id=own_id,
        reference=reference_of(reference, own_id, kind, booked_on),
        amount_minor=minor,
        currency=amount.get("Ccy", ""),
        booked_on=booked_on,
        reason=_reason(one, "RtrInf"),
        source=source,
    )


def _amount(entry: Element, one: Element, n_together: int) -> Element | None:
    for path in ("Amt", "AmtDtls/TxAmt/Amt"):
        if (found := one.find(path)) is not None:
            return found
    return entry.find("Amt") if n_together == 1 else None


def _minor(amount: Element) -> int:
    code = amount.get("Ccy", "")
    return to_minor(parse_amount((amount.text or "").strip(), code), code)


def _shown(amount: Element | None) -> str:
    return "No amount" if amount is None else f"{amount.get('Ccy', '')} {(amount.text or '').strip()}"[:40]


def _kind(entry: Element, one: Element) -> str:
    """Return executed for a debit, returned for a credit that says so, "" for any other credit."""
    is_debit = _text(one, "CdtDbtInd") or _text(entry, "CdtDbtInd")
    family = {_text(each, "BkTxCd/Domn/Fmly/SubFmlyCd") for each in (one, entry)}
    is_back = one.find("RtrInf") is not None or bool(family & RETURNS) or _text(entry, "RvslInd") in ("true", "1")
    if is_debit == "DBIT":
        # A returned debit is a direct debit, and a reversed return is nothing that a transfer of ours can have.
        return "" if is_back else "executed"
    return "returned" if is_back and is_debit == "CRDT" else ""


def _reason(element: Element, name: str) -> str:
    code = _text(element, f"{name}/Rsn/Cd", f"{name}/Rsn/Prtry")
    more = " ".join((each.text or "").strip() for each in element.findall(f"{name}/AddtlInf"))
    return " ".join(part for part in (code, more) if part)[:500]


def _statuses(report: Element) -> Report:
    found = Report()
    made_on = _day(_text(report, "GrpHdr/CreDtTm"))
    message_id = _text(report, "OrgnlGrpInfAndSts/OrgnlMsgId")
    if made_on is None or not message_id:
        raise UnableToReadReport("The status lacks its day (CreDtTm) or the file that it answers (OrgnlMsgId).")
    wholes: list[tuple[Element, str, str, str]] = []
    group = report.find("OrgnlGrpInfAndSts")
    assert group is not None
    wholes.append((group, "The whole file", _text(group, "GrpSts"), ""))
    for number, block in enumerate(report.findall("OrgnlPmtInfAndSts"), start=1):
        block_id = _text(block, "OrgnlPmtInfId")
        for place, one in enumerate(block.findall("TxInfAndSts"), start=1):
            own_id, status = _text(one, "OrgnlEndToEndId").lower(), _text(one, "TxSts")
            where = f"Block {number}, transaction {place}"
            if not is_ours(own_id):
                found.others.append(Unbooked(where, f"No order of ours, by its end-to-end id “{own_id[:40]}”."))
            elif status == "RJCT":
                own_id = own_id.replace("-", "")
                found.lines.append(rejection(own_id, message_id, made_on, _reason(one, "StsRsnInf"), block_id=block_id))
            else:
                found.others.append(Unbooked(where, f"The order {own_id}: {_pending(status)}"))
        wholes.append((block, f"Block {number}", _text(block, "PmtInfSts"), block_id))
    for element, where, status, block_id in wholes:
        if status == "RJCT":
            found.lines.append(rejection("", message_id, made_on, _reason(element, "StsRsnInf"), block_id=block_id))
        elif status:
            found.others.append(Unbooked(where, _pending(status)))
    return found


def rejection(own_id: str, message_id: str, made_on: date, reason: str, *, block_id: str = "") -> Reported:
    """Return the rejection of one order of a file, or of all where `own_id` is empty."""
    return Reported(
        "rejected", own_id, f"RJCT {message_id[-26:]}/{own_id}", None, "", made_on, reason, PAIN_002, message_id,
        block_id,
    )  # fmt: skip


def _pending(status: str) -> str:
    return f"Status {status or 'unknown'} is no outcome. The statement or notification tells the booking."
