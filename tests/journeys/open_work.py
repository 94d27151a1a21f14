"""One of each thing that waits for a decision, in the books of the installation, so that each page shows something.

All of it is in euros or of people of its own, so that the payout run of the journeys stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from allauth.mfa.totp.internal.auth import TOTP
from django.test import override_settings
from django.utils import timezone

from attribution.models import Generation
from contributors.models import PPB, Contributor
from contributors.operations import members, people, splits
from contributors.operations.links import propose_link
from contributors.operations.works import register_dataset, register_works
from ledger.journal import AccountKey
from ledger.models import Period
from ledger.money import parse_amount
from ledger.operations import (
    advances,
    contracts,
    corrections,
    disputes,
    manual,
    plans,
    pools,
    previews,
    taxes,
    verb_proposals,
    voids,
)
from payouts.models import Difference, Notice, PayoutAccount, PayoutRun, TopUp, WebhookEvent
from payouts.operations import approval, bank_files, banks, building, holds, links, policies, runs
from payouts.queries.policies import FIGURES, terms_in_force
from people import actor
from people.models import STAFF_ROLES, Invitation, User
from people.operations import invitations, staff, users
from people.operations.proposals import approve
from tests.journeys.conftest import PASSWORD, TOTP_SECRET, Site
from tests.worlds.manual import post_by_hand
from tests.worlds.people import text_work
from tests.worlds.world import ADDRESS

SEEN = actor.Presence(mfa_age_seconds=0)
FIVE = parse_amount("5", "EUR")


@dataclass(frozen=True)
class Left:
    """The people with the open work on their pages, and the addresses of mails to people without an account."""

    owner: User
    payee_by_bank: User
    joining: tuple[str, ...]


def leave_open(site: Site) -> Left:
    """Propose, contest and dispute one of each."""
    at = timezone.now()
    clerk = users.register_user(email="clerk@finance.example", password=PASSWORD, roles=STAFF_ROLES, at=at)
    second = users.register_user(email="second@finance.example", password=PASSWORD, roles=STAFF_ROLES, at=at)
    # A new factor of staff waits for the confirmation of somebody else.
    new = users.register_user(email="new@finance.example", password=PASSWORD, roles=["auditor"], at=at)
    TOTP.activate(new, TOTP_SECRET)
    owner = users.register_user(email="bronte@authors.example", password=PASSWORD, name="C. Brontë", at=at)
    anne = users.register_user(email="anne@authors.example", password=PASSWORD, name="A. Brontë", at=at)
    ada, ben, branwell, bank = (
        people.register_contributor(
            user=user, kind="person", legal_name=name, display_name=name, country=country, at=at
        )
        for user, name, country in (
            (owner, "Charlotte Brontë", "DE"),
            (owner, "Emily Brontë", "DE"),
            (owner, "Branwell Brontë", "DE"),
            (anne, "Anne Brontë", "BR"),
        )
    )
    _in_the_books(site, clerk, second, ada)
    _of_the_contributors(site, clerk, owner, ada, ben)
    _of_the_payouts(clerk, second, owner, ada, ben, bank)
    _onboarded(branwell, "acct_branwell")
    _of_the_runs(clerk, second, [ada, branwell], bank)
    return Left(owner, anne, _invitations(ada, owner, clerk, second))


def _invitations(ada: Contributor, owner: User, clerk: User, second: User) -> tuple[str, ...]:
    """Invite a member and a member of staff. Returns the addresses in their mails, without the site."""
    at = timezone.now()
    member = members.invite_member(contributor=ada, email="nell@authors.example", role="manager", by=owner, at=at)
    asked = staff.propose_invitation(
        email="bell@finance.example", name="", roles=["auditor"], reason="", by=clerk, at=at, seen=SEEN
    )
    approve(asked, by=second, at=at, seen=SEEN)
    joining = Invitation.objects.get(email="bell@finance.example")
    return tuple(
        urlsplit(invitations.new_address(invitation, at=at)).path for invitation in (member.invitation, joining)
    )


def _in_the_books(site: Site, clerk: User, second: User, payee: Contributor) -> None:
    at = timezone.now()
    by: dict[str, Any] = {"by": clerk, "at": at}
    month = Period.objects.get(starts__lte=at.date(), ends__gt=at.date())
    terms = {"basis": "price", "price": parse_amount("2.00", "EUR"), "take_ppb": PPB // 5, "floor_ppb": PPB // 5}
    proposed = plans.propose_plan(currency="EUR", effective_from=at + timedelta(days=3), terms=terms, **by)
    previews.request_preview(plan=proposed, period=month, **by)
    pool_terms = {"basis": "period_pool", "price": None, "take_ppb": PPB // 5, "floor_ppb": PPB // 5}
    pool_plan = plans.propose_plan(currency="CHF", effective_from=at, terms=pool_terms, **by)
    pool_plan = approve(pool_plan, by=second, at=at)
    pools.propose_pool(plan=pool_plan, period=month, amount=500, **by)
    contract = contracts.record_contract(contributor=payee, code="first-book", title="First book", **by)
    contracts.propose_terms(contract=contract, effective_from=month.ends, terms={}, **by)
    paid: dict[str, Any] = {"contract": contract, "currency": "EUR", "reason": "agreed"}
    advances.propose_advance(amount=FIVE, reference="clause 4", **paid, **by)
    granted = advances.propose_advance(amount=2 * FIVE, reference="clause 5", **paid, **by)
    granted = approve(granted, by=second, at=at)
    advances.propose_cancellation(advance=granted, way="take_back", reason="fell through", **by)
    owed = AccountKey("contributor_payable", "EUR", f"contributor:{payee.pk}")
    lines = [(AccountKey("programme_cost", "EUR"), -5), (owed, 5)]
    manual.propose_manual_entry(lines=lines, reason="a letter", reference="letter 1", **by)
    verb_proposals.propose_verb(verb="capital", reference="second", currency="EUR", amount=FIVE, **by)
    taxes.propose_withholding_rate(jurisdiction="US", rate_ppb=PPB // 10, effective_from=at.date(), **by)
    generations = Generation.objects.order_by("pk")
    voids.propose_void(generation=generations[0], reason="test", detail="a load test", **by)
    index = site.programme.model_version.indexes.get(serving=True)
    corrections.propose_restatement(index=index, since=at - timedelta(days=1), reason="finer", **by)


def _of_the_contributors(site: Site, clerk: User, owner: User, ada: Contributor, ben: Contributor) -> None:
    at = timezone.now()
    dataset = register_dataset(contributor=ada, name="Novels", description="", licence="CC-BY-4.0", at=at)
    works = register_works(dataset=dataset, works=[text_work(1, "Shirley"), text_work(2, "Villette")], at=at)
    halves = {ada: PPB // 2, ben: PPB // 2}
    duo = people.register_holder(contributor=ada, label="Sisters", parts=halves, effective_from=at, at=at)
    splits.contest_share(holder=duo, claimant=ada, against=ben, ppb=PPB // 4, reason="I wrote it", by=owner, at=at)
    splits.propose_split_sheet(contributor=ada, parts=halves, effective_from=at, work=works[0], by=owner, at=at)
    agreed = splits.propose_split_sheet(
        contributor=ada, parts=halves, effective_from=at, work=works[1], by=owner, at=at
    )
    splits.answer_split_sheet(proposal=agreed, contributor=ben, agrees=True, by=owner, at=at)
    generation = Generation.objects.order_by("pk")[1]
    first = site.programme.contributors[0]
    disputes.dispute_receipt(
        contributor=first, generation_id=generation.pk, words="It is not mine.", by=site.contributor, at=at
    )


def _of_the_payouts(
    clerk: User, second: User, owner: User, ada: Contributor, ben: Contributor, bank: Contributor
) -> None:
    at = timezone.now()
    by: dict[str, Any] = {"by": clerk, "at": at, "seen": SEEN}
    _policy("EUR", clerk, second)
    figures = {name: getattr(terms_in_force("EUR"), name) for name in FIGURES}
    policies.propose_policy(currency="EUR", figures=figures, reason="fewer fees", **by)
    propose_link(contributors=[ada, ben], reason="The same passport.", by=clerk, at=at)
    approve(propose_link(contributors=[ada, bank], reason="One address.", by=clerk, at=at), by=second, at=at, seen=SEEN)
    for account in (ben, bank):
        links.note_tax_number(contributor=account, country="DE", number="12345678903", at=at)
    holds.place_hold(contributor=ben, reason="fraud_review", **by)
    Notice.objects.create(
        contributor=ada,
        kind="month_sealed",
        subject=f"month:long:{ada.pk}",
        words=f"The root is {'5a' * 32}.",
        created_at=at,
    )
    Difference.objects.create(
        type="amount", currency="EUR", subject="tr_1", words="Our amount is not Stripe's.", found_at=at
    )
    TopUp.objects.create(currency="EUR", amount_minor=500, state="found", provider_topup_id="tu_1", requested_at=at)
    WebhookEvent.objects.create(
        endpoint="connect",
        event_id="evt_1",
        type="payout.paid",
        object_id="po_1",
        created=at,
        received_at=at,
        livemode=False,
        payload="{}",
        state="dead",
        error="Nothing here knows po_1.",
    )
    _onboarded(ada, "acct_bronte")
    banks.record_bank_details(
        contributor=bank,
        holder_name=bank.legal_name,
        iban="GB33BUKB20201555555555",
        address=ADDRESS,
        by=bank.memberships.get().user,
        at=at,
    )


def _onboarded(contributor: Contributor, account: str) -> None:
    PayoutAccount.objects.create(
        contributor=contributor,
        provider_account_id=account,
        country=contributor.country,
        destination_currency="EUR",
        transfers_capability="active",
        payouts_enabled=True,
        details_submitted=True,
        created_at=timezone.now(),
    )


def _of_the_runs(clerk: User, second: User, by_stripe: list[Contributor], bank: Contributor) -> None:
    """Leave one run in each state, each in a currency of its own."""
    for currency in ("EUR", "GBP", "CHF", "PLN", "SEK", "NOK", "DKK"):
        if currency != "EUR":
            _policy(currency, clerk, second)
        for payee in (*by_stripe, bank):
            owed = AccountKey("contributor_payable", currency, f"contributor:{payee.pk}")
            post_by_hand([(AccountKey("programme_cost", currency), -3 * FIVE), (owed, 3 * FIVE)], timezone.now())
    _built("GBP", "stripe_transfer", clerk)
    _submitted("EUR", "stripe_transfer", clerk)
    _approved("CHF", "stripe_transfer", clerk, second)
    _executing("PLN", clerk, second)
    # A file that is at the bank, and one that waits to be handed over.
    account = "DE89370400440532013000"
    with override_settings(PROGRAMME_ACCOUNTS={"NOK": account, "SEK": account}):
        files = [
            bank_files.export_bank_file(run=_executing(code, clerk, second), by=clerk, at=timezone.now(), seen=SEEN)
            for code in ("SEK", "NOK")
        ]
    bank_files.mark_bank_file_sent(file=files[0], by=clerk, at=timezone.now(), seen=SEEN)
    approval.pause_run(run=_executing("DKK", clerk, second), note="a call", by=clerk, at=timezone.now(), seen=SEEN)


def _policy(currency: str, clerk: User, second: User) -> None:
    """Pay from the first cent of the minimum on, and at once."""
    figures = {name: getattr(terms_in_force(currency), name) for name in FIGURES} | {
        "minimum_minor": 500,
        "maturity_days": 0,
        "probation_days": 0,
    }
    at = timezone.now()
    proposed = policies.propose_policy(currency=currency, figures=figures, reason="at once", by=clerk, at=at, seen=SEEN)
    approve(proposed, by=second, at=at, seen=SEEN)


def _built(currency: str, rail: str, clerk: User) -> PayoutRun:
    at = timezone.now()
    return building.build_run(currency=currency, rail=rail, cut_off=at, by=clerk, at=at, seen=SEEN)


def _submitted(currency: str, rail: str, clerk: User) -> PayoutRun:
    return runs.submit_run(run=_built(currency, rail, clerk), by=clerk, at=timezone.now(), seen=SEEN)


def _approved(currency: str, rail: str, clerk: User, second: User) -> PayoutRun:
    run = _submitted(currency, rail, clerk)
    seen_hash = bytes(run.content_hash or b"")
    return approval.approve_run(
        run=run, by=second, typed_total=run.total_minor, content_hash=seen_hash, at=timezone.now(), seen=SEEN
    )


def _executing(currency: str, clerk: User, second: User) -> PayoutRun:
    run = _approved(currency, "manual_bank_file", clerk, second)
    return approval.start_execution(run=run, by=second, at=timezone.now(), seen=SEEN)
