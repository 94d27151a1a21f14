"""Contracts: recorded, their terms proposed by one person and approved by another, in force from a month on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction
from django.db.models import Max
from django.urls import reverse

from contributors.models import Contributor, Split
from contributors.operations.deciding import acts_for
from ledger import journal
from ledger.models import Contract, ContractTerms, Period, period_of
from ledger.money import ASSETS
from ledger.queries.contract_words import terms_in_words
from ledger.queries.contracts import versions_in_force
from people.actor import lacks_role, logged
from people.models import User
from people.operations.proposals import UnableToDecide, propose
from people.presentation import dates
from people.queries.proposals import FINANCE, ProposalKind

TERMS = (
    "holder_ids", "covers_rest", "recoup_order", "recoup_group", "cross_recoup", "guarantee", "guarantee_currency",
    "guarantee_payer", "guarantee_service", "reserve_ppb", "release_months", "release_ppb", "note",
)  # fmt: skip


class UnableToRecordContract(Exception):
    """The contract has no title, its code is taken or cannot name an account, or the person lacks the role."""

    status = 422
    problem = "contract-invalid"


class UnableToProposeTerms(Exception):
    """The terms contradict each other or the ledger."""

    status = 422
    problem = "terms-invalid"


@logged("contract", "contributor_id", "code", "title")
def record_contract(*, contributor: Contributor, code: str, title: str, by: User, at: datetime) -> Contract:
    """Open a contract of a contributor under a code. It says nothing until its terms are approved."""
    if refusal := lacks_role(by=by, roles=FINANCE):
        raise UnableToRecordContract(refusal)
    contract = Contract(
        contributor=contributor, code=code.strip().lower(), title=title.strip(), recorded_by=by, recorded_at=at
    )
    if Contract.objects.filter(contributor=contributor, code=contract.code).exists():
        raise UnableToRecordContract(f"{contributor} already has a contract “{contract.code}”.")
    try:
        contract.full_clean(validate_unique=False)
    except ValidationError as error:
        raise UnableToRecordContract(broken_rules(error)) from error
    contract.save(force_insert=True)
    return contract


def propose_terms(
    *, contract: Contract, effective_from: date, by: User, at: datetime, terms: Mapping[str, Any]
) -> ContractTerms:
    """Write down a new version of a contract's terms, to begin with a month. `terms` are ContractTerms' fields (see
    TERMS); they move nothing until somebody else approves them.

    Raises UnableToProposeTerms with the rule that is broken.
    """
    if unknown := terms.keys() - set(TERMS):
        raise UnableToProposeTerms(f"Terms have no {', '.join(sorted(unknown))}.")
    if effective_from.day != 1:
        raise UnableToProposeTerms(f"Terms begin with a month, on its first day; not on {effective_from}.")
    with transaction.atomic():
        Contract.objects.select_for_update(no_key=True).get(pk=contract.pk)
        last = contract.versions.aggregate(Max("version"))["version__max"] or 0
        row = ContractTerms(
            contract=contract, version=last + 1, effective_from=effective_from, proposed_by=by, proposed_at=at, **terms
        )
        if row.guarantee_currency and row.guarantee_currency not in ASSETS:
            raise UnableToProposeTerms(f"The ledger keeps no currency {row.guarantee_currency!r}.")
        _check_holders(row)
        # The contract is locked, so that no equal version is proposed meanwhile.
        equal = {name: getattr(row, name) for name in TERMS if name != "note"}
        if contract.versions.filter(state="proposed", effective_from=effective_from, **equal).exists():
            raise UnableToProposeTerms("The same terms are proposed already and wait for somebody to decide them.")
        try:
            row.full_clean(validate_unique=False)
            with transaction.atomic():
                propose(KIND, row)
        except ValidationError as error:
            raise UnableToProposeTerms(broken_rules(error)) from error
        except DatabaseError as error:
            raise UnableToProposeTerms(str(error).splitlines()[0]) from error
    return row


def broken_rules(error: ValidationError) -> str:
    """The names of broken constraints are sentences; they are read out as such."""
    named = (re.sub(r"^Constraint “(.+)” is violated\.$", r"\1", message) for message in error.messages)
    return " ".join(f"{words[0].upper()}{words[1:].replace('_', ' ').rstrip('.')}." for words in named)


def _check_holders(row: ContractTerms) -> None:
    own = set(
        Split.objects.filter(holder_id__in=row.holder_ids, contributor=row.contract.contributor)
        .values_list("holder_id", flat=True)
        .distinct()
    )
    if foreign := sorted(set(row.holder_ids) - own):
        raise UnableToProposeTerms(f"{row.contract.contributor} has no part in holder {foreign[0]}.")


def _hold_contracts(terms: ContractTerms) -> None:
    """Keep sweeps out until commit, and lock the contributor's contracts."""
    with connection.cursor() as cursor:
        # Not while a sweep accrues: it must not meet two versions in one batch.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger accrue'))")
    contracts = Contract.objects.select_for_update(no_key=True).order_by("id")
    list(contracts.filter(contributor=terms.contract.contributor_id))


