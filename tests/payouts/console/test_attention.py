"""Needs attention: open work of every kind on the page, in the count of the navigation, and in one mail."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core import mail
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from attribution.models import AttributionIndex, BuildStep
from attribution.operations import base_pool, faults, gateways, model_services
from attribution.operations.dialects.calls import Call
from contributors.models import PPB, Contributor, ContributorLink
from contributors.operations import links as contributor_links
from contributors.operations.people import register_holder
from contributors.operations.splits import contest_share
from ledger.journal import AccountKey
from ledger.models import AdvanceProposal, Period
from ledger.operations import (
    advances,
    closing,
    contracts,
    corrections,
    manual,
    plans,
    pools,
    taxes,
    verb_proposals,
    verbs,
    voids,
)
from ledger.operations import disputes as ledger_disputes
from ledger.operations.closing import close_period
from payouts.models import Difference, Notice, Payout, PayoutAccount, PolicyProposal, TopUp, WebhookEvent
from payouts.operations import approval, holds, links, policies, runs
from payouts.operations.notices import notice_what_is_due, send_due_notices
from payouts.queries import attention
from payouts.queries.policies import FIGURES, terms_in_force
from payouts.reconciliation.comparison import reconcile_run
from people.models import Invitation
from people.operations import invitations, resets, staff, webhooks
from people.operations.invitations import VALID
from people.operations.proposals import approve, reject
from people.operations.users import enrol_totp
from tests.payouts import test_bank_rail as bank_rail
from tests.worlds import contracts as agreed
from tests.worlds import proposals
from tests.worlds.browser import LogIn, words_of
from tests.worlds.world import CENT, SEEN, TERMS, World, build_world

AN_HOUR, TWO_HOURS = timedelta(hours=1), timedelta(hours=2)


def books(world: World, *, age: timedelta = timedelta()) -> World:
    return build_world(world.at - age)


# --- one of each ----------------------------------------------------------------------------------------------------
def run_to_submit(world: World) -> None:
    world.contributor(1234)
    world.built()


def run_awaiting_approval(world: World) -> None:
    world.contributor(1234)
    world.in_review()


def run_to_execute(world: World) -> None:
    world.contributor(1234)
    world.approved()


def _executing(world: World) -> Any:
    world.contributor(1234)
    world.fund(1234)
    return world.executing()


def run_stopped(world: World) -> None:
    approval.pause_run(run=_executing(world), by=world.checker, note="a call", at=world.at, seen=SEEN)


def run_to_reconcile(world: World) -> None:
    world.pay(_executing(world))


def run_to_close(world: World) -> None:
    reconcile_run(run=world.pay(_executing(world)), at=world.at)


def payouts_stalled(world: World) -> None:
    run = _executing(world)
    Payout.objects.filter(run=run).update(next_try_at=world.at - AN_HOUR)


def payout_needs_person(world: World) -> None:
    run = _executing(world)
    assert world.sandbox is not None
    world.sandbox.queue_faults("drop_before", "drop_before", "drop_before", "drop_before")
    for hours in (0, 21, 22, 23):
        world.pay(run, seconds=hours * 3600)


def run_set_aside(world: World) -> None:
    first = world.contributor(1234)
    world.contributor(1234)
    runs.exclude(run=world.built(), contributors=[first.pk], by=world.maker, at=world.at, seen=SEEN)


def bank_run_to_order(world: World) -> None:
    bank_rail.payee(world, 7000)
    bank_rail.executing(world)


def bank_file_to_send(world: World) -> None:
    bank_rail.payee(world, 7000)
    bank_rail.export(world, bank_rail.executing(world))


def difference_found(world: World) -> None:
    Difference.objects.create(
        type="amount", currency="USD", subject="tr_1", words="Our amount is not Stripe's.", found_at=world.at
    )


def policy_proposed(world: World) -> None:
    figures = {name: getattr(terms_in_force("USD"), name) for name in FIGURES}
    policies.propose_policy(
        currency="USD", figures=figures, reason="fewer fees", by=world.maker, at=world.at, seen=SEEN
    )


def webhook_dead(world: World) -> None:
    WebhookEvent.objects.create(
        endpoint="connect", event_id="evt_1", type="payout.paid", object_id="po_1", created=world.at,
        received_at=world.at, livemode=False, payload="{}", state="dead", error="Nothing here knows po_1.",
    )  # fmt: skip


def top_up_found(world: World) -> None:
    TopUp.objects.create(
        provider_topup_id="tu_1", currency="USD", amount_minor=100, state="found", requested_at=world.at, sends=0
    )


def payee_stops_soon(world: World) -> None:
    due = {"currently_due": ["individual.id_number"], "current_deadline": int(time.time()) + 5 * 86_400}
    contributor = world.contributor()
    PayoutAccount.objects.filter(contributor=contributor).update(requirements=due)


def mail_failed(world: World) -> None:
    held = world.contributor(1000)
    holds.place_hold(contributor=held, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    working, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, "tests.payouts.test_notices.FailingServer"
    try:
        for hours in range(0, 65, 7):
            send_due_notices(at=world.at + timedelta(hours=hours))
    finally:
        settings.EMAIL_BACKEND = working


def payee_without_account(world: World) -> None:
    world.contributor(1234, outcome=None)


def plan_proposed(world: World) -> None:
    plans.propose_plan(
        by=books(world).staff[0],
        currency="EUR",
        effective_from=world.at + timedelta(days=3),
        at=world.at,
        terms=TERMS,
    )


def pool_proposed(world: World) -> None:
    its = books(world)
    plan = its.adopt(currency="CHF", basis="period_pool", price=None)
    pools.propose_pool(plan=plan, period=_this_month(world), amount=500, by=its.staff[0], at=world.at)


def _this_month(world: World) -> Period:
    return Period.objects.get(starts__lte=world.at.date(), ends__gt=world.at.date())


def terms_proposed(world: World) -> None:
    its = books(world)
    contracts.propose_terms(
        contract=agreed.contract(its, "first-book"),
        effective_from=_this_month(world).ends,
        by=its.staff[0],
        at=world.at,
        terms={},
    )


def advance_proposed(world: World) -> None:
    its = books(world)
    advances.propose_advance(
        contract=agreed.contract(its, "first-book"),
        amount=CENT,
        currency="USD",
        reason="agreed",
        reference="clause 4",
        by=its.staff[0],
        at=world.at,
    )


def cancellation_proposed(world: World) -> None:
    its = books(world)
    agreed.advance(its, "first-book", CENT)
    granted = AdvanceProposal.objects.get()
    advances.propose_cancellation(advance=granted, way="take_back", reason="fell through", by=its.staff[0], at=world.at)


def manual_entry_proposed(world: World) -> None:
    its = books(world)
    owed = AccountKey("contributor_payable", "USD", f"contributor:{its.contributors[0].pk}")
    manual.propose_manual_entry(
        lines=[(AccountKey("programme_cost", "USD"), -5), (owed, 5)],
        reason="a letter",
        reference="letter 1",
        by=its.staff[0],
        at=world.at,
    )


def transaction_proposed(world: World) -> None:
    verb_proposals.propose_verb(
        verb="capital",
        reference="founding",
        currency="USD",
        amount=5 * CENT,
        by=books(world).staff[0],
        at=world.at,
    )


def claim_transaction_proposed(world: World) -> None:
    its, payee = books(world), world.contributor(1234)
    verb_proposals.propose_verb(
        verb="mark_dormant", reference="2026", currency="USD", contributor_id=payee.pk, by=its.staff[0], at=world.at
    )


def void_proposed(world: World) -> None:
    its = books(world)
    voids.propose_void(generation=its.generate(1)[0], reason="test", detail="a load test", by=its.staff[0], at=world.at)


def base_pool_proposed(world: World) -> None:
    its = books(world)
    index = AttributionIndex.objects.create(
        model_version=its.index.model_version,
        config_sha256=b"b" * 32,
        sha256=b"s" * 32,
        state="built",
        serving=True,
        created_at=world.at,
    )
    base_pool.propose_base_pool(index=index, reason="A trial month.", by=its.staff[0], at=world.at)


def restatement_proposed(world: World) -> None:
    its = books(world)
    AttributionIndex.objects.filter(pk=its.index.pk).update(serving=True)
    its.index.refresh_from_db()
    corrections.propose_restatement(
        index=its.index, since=world.at - timedelta(days=1), reason="finer", by=its.staff[0], at=world.at
    )


def withholding_proposed(world: World) -> None:
    taxes.propose_withholding_rate(
        jurisdiction="US", rate_ppb=PPB // 10, effective_from=world.at.date(), by=books(world).staff[0], at=world.at
    )


def receipt_disputed(world: World) -> None:
    its = books(world)
    made = its.generate(1)
    its.attribute(made)
    its.accrue_all()
    ledger_disputes.dispute_receipt(
        contributor=its.contributors[0],
        generation_id=made[0].pk,
        words="It is not mine.",
        by=its.users[0],
        at=world.at,
    )


def share_contested(world: World) -> None:
    its = books(world)
    ada, ben = its.contributors[:2]
    duo = register_holder(
        contributor=ada, label="Duo", parts={ada: PPB // 2, ben: PPB // 2}, effective_from=world.at, at=world.at
    )
    contest_share(
        holder=duo, claimant=ada, against=ben, ppb=PPB // 4, reason="I wrote it", by=its.users[0], at=world.at
    )


def month_to_close(world: World) -> None:
    """The months before this one stand open since the world began."""


def month_to_seal(world: World) -> None:
    closing.close_period(period=Period.objects.earliest("pk"), at=world.at)


def accruals_stalled(world: World) -> None:
    its = books(world, age=TWO_HOURS)
    its.attribute(its.generate(2))


def generations_stalled(world: World) -> None:
    its = books(world, age=TWO_HOURS)
    its.generate(2)
    AttributionIndex.objects.filter(pk=its.index.pk).update(serving=True)


def generations_held(world: World) -> None:
    """The version has an evaluated index that does not serve, so that nothing attributes its generations."""
    books(world).generate(1)


def model_unnamed(world: World) -> None:
    service = model_services.register_service(name="a gateway", at=world.at)
    call = Call("c1", "openai/gpt", world.at - TWO_HOURS, "peace")
    gateways.take_records(service=service, door="litellm", items=[call], at=world.at)


def _accounts(world: World) -> list[Contributor]:
    return [world.contributor(), world.contributor()]


def details_proposed(world: World) -> None:
    _accounts(world)
    proposals.details(world, world.compliance)


def roles_proposed(world: World) -> None:
    staff.propose_roles(
        user=world.owner, roles=["auditor"], by=world._user("a", "admin"), reason="new", at=world.at, seen=SEEN
    )


def factor_reset_proposed(world: World) -> None:
    enrol_totp(user=world.owner, secret="JBSWY3DPEHPK3PXP")
    resets.propose_reset(user=world.owner, reason="A call.", by=world._user("a", "admin"), at=world.at, seen=SEEN)


def link_proposed(world: World) -> None:
    contributor_links.propose_link(
        contributors=_accounts(world), reason="The same passport.", by=world.compliance, at=world.at
    )


def link_end_proposed(world: World) -> None:
    link_proposed(world)
    link = approve(ContributorLink.objects.get(), by=world._user("second", "compliance"), at=world.at, seen=SEEN)
    contributor_links.propose_end_of_link(link=link, reason="Twins.", by=world.compliance, at=world.at)


def link_suspected(world: World) -> None:
    for account in _accounts(world):
        links.note_tax_number(contributor=account, country="DE", number="12345678903", at=world.at)


def build_failed(world: World) -> None:
    index = AttributionIndex.objects.create(
        model_version=books(world).index.model_version, config_sha256=b"b" * 32, state="building", created_at=world.at
    )
    BuildStep.objects.create(index=index, position=0, stage="plan", failures=3, error="The checkpoint is not there.")


def model_set_aside(world: World) -> None:
    its = books(world)
    its.generate(2)
    faults.record_failure(its.index.model_version_id, "StopIteration: no more ideas", at=world.at, final=True)


def evaluation_lacking(world: World) -> None:
    AttributionIndex.objects.create(
        model_version=books(world).index.model_version,
        config_sha256=b"b" * 32,
        sha256=b"s" * 32,
        state="built",
        audit_error="The model does not load.",
        created_at=world.at,
    )


def webhook_stopped(world: World) -> None:
    endpoint, _ = webhooks.register_endpoint(
        owner=f"service:{books(world).service.pk}",
        url="https://hooks.example.org/",
        events=["index.evaluated"],
        at=world.at,
    )
    webhooks.stop_endpoint(endpoint=endpoint, because="It answered 410 Gone.", at=world.at)


def invitation_unsent(world: World) -> None:
    invitations.invite_staff(email="late@example.org", roles=["auditor"], at=world.at)
    Invitation.objects.update(tries=6, error="ConnectionRefusedError: [Errno 111]", expires_at=world.at + VALID)


MAKE: dict[str, Callable[[World], None]] = {
    name: made for name, made in list(globals().items()) if name in attention.BY_NAME
}
AT_STRIPE = {"run_stopped", "run_to_reconcile", "run_to_close", "payouts_stalled", "payout_needs_person"}


@pytest.fixture(autouse=True)
def programme_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PROGRAMME_ACCOUNTS", {"USD": "DE89370400440532013000"})


def count_shown(page: str) -> int:
    """The figure beside "Needs attention" in the navigation."""
    found = re.search(r'Needs attention <span class="nav-count">(\d+)</span>', page)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("name", sorted(set(attention.BY_NAME) - AT_STRIPE))
def test_each_kind_stands_on_the_page_in_the_count_and_in_a_mail(name: str, world: World, log_in: LogIn) -> None:
    _is_found_everywhere(name, world, log_in)


@pytest.mark.parametrize("name", sorted(AT_STRIPE))
def test_each_kind_that_needs_stripe_stands_there_too(name: str, paying: World, log_in: LogIn) -> None:
    _is_found_everywhere(name, paying, log_in)


def _is_found_everywhere(name: str, world: World, log_in: LogIn) -> None:
    # Somebody is in each role that acts.
    _ = world.maker, world.checker, world.compliance, world._user("admin", "admin"), world._user("c", "compliance")
    client = log_in(world.checker)
    before = count_shown(client.get(reverse("people:audit")).content.decode())
    MAKE[name](world)
    cache.clear()
    now = timezone.now()
    [group] = attention.groups(at=now, limit=50, kind=name)
    item = group.items[-1]
    after = count_shown(client.get(reverse("people:audit")).content.decode())
    assert after == sum(found.count for found in attention.groups(at=now, limit=50))
    assert after > before or name in {"month_to_close", "month_to_seal"}
    for address in (reverse("payouts:attention"), f"{reverse('payouts:attention')}?kind={name}"):
        page = client.get(address).content.decode()
        assert f'href="{item.url}"' in page
        assert group.kind.heading in page
    notice_what_is_due(at=now)
    mail.outbox.clear()
    send_due_notices(at=now)
    told = [message for message in mail.outbox if f"{settings.SITE_URL}{item.url}" in message.body]
    assert told
    for person in world.maker, world.checker, world.compliance:
        hears = any(person.email in message.bcc for message in told)
        assert hears == (not group.kind.why_not(item, person)), person
    notice_what_is_due(at=now)
    mail.outbox.clear()
    assert send_due_notices(at=now + timedelta(days=1)) == 0


def test_a_test_makes_each_kind() -> None:
    assert set(MAKE) == set(attention.BY_NAME)


# --- nothing waits outside ------------------------------------------------------------------------------------------
# States that no member of the staff has to act on, and why.
CALM = {
    "attribution.CheckpointUpload": {"open": "Its service sends the rest, or it expires."},
    "attribution.AttributionIndex": {"audited": "It serves, or was replaced by one that does."},
    "attribution.Generation": {"unattributable": "It earns nothing; the page of its month counts it."},
    "attribution.ModelVersion": {"registered": "Its service uploads the rest.", "ready": "It is in use."},
    "contributors.SplitProposal": {"open": "The co-authors answer it, not the staff."},
    "ledger.PlanPreview": {"waiting": "A worker computes it; nothing depends on it."},
    "people.WebhookDelivery": {"pending": "A worker sends it.", "delivered": "Its endpoint took it."},
    "payouts.BankPayout": {},
    "payouts.Payout": {
        "ready": "Its run waits.",
        "refused": "The executor tries it again, or a hold is placed; its run cannot be reconciled before.",
        "transferred": "Stripe pays it to the bank.",
        "settled": "Paid.",
        "bank_failed": "A hold asks the payee for other bank details.",
        "partially_reversed": "Paid in part; what came back is payable again.",
    },
    "payouts.PayoutAttempt": {"sent": "Its payout stands for it.", "unknown": "Its payout stands for it."},
    "payouts.TopUp": {"succeeded": "Done; the bank may take it back, which is a difference."},
}


def open_states(model: Any) -> set[str]:
    """The states of a model from which an arrow leads on; without arrows, all that its own rows do not end in."""
    if hasattr(model, "TRANSITIONS"):
        return {state for state, ends in model.TRANSITIONS.items() if ends}
    finals = {
        "contributors.SplitDispute": {"upheld", "declined", "withdrawn"},
        "contributors.SplitProposal": {"agreed", "refused", "withdrawn"},
        "ledger.Period": {"sealed"},
        "ledger.PlanPreview": {"done", "failed"},
        "payouts.WebhookEvent": {"applied", "ignored"},
        "payouts.BankPayout": set(),
    }
    assert model._meta.label in finals, f"{model._meta.label} has states: say which of them are final"
    choices = model._meta.get_field("state").choices or ()
    return {str(value) for value, _ in choices} - finals[model._meta.label]


def test_every_open_state_of_every_model_is_in_the_inbox_or_has_a_reason_not_to_be() -> None:
    covered: dict[str, set[str]] = {}
    for kind in attention.KINDS:
        for label, states in kind.covers.items():
            covered.setdefault(label, set()).update(states)
    for model in apps.get_models():
        label = model._meta.label
        named = {field.name for field in model._meta.get_fields()}
        if "state" not in named or label.startswith(("stripe_sandbox.", "config.")):
            continue
        calm = set(CALM.get(label, {}))
        seen = covered.pop(label, set())
        missing = open_states(model) - seen - calm
        assert not missing, f"{label}: {sorted(missing)} wait where nobody sees them"
        assert not seen & calm, label
        assert seen <= open_states(model), label
    assert not covered, covered


def test_every_kind_names_roles_that_exist() -> None:
    from people.models import STAFF_ROLES

    for kind in attention.KINDS:
        assert kind.roles, kind.name
        assert set(kind.roles) <= set(STAFF_ROLES), kind.name


def test_who_decides_a_dispute_is_who_the_operation_lets_decide() -> None:
    from ledger.operations import contests

    allowed = {
        "receipt_disputed": ledger_disputes.ANSWERERS,
        "share_contested": contests.DECIDERS,
    }
    assert {name: attention.BY_NAME[name].roles for name in allowed} == allowed
    for verb in verbs.VERBS.values():
        kind = verb_proposals.CLAIM_KIND if verb.approvers == verbs.CLAIM_CHECKERS else verb_proposals.KIND
        assert (verb.proposers, verb.approvers) == (kind.proposers, kind.approvers), verb.key


# --- the page -------------------------------------------------------------------------------------------------------
def test_the_page_says_why_its_reader_cannot_decide_and_lists_mine_alone(world: World, log_in: LogIn) -> None:
    policy_proposed(world)
    difference_found(world)
    address = reverse("payouts:attention")
    page = words_of(log_in(world.maker).get(address))
    assert "You proposed this, so somebody else has to decide it." in page
    assert "fewer fees" in page
    mine = words_of(log_in(world.maker).get(address, {"mine": "1"}))
    assert "fewer fees" not in mine
    assert "Our amount is not Stripe's." in mine
    page = words_of(log_in(world.compliance).get(address))
    assert "This takes the role finance checker or admin." in page
    assert "You, as finance checker or compliance or admin" in page


def test_an_unknown_kind_shows_everything_and_an_empty_choice_says_so(world: World, log_in: LogIn) -> None:
    policy_proposed(world)
    client, address = log_in(world.checker), reverse("payouts:attention")
    assert "fewer fees" in words_of(client.get(address, {"kind": "nonsense"}))
    assert "Nothing of this choice is open." in words_of(client.get(address, {"kind": "webhook_dead"}))


def test_what_is_decided_leaves_the_page_and_the_home_page(world: World, log_in: LogIn) -> None:
    policy_proposed(world)
    client = log_in(world.checker)
    for name in ("attention", "console"):
        assert "fewer fees" in words_of(client.get(reverse(f"payouts:{name}")))
    approve(PolicyProposal.objects.get(state="proposed"), by=world.checker, at=world.at, seen=SEEN)
    for name in ("attention", "console"):
        assert "fewer fees" not in words_of(client.get(reverse(f"payouts:{name}")))


def test_the_count_takes_one_query_for_all_that_stands_in_rows(world: World) -> None:
    """Some kinds read a queue or compare accounts; the rest is one query, however many kinds there are."""
    policy_proposed(world)
    with CaptureQueriesContext(connection) as asked:
        attention.count(at=world.at)
    assert len(asked) < len(attention.KINDS) / 2
    with CaptureQueriesContext(connection) as asked:
        attention.count(at=world.at)
    assert len(asked) == 0


# --- mails ----------------------------------------------------------------------------------------------------------
def test_several_new_items_come_in_one_mail_and_no_proposer_hears_of_their_own(world: World) -> None:
    # No month waits for its close, on any day of the year: one after the other, as the books want it.
    for month in Period.objects.filter(state="open", ends__lte=world.at.date()).order_by("starts"):
        close_period(period=month, at=world.at)
    policy_proposed(world)
    for number in range(3):
        Difference.objects.create(
            type="amount", currency="USD", subject=f"tr_{number}", words=f"Amount {number}.", found_at=world.at
        )
    _ = world.checker, world.compliance
    notice_what_is_due(at=world.at)
    send_due_notices(at=world.at)
    policy = [message for message in mail.outbox if "fewer fees" in message.body]
    assert policy
    assert all(world.maker.email not in message.bcc for message in policy)
    differences = [message for message in mail.outbox if "Amount 0." in message.body]
    assert len(differences) == 1
    assert all(f"Amount {number}." in differences[0].body for number in range(3))
    assert "things need attention" in differences[0].subject
    assert {world.maker.email, world.checker.email, world.compliance.email} <= set(differences[0].bcc)
    assert differences[0].to == []


def test_what_was_decided_before_its_mail_is_told_to_nobody(world: World) -> None:
    policy_proposed(world)
    notice_what_is_due(at=world.at)
    reject(PolicyProposal.objects.get(state="proposed"), by=world.checker, at=world.at, seen=SEEN)
    send_due_notices(at=world.at)
    assert not [message for message in mail.outbox if "fewer fees" in message.body]
    notice = Notice.objects.get(kind="policy_proposed")
    assert (notice.sent_at, notice.error) == (None, "")
    assert notice.given_up_at == world.at


def test_a_mail_of_several_items_that_failed_is_tried_again_with_its_message_id(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        Difference.objects.create(
            type="amount", currency="USD", subject=f"tr_{number}", words=f"Amount {number}.", found_at=world.at
        )
    _ = world.checker
    notice_what_is_due(at=world.at)
    working = settings.EMAIL_BACKEND
    monkeypatch.setattr(settings, "EMAIL_BACKEND", "tests.payouts.test_notices.FailingServer")
    assert send_due_notices(at=world.at) == 0
    told = Notice.objects.filter(kind="difference_found")
    assert [(notice.tries, notice.error) for notice in told] == [(1, "TimeoutError: no answer for 15 seconds")] * 2
    monkeypatch.setattr(settings, "EMAIL_BACKEND", working)
    assert send_due_notices(at=world.at) == 0
    assert send_due_notices(at=world.at + timedelta(minutes=2)) > 0
    assert not told.filter(sent_at__isnull=True).exists()
    assert mail.outbox[0].extra_headers["Message-ID"].startswith(f"<notice-{Notice.objects.earliest('pk').pk}-")
