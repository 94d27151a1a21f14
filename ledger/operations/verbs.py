"""Business verbs: one table of the acts that the staff may record, with debit, credit, amount rule and the people that
decide.

Most verbs need no more than their row. An invoice with tax, a decided hold and an exchange add lines of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from django.db import transaction

from attribution.models import ModelService
from ledger import journal
from ledger.journal import CHART, AccountKey, Draft, Posted
from ledger.models import EntryKind
from ledger.money import asset, to_minor, whole_minor
from ledger.operations.exchange import exchange_lines
from ledger.operations.periods import dated
from people.presentation import amounts

Lines = list[tuple[AccountKey, int]]
MAKERS = ("finance_maker", "finance_checker")
CHECKERS = ("finance_checker",)
CLAIM_MAKERS = (*MAKERS, "compliance")
CLAIM_CHECKERS = (*CHECKERS, "compliance")


class UnableToPostVerb(Exception):
    """There is nothing to move, less than was asked for, or the facts do not fit the verb."""

    status = 409

    def __init__(self, message: str, problem: str = "verb-not-postable") -> None:
        super().__init__(message)
        self.problem = problem


class Amount(Enum):
    """How a verb finds its amount; the value says it in words."""

    GIVEN = "the amount that you enter"
    PAYABLE = "the amount that you enter, in whole cents (or the currency's smallest unit)"
    ALL = "all that stands on the account"
    LESSER = "the lesser of the two balances"
    WHOLE = "all that stands on the account, in whole cents; the rest stays"
    AWARDS = "all that is on hold, divided as you enter"

    @property
    def is_entered(self) -> bool:
        return self in {Amount.GIVEN, Amount.PAYABLE}

    @property
    def is_balance(self) -> bool:
        return self in {Amount.ALL, Amount.LESSER, Amount.WHOLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts that a verb may ask for. Amounts in units of `currency`; `tax` comes on top of an invoice."""

    currency: str
    amount: int = 0
    service: ModelService | None = None
    contributor_id: int | None = None
    work_id: int | None = None
    jurisdiction: str = ""
    tax_kind: str = ""
    tax: int = 0
    payable: bool = True
    awards: Mapping[int, int] = field(default_factory=dict)
    into: str = ""
    rate: str = ""
    source: str = ""

    def owner(self, word: str, reference: str) -> str:
        """Return the owner of an account by its first word, such as "service"; a dispute is named by the reference."""
        names: dict[str, Any] = {
            "": "",
            "service": self.service and self.service.pk,
            "contributor": self.contributor_id,
            "work": self.work_id,
            "dispute": reference,
            "jurisdiction": self.jurisdiction and self.tax_kind and f"{self.jurisdiction}/{self.tax_kind}",
        }
        return f"{word}:{names[word] or ''}" if word else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One row: `debit` and `credit` are kinds of accounts, and `limits` those that the amount must not exceed."""

    key: str
    kind: EntryKind
    group: str
    title: str
    use: str
    debit: str
    credit: str
    amount: Amount = Amount.GIVEN
    limits: tuple[str, ...] = ()
    # Further facts than the owners of the accounts, currency and amount.
    asks: tuple[str, ...] = ()
    checks: str = "The reference is new."
    # The sentence and the problem of a refusal: {service}, {currency}, {account} and {held} are filled in.
    refusal: str = "There is nothing on {account}."
    problem: str = "claim-not-settleable"
    reference: str = "Reference"
    reference_help: str = "The bank's reference or the number of the document. Each is used once."
    proposers: tuple[str, ...] = MAKERS
    approvers: tuple[str, ...] = CHECKERS

    @property
    def debit_title(self) -> str:
        return self.debit.replace("_", " ").capitalize()

    @property
    def credit_title(self) -> str:
        return self.credit.replace("_", " ").capitalize()

    @property
    def amount_words(self) -> str:
        return self.amount.value.capitalize()

    @property
    def facts(self) -> tuple[str, ...]:
        """Name the facts of `Facts` that the verb needs, in the order of a form."""
        fields = {
            "service": ("service",),
            "contributor": ("contributor_id",),
            "work": ("work_id",),
            "jurisdiction": ("jurisdiction", "tax_kind"),
        }
        words = [CHART[kind].owner for kind in (self.debit, self.credit)]
        owners = [name for word in dict.fromkeys(words) for name in fields.get(word, ())]
        if self.amount is Amount.AWARDS:
            owners = []
        return (*owners, "currency", *(("amount",) if self.amount.is_entered else ()), *self.asks)

    def idem_key(self, reference: str, facts: Facts) -> str:
        """Return the key of the entry. A hold has one for each contributor, its decision one for each currency."""
        more = {"open_dispute": f":{facts.contributor_id}", "decide_dispute": f":{facts.currency}"}
        return f"{self.kind}:{reference}{more.get(self.key, '')}"


_SERVICE = "Model services"
_MONEY = "Bank and Stripe"
_CLAIMS = "Contributors"
_HOLDS = "Holds and owners"
_TABLE = (
    Verb(
        key="invoice_service", kind=EntryKind.INVOICE_SERVICE, group=_SERVICE, title="Invoice a model service",
        use="Bill everything that a service has used and that was not billed yet. Tax comes on top.",
        debit="service_receivable", credit="service_unbilled", amount=Amount.WHOLE, limits=("service_unbilled",),
        asks=("tax", "jurisdiction"), reference="Invoice number", reference_help="Each number is used once.",
        checks="At least one cent is unbilled, and tax names its jurisdiction.",
        refusal="{service} has less than a minor unit of {currency} unbilled.", problem="nothing-to-bill",
    ),
    Verb(
        key="collect", kind=EntryKind.COLLECT, group=_SERVICE, title="Collect a payment of an invoice",
        use="A service paid an invoice into the bank account.",
        debit="bank", credit="service_receivable", amount=Amount.PAYABLE, limits=("service_receivable",),
        checks="The service owes at least the amount.",
        refusal="{service} owes {held}, less than the received sum.", problem="nothing-to-bill",
    ),
    Verb(
        key="prefund_service", kind=EntryKind.PREFUND_SERVICE, group=_SERVICE, title="Record a prepayment",
        use="A service paid in advance into the bank account. A deposit settles later invoices.",
        debit="bank", credit="service_deposit",
    ),
    Verb(
        key="apply_deposit", kind=EntryKind.APPLY_DEPOSIT, group=_SERVICE, title="Apply a deposit to invoices",
        use="Settle open invoices of a service from its deposit, as far as it goes.",
        debit="service_deposit", credit="service_receivable", amount=Amount.LESSER,
        limits=("service_deposit", "service_receivable"),
        reference_help="Such as the invoice number. Each is used once.",
        checks="The service has a deposit and owes an invoice.",
        refusal="{service} has no deposit to apply to an invoice in {currency}.", problem="nothing-to-bill",
    ),
    Verb(
        key="write_off_service", kind=EntryKind.WRITE_OFF, group=_SERVICE, title="Write off a service's invoices",
        use="Give up everything that a service owes on its invoices. The programme bears it.",
        debit="programme_cost", credit="service_receivable", amount=Amount.ALL, limits=("service_receivable",),
        checks="The service owes something.",
    ),
    Verb(
        key="capital", kind=EntryKind.CAPITAL, group=_MONEY, title="Record the owners' funding",
        use="The owners of the programme paid money into its bank account.",
        debit="bank", credit="programme_equity",
    ),
    Verb(
        key="sweep_stripe", kind=EntryKind.SWEEP_STRIPE, group=_MONEY, title="Move money from Stripe to the bank",
        use="Stripe paid a part of the programme's balance into its bank account.",
        debit="bank", credit="stripe_balance", reference_help="Stripe's payout id. Each is used once.",
    ),
    Verb(
        key="receive_unidentified", kind=EntryKind.RECEIVE_UNIDENTIFIED, group=_MONEY, title="Record unidentified cash",
        use="Money came in, and its sender or purpose is not known yet.",
        debit="bank", credit="suspense_cash",
    ),
    Verb(
        key="match_cash", kind=EntryKind.MATCH_CASH, group=_MONEY, title="Match unidentified cash to a service",
        use="Unidentified money was a service's payment of its invoices.",
        debit="suspense_cash", credit="service_receivable",
    ),
    Verb(
        key="remit_tax", kind=EntryKind.REMIT_TAX, group=_MONEY, title="Remit tax",
        use="Withheld tax or sales tax was paid to the authority of a jurisdiction.",
        debit="tax_payable", credit="bank", reference_help="The tax period or the bank's reference. Each is used once.",
    ),
    Verb(
        key="exchange_cash", kind=EntryKind.EXCHANGE_CASH, group=_MONEY, title="Exchange cash at Stripe",
        use="A part of the balance at Stripe was exchanged into another currency.",
        debit="fx_clearing", credit="stripe_balance", asks=("into", "rate", "source"), problem="exchange-invalid",
        checks="The rate is above zero and names its source.",
    ),
    Verb(
        key="exchange_debt", kind=EntryKind.EXCHANGE_DEBT, group=_CLAIMS, title="Exchange a payable balance",
        use="A contributor is to be paid in another currency than the one that they earned.",
        debit="contributor_payable", credit="fx_clearing", asks=("into", "rate", "source"), problem="exchange-invalid",
        checks="That much is payable; the rate is above zero and names its source.",
        reference_help="The contributor's request or a ticket. Each is used once.",
    ),
    Verb(
        key="absorb_deficit", kind=EntryKind.ABSORB_DEFICIT, group=_CLAIMS, title="Charge a contributor's deficit",
        use="Stripe charged the programme for a contributor's negative balance. The contributor owes it.",
        debit="contributor_receivable", credit="stripe_balance", reference_help="Stripe's id. Each is used once.",
    ),
    Verb(
        key="write_off_contributor", kind=EntryKind.WRITE_OFF, group=_CLAIMS, title="Write off a contributor's debt",
        use="Forgive everything that a contributor owes. The programme bears it.",
        debit="programme_cost", credit="contributor_receivable", amount=Amount.ALL, limits=("contributor_receivable",),
        checks="The contributor owes something.",
    ),
    Verb(
        key="mark_dormant", kind=EntryKind.MARK_DORMANT, group=_CLAIMS, title="Set a dormant balance aside",
        use="A contributor cannot be reached. Their payable balance is set aside and stays theirs.",
        debit="contributor_payable", credit="unclaimed", amount=Amount.ALL, limits=("contributor_payable",),
        checks="Something is payable to the contributor.", reference_help="Such as the year. Each is used once.",
        proposers=CLAIM_MAKERS, approvers=CLAIM_CHECKERS,
    ),
    Verb(
        key="reclaim", kind=EntryKind.RECLAIM, group=_CLAIMS, title="Return a dormant balance",
        use="The contributor came back. Their unclaimed money is payable again.",
        debit="unclaimed", credit="contributor_payable", amount=Amount.ALL, limits=("unclaimed",),
        checks="The contributor has unclaimed money.", reference_help="Such as a ticket. Each is used once.",
        proposers=CLAIM_MAKERS, approvers=CLAIM_CHECKERS,
    ),
    Verb(
        key="escheat", kind=EntryKind.ESCHEAT, group=_CLAIMS, title="Hand unclaimed money to the state",
        use="Unclaimed money was paid to the state, as its law asks.",
        debit="unclaimed", credit="bank", amount=Amount.ALL, limits=("unclaimed",),
        checks="The contributor has unclaimed money.", proposers=CLAIM_MAKERS, approvers=CLAIM_CHECKERS,
    ),
    Verb(
        key="find_owner", kind=EntryKind.FIND_OWNER, group=_HOLDS, title="Credit an owner who was found",
        use="The owner of an unmatched work was found. Everything that waited for them is accrued to them.",
        debit="suspense_unmatched", credit="contributor_accrued", amount=Amount.ALL, limits=("suspense_unmatched",),
        checks="Money waits for the owner of this work.", reference_help="The claim's number. Each is used once.",
        proposers=CLAIM_MAKERS, approvers=CLAIM_CHECKERS,
    ),
    Verb(
        key="open_dispute", kind=EntryKind.OPEN_DISPUTE, group=_HOLDS, title="Put money on hold",
        use="An amount of a contributor is disputed. It is kept back until the dispute is decided.",
        debit="contributor_payable", credit="on_hold", asks=("payable",), checks="The contributor has that much.",
        reference="Dispute", reference_help="The number of the case; its decision names the same.",
        proposers=CLAIM_MAKERS, approvers=CLAIM_CHECKERS,
    ),
    Verb(
        key="decide_dispute", kind=EntryKind.DECIDE_DISPUTE, group=_HOLDS, title="Pay out money on hold",
        use="A dispute was decided. All of the money on hold becomes payable to the contributors that you name.",
        debit="on_hold", credit="contributor_payable", amount=Amount.AWARDS, asks=("awards",),
        checks="The awards sum to the amount on hold.",
        refusal="The awards sum to {given}; the dispute holds {held}.",
        reference="Dispute", reference_help="The number of the case, as when the money was put on hold.",
        proposers=CLAIM_MAKERS, approvers=CLAIM_CHECKERS,
    ),
)  # fmt: skip
VERBS: dict[str, Verb] = {verb.key: verb for verb in _TABLE}


def verb_named(key: str) -> Verb:
    """Return the verb of a key. Raises UnableToPostVerb for none."""
    if key not in VERBS:
        raise UnableToPostVerb(f"There is no transaction {key!r}.", "verb-unknown")
    return VERBS[key]


def draft_verb(verb: Verb, reference: str, facts: Facts, *, is_new: bool = True) -> Draft:
    """Draft the entry of a verb as the books stand now; its rule is the rate and source of an exchange.

    Raises UnableToPostVerb, UnableToExchange and UnableToParseAmount. The draft of a stored entry (`is_new` False) is
    not compared with balances again.
    """
    lines, rule = _lines(verb, reference, facts, is_new=is_new)
    return Draft(verb.idem_key(reference, facts), lines, reference, rule)


def _lines(verb: Verb, reference: str, facts: Facts, *, is_new: bool) -> tuple[Lines, str]:
    debit, credit = (
        AccountKey(kind, facts.currency, facts.owner(CHART[kind].owner, reference))
        for kind in (verb.debit, verb.credit)
    )
    if "rate" in verb.asks:
        return exchange_lines(debit, credit, amount=facts.amount, into=facts.into, rate=facts.rate, source=facts.source)
    if verb.amount is Amount.AWARDS:
        return _decision(verb, debit, facts, is_new=is_new), ""
    if verb.key == "open_dispute" and not facts.payable:
        debit = AccountKey("contributor_accrued", debit.asset, debit.owner)
    amount = _amount(verb, {debit.kind: debit, credit.kind: credit}, facts, is_new=is_new)
    if verb.key == "invoice_service":
        return _invoice(debit, credit, amount, facts), ""
    return [(debit, -amount), (credit, amount)], ""


def _amount(verb: Verb, accounts: Mapping[str, AccountKey], facts: Facts, *, is_new: bool) -> int:
    if verb.amount is Amount.PAYABLE:
        to_minor(facts.amount, facts.currency)
    if verb.amount.is_entered and not (verb.limits and is_new):
        return facts.amount
    limits = {accounts[kind]: journal.owed(accounts[kind]) for kind in verb.limits}
    least = min(limits, key=lambda key: limits[key])
    held = limits[least]
    amount = facts.amount if verb.amount.is_entered else max(0, held)
    if verb.amount is Amount.WHOLE:
        amount = whole_minor(amount, facts.currency)
    if amount > held or not (amount or verb.amount.is_entered):
        raise UnableToPostVerb(
            verb.refusal.format(
                service=facts.service,
                currency=facts.currency,
                account=least,
                held=amounts.text(held, asset(facts.currency)),
            ),
            verb.problem,
        )
    return amount


def _invoice(receivable: AccountKey, unbilled: AccountKey, amount: int, facts: Facts) -> Lines:
    tax = facts.tax
    if tax < 0 or whole_minor(tax, facts.currency) != tax or bool(tax) != bool(facts.jurisdiction):
        raise UnableToPostVerb(
            "Tax is a whole amount of minor units that is owed to a jurisdiction.", "nothing-to-bill"
        )
    lines = [(receivable, -amount - tax), (unbilled, amount)]
    if tax:
        lines.append((AccountKey("tax_payable", facts.currency, f"jurisdiction:{facts.jurisdiction}/sales"), tax))
    return lines


def _decision(verb: Verb, held: AccountKey, facts: Facts, *, is_new: bool) -> Lines:
    total = sum(facts.awards.values())
    if is_new and total != (stands := journal.owed(held)):
        given, on_hold = (amounts.text(units, asset(facts.currency)) for units in (total, stands))
        raise UnableToPostVerb(verb.refusal.format(given=given, held=on_hold), verb.problem)
    awards = [
        (AccountKey("contributor_payable", facts.currency, f"contributor:{number}"), units)
        for number, units in facts.awards.items()
        if units
    ]
    return [(held, -total), *awards]


def shortfall(verb: Verb, lines: Iterable[tuple[AccountKey, int]]) -> str:
    """Say which account holds less than these lines take out of it; "" where all hold enough."""
    for key, amount in lines:
        kind = CHART[key.kind]
        taken = amount if kind.normal_side == "D" else -amount
        if taken > 0 and (kind.never_negative or key.kind in verb.limits) and (held := journal.owed(key)) < taken:
            stands, wanted = (amounts.text(units, asset(key.asset)) for units in (held, taken))
            return f"An account would fall below its minimum: {key} stands at {stands}, less than {wanted}."
    return ""


def post_draft(*, verb: Verb, draft: Draft, at: datetime) -> Posted:
    """Post the drafted entry of a verb, dated `at`. Raises UnableToPost as the journal does."""
    return journal.post(
        kind=verb.kind,
        idem_key=draft.idem_key,
        effective=dated(at),
        lines=draft.lines,
        reference=draft.reference,
        rule_version=draft.rule_version,
    )


def post_verb(*, verb: str, reference: str, at: datetime, **facts: Any) -> Posted:
    """Draft a verb and post it at once, without a second person: programs do so. `facts` are those of `Facts`.

    Idempotent by `reference`. Raises UnableToPost and the errors of `draft_verb`; no row is written then.
    """
    row = verb_named(verb)
    known = Facts(**facts)
    with transaction.atomic():
        stored = journal.find(row.idem_key(reference, known))
        if stored is not None and row.amount.is_balance:
            return Posted(stored, True)
        journal.hold_still()
        return post_draft(verb=row, draft=draft_verb(row, reference, known, is_new=stored is None), at=at)