def _take_effect(terms: ContractTerms, by: User, at: datetime) -> dict[str, Any]:
    """Let the terms take effect from their month on.

    Raises UnableToDecide: the month is closing or closed; a later version is approved already; another contract covers
    the same; the month's earnings are accrued under another contract already.
    """
    # The month cannot begin to close under it.
    journal.hold_still()
    _refuse_if_settled(terms)
    return {}


def _refuse_if_settled(fresh: ContractTerms) -> None:
    month = period_of(fresh.effective_from)
    period = Period.objects.filter(pk=month).first()
    first = Period.objects.order_by("id").first()
    if (period is not None and period.state != Period.State.OPEN) or (first is not None and month < first.pk):
        raise UnableToDecide(f"The month of {fresh.effective_from} is not open; old months keep their terms.")
    before = {row.contract_id: row for row in versions_in_force(month, [fresh.contract.contributor_id])}
    covered = before[fresh.contract_id].holder_ids if fresh.contract_id in before else []
    if set(covered) == set(fresh.holder_ids):
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT e.id FROM ledger_account a JOIN ledger_line l ON l.account_id = a.id"
            " JOIN ledger_entry e ON e.id = l.entry_id WHERE a.kind = 'contributor_accrued' AND a.owner = %s"
            " AND e.n_docs > 0 AND e.earned_period_id >= %s LIMIT 1",
            [f"contributor:{fresh.contract.contributor_id}", month],
        )
        if cursor.fetchone():
            raise UnableToDecide(
                f"The earnings of {fresh.contract.contributor} since {fresh.effective_from} are accrued already, under "
                f"other contracts. Propose terms that begin with a later month."
            )


KIND = ProposalKind(
    key="terms",
    model=ContractTerms,
    name="version of terms",
    heading="Terms of contracts",
    mail="Terms wait for a second person",
    apply=_take_effect,
    lock=_hold_contracts,
    conflict=lambda row, by: acts_for(by=by, contributors=[row.contract.contributor_id]),
    refusal=UnableToProposeTerms,
    unique="",
    title=lambda row: f"{row.contract.title}, version {row.version}",
    summary=lambda row: row.note or f"For {row.contract.contributor}, from {dates.month(row.effective_from)} on.",
    facts=lambda row: [
        ("Contributor", str(row.contract.contributor)),
        ("In force from", dates.month(row.effective_from)),
        *terms_in_words(row),
        ("Note", row.note),
    ],
    effect="Approved terms are never changed. Earlier months keep their terms.",
    approved=lambda row: (
        f"Approved, and in force from {dates.month(row.effective_from)} on. Earlier months keep their terms."
    ),
    page=lambda row: reverse("ledger:terms", args=[row.contract_id, row.version]),
    parent=("Contracts", "ledger:contracts"),
    subject=lambda row: f"contract:{row.contract_id}",
    fields=("version", "effective_from"),
    related=("contract__contributor", "guarantee_service"),
)
