"""Permissions: every act against every role, with a factor too old, with a role too new, and beyond the limits."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from contributors.operations import links
from payouts import operations
from payouts.models import BankFile, Difference, Hold, Payout, PayoutRun, PolicyProposal, TopUp
from payouts.operations import (
    approval,
    bank_files,
    bank_lines,
    banks,
    building,
    closing,
    ended_accounts,
    funding,
    holds,
    limits,
    policies,
    reversals,
    runs,
    tax_forms,
)
from payouts.queries.policies import FIGURES, terms_in_force
from people import actor
from people.actor import Presence, UnableToAct, UnableToTrustPresence
from people.models import FINANCE_ROLES, STAFF_ROLES, AuditEvent, User
from people.operations import factors, staff
from people.operations.proposals import UnableToDecide, approve, reject
from people.queries import audit as audit_queries
from tests.worlds.world import SEEN, World

MAKER, CHECKER, COMPLIANCE, AUDITOR, ADMIN = FINANCE_ROLES
TOO_OLD = Presence(mfa_age_seconds=301)
Act = Callable[..., Any]


def figures() -> dict[str, Any]:
    return {name: getattr(terms_in_force("USD"), name) for name in FIGURES}


# name -> (roles, whether it takes a fresh factor, the act on rows that need not fit: role and factor come first)
ACTS: dict[str, tuple[set[str], bool, Act]] = {
    "build_run": ({MAKER, ADMIN}, False, lambda w, k: building.build_run(currency="USD", cut_off=w.at, **k)),
    "submit_run": ({MAKER, ADMIN}, False, lambda w, k: runs.submit_run(run=PayoutRun(), **k)),
    "exclude": ({MAKER, ADMIN}, False, lambda w, k: runs.exclude(run=PayoutRun(), contributors=[1], **k)),
    "take_up_run": ({MAKER, ADMIN}, False, lambda w, k: runs.take_up_run(run=PayoutRun(), **k)),
    "cancel_run": ({MAKER, ADMIN}, False, lambda w, k: runs.cancel_run(run=PayoutRun(), **k)),
    "approve_run": (
        {CHECKER, ADMIN}, True,
        lambda w, k: approval.approve_run(run=PayoutRun(), typed_total=1, content_hash=b"", **k),
    ),
    "reject_run": ({CHECKER, ADMIN}, False, lambda w, k: approval.reject_run(run=PayoutRun(), reason="x", **k)),
    "start_execution": (
        {MAKER, CHECKER, ADMIN}, True, lambda w, k: approval.start_execution(run=PayoutRun(), **k)
    ),
    "pause_run": (
        {MAKER, CHECKER, COMPLIANCE, ADMIN}, False, lambda w, k: approval.pause_run(run=PayoutRun(), note="x", **k)
    ),
    "reverse_payout": (
        {CHECKER, ADMIN}, True,
        lambda w, k: reversals.reverse_payout(payout=Payout(), amount_minor=1, reason="x", **k),
    ),
    "place_hold": (
        {MAKER, CHECKER, COMPLIANCE, ADMIN}, False,
        lambda w, k: holds.place_hold(contributor=w.somebody, reason="manual_admin", **k),
    ),
    "place_hold after screening": (
        {COMPLIANCE}, False,
        lambda w, k: holds.place_hold(contributor=w.somebody, reason="sanctions_listed", **k),
    ),
    "release_hold": (
        {CHECKER, COMPLIANCE, ADMIN}, True, lambda w, k: holds.release_hold(hold=w.hold, **k)
    ),
    "release_hold of compliance": (
        {COMPLIANCE}, True, lambda w, k: holds.release_hold(hold=w.listed, **k)
    ),
    "propose_policy": (
        {MAKER, CHECKER, ADMIN}, False,
        lambda w, k: policies.propose_policy(currency="USD", figures=figures(), reason="x", **k),
    ),
    "fund_platform": (
        {MAKER, CHECKER, ADMIN}, True, lambda w, k: funding.fund_platform(currency="USD", amount_minor=0, **k)
    ),
    "book_top_up": ({MAKER, CHECKER, ADMIN}, True, lambda w, k: funding.book_top_up(topup=TopUp(), **k)),
    "retire_account": (
        {CHECKER, COMPLIANCE, ADMIN}, True,
        lambda w, k: ended_accounts.retire_account(contributor=w.somebody, reason="x", **k),
    ),
    "resume_run": (
        {MAKER, CHECKER, COMPLIANCE, ADMIN}, True, lambda w, k: approval.resume_run(run=PayoutRun(), **k)
    ),
    "rebuild_run": ({MAKER, ADMIN}, False, lambda w, k: building.rebuild_run(run=PayoutRun(), **k)),
    "sign_off": (
        {CHECKER, COMPLIANCE, ADMIN}, True, lambda w, k: closing.sign_off(difference=Difference(), note="x", **k)
    ),
    "decide_unknown": (
        {CHECKER, COMPLIANCE, ADMIN}, True,
        lambda w, k: closing.decide_unknown(payout=Payout(), paid_transfer_id=None, note="x", **k),
    ),
    "close_run": ({MAKER, CHECKER, ADMIN}, False, lambda w, k: closing.close_run(run=PayoutRun(), **k)),
    "record_tax_form": (
        {COMPLIANCE}, True,
        lambda w, k: tax_forms.record_tax_form(
            contributor=w.somebody, form="w9", country="US", number="123456789", signed_on=w.at.date(),
            received_on=w.at.date(), withholding_ppb=0, **k,
        ),
    ),
    "choose_rail": (
        {CHECKER, ADMIN}, True,
        lambda w, k: banks.choose_rail(contributor=w.somebody, rail="manual_bank_file", reason="x", **k),
    ),
    "export_bank_file": (
        {MAKER, CHECKER, ADMIN}, True, lambda w, k: bank_files.export_bank_file(run=PayoutRun(currency="USD"), **k)
    ),
    "read_bank_file": (
        {MAKER, CHECKER, ADMIN}, True, lambda w, k: bank_files.read_bank_file(file=BankFile(), **k)
    ),
    "mark_bank_file_sent": (
        {MAKER, CHECKER, ADMIN}, True, lambda w, k: bank_files.mark_bank_file_sent(file=BankFile(), **k)
    ),
    "withdraw_bank_file": (
        {CHECKER, ADMIN}, True, lambda w, k: bank_files.withdraw_bank_file(file=BankFile(), reason="x", **k)
    ),
    "record_bank_lines": (
        {CHECKER, COMPLIANCE, ADMIN}, True, lambda w, k: bank_lines.record_bank_lines(lines=[], **k)
    ),
    "dismiss_suspicion": (
        {COMPLIANCE, ADMIN}, True, lambda w, k: links.dismiss_suspicion(contributors=[], reason="x", **k)
    ),
    "change_roles": (
        {ADMIN}, True, lambda w, k: staff.change_roles(user=w.owner, roles=[AUDITOR], reason="x", **k)
    ),
    "confirm_factors": ({ADMIN}, True, lambda w, k: factors.confirm_factors(user=w.owner, **k)),
}  # fmt: skip


class Stage:
    """The world, with the rows that some acts need."""

    def __init__(self, world: World) -> None:
        self.at, self.owner, self.maker = world.at, world.owner, world.maker
        self.somebody = world.contributor(1000)
        self.hold = holds.place_hold(
            contributor=self.somebody, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN
        )
        Hold.objects.filter(pk=self.hold.pk)
        other = world.contributor(1000)
        self.listed = holds.place_hold(
            contributor=other, reason="sanctions_listed", by=world.compliance, at=world.at, seen=SEEN
        )
        # Finance's own, so that a checker may release it.
        self.hold = holds.place_hold(
            contributor=other, reason="dispute_or_claim", by=world.compliance, at=world.at, seen=SEEN
        )


@pytest.mark.parametrize("name", ACTS)
def test_an_act_is_for_its_roles_alone(world: World, name: str) -> None:
    allowed, _takes_factor, act = ACTS[name]
    stage = Stage(world)
    for role in STAFF_ROLES:
        by = world._user(role, role)
        refused = False
        try:
            act(stage, {"by": by, "at": world.at, "seen": SEEN})
        except UnableToAct:
            refused = True
        except Exception:
            # Past the role: the rows do not fit, but this test asks about roles alone.
            refused = False
        assert refused == (role not in allowed), (name, role)


# A contributor's own acts, which take a membership and no role.
OF_CONTRIBUTORS = {
    "change_details",
    "choose_notices",
    "disconnect_account",
    "onboarding_link",
    "open_at_stripe",
    "open_payout_account",
    "pause_own_payouts",
    "record_bank_details",
    "resume_own_payouts",
    "set_own_threshold",
    "set_up_again",
}
# Moves money, lets it move (and how freely), or says that it moved or names its owner. These acts take a fresh second
# factor, and a role that has settled.
MOVES_MONEY = {
    "approve_run", "start_execution", "resume_run", "release_hold", "release_hold of compliance", "reverse_payout",
    "fund_platform", "decide_unknown", "export_bank_file", "mark_bank_file_sent", "withdraw_bank_file",
    "record_bank_lines", "choose_rail", "record_tax_form", "sign_off", "confirm_factors",
    "book_top_up", "retire_account",
}  # fmt: skip
# Take a fresh factor and move nothing by themselves: somebody else's act follows.
FACTOR_ALONE = {"read_bank_file", "change_roles", "dismiss_suspicion"}


def _operations() -> dict[str, Any]:
    """Every public function that a module of the package defines."""
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(operations.__path__, operations.__name__ + "."):
        loaded = importlib.import_module(module.name)
        found |= {
            name: value
            for name, value in inspect.getmembers(loaded, inspect.isfunction)
            if value.__module__ == module.name and not name.startswith("_")
        }
    return found


def test_every_operation_of_a_person_stands_in_one_of_these_lists() -> None:
    """The author of a new operation decides here its roles and whether it takes a second factor."""
    of_people = {name for name, act in _operations().items() if {"by", "at"} <= set(inspect.signature(act).parameters)}
    # A check of the approver, no act.
    listed = {name.split()[0] for name in ACTS} | OF_CONTRIBUTORS | {"require_within_limits"}
    assert of_people <= listed, "an operation that nobody decided about"
    assert {name for name, (_, takes_factor, _act) in ACTS.items() if takes_factor} == MOVES_MONEY | FACTOR_ALONE


@pytest.mark.parametrize("name", sorted(MOVES_MONEY))
def test_a_role_of_yesterday_moves_no_money(world: World, name: str) -> None:
    allowed, _takes_factor, act = ACTS[name]
    stage = Stage(world)
    by = world._user("newcomer", sorted(allowed)[0])
    User.objects.filter(pk=by.pk).update(roles_changed_at=world.at - timedelta(hours=23))
    with pytest.raises(actor.UnableToActYet):
        act(stage, {"by": by, "at": world.at, "seen": SEEN})


@pytest.mark.parametrize("name", [name for name, (_, takes_factor, _act) in ACTS.items() if takes_factor])
@pytest.mark.parametrize("seen", [TOO_OLD, Presence(), Presence(mfa_age_seconds=-1)])
def test_an_act_on_money_takes_a_factor_of_the_last_five_minutes(world: World, name: str, seen: Presence) -> None:
    allowed, _takes_factor, act = ACTS[name]
    stage = Stage(world)
    by = world._user("somebody", sorted(allowed)[0])
    with pytest.raises(UnableToTrustPresence):
        act(stage, {"by": by, "at": world.at, "seen": seen})


def test_an_auditor_may_do_nothing_at_all() -> None:
    assert all(AUDITOR not in allowed for allowed, _, _act in ACTS.values())


def test_a_superuser_without_a_role_may_do_nothing(world: World) -> None:
    root = User.objects.create_superuser("root@example.org", "a long enough one")
    stage = Stage(world)
    for name, (_allowed, _takes_factor, act) in ACTS.items():
        with pytest.raises(UnableToAct):
            act(stage, {"by": root, "at": world.at, "seen": SEEN})
        assert name


# --- limits and cool-down -----------------------------------------------------------------------------------------
def test_one_person_approves_no_more_at_once_than_the_policy_allows(world: World) -> None:
    world.policy(approval_limit_minor=5000)
    world.contributor(5001)
    run = world.in_review()
    with pytest.raises(limits.UnableToApproveThatMuch, match=r"at most USD 50\.00 at once"):
        world.approve(run)


def test_one_person_approves_no_more_in_a_day_and_another_may(world: World) -> None:
    world.policy(daily_approval_minor=9000)
    world.contributor(5000)
    first = world.approved()
    runs.cancel_run(run=first, by=world.maker, at=world.at, seen=SEEN)
    run = world.in_review()
    with pytest.raises(limits.UnableToApproveThatMuch, match=r"approved USD 50\.00 today"):
        world.approve(run, at=world.at + timedelta(hours=1))
    assert world.approve(run, by=world.second_checker).state == PayoutRun.State.APPROVED


def test_the_daily_limit_begins_anew_at_midnight_utc(world: World) -> None:
    world.policy(daily_approval_minor=9000)
    world.contributor(5000)
    runs.cancel_run(run=world.approved(), by=world.maker, at=world.at, seen=SEEN)
    run = world.in_review()
    assert world.approve(run, at=world.at + timedelta(hours=12, minutes=1)).state == PayoutRun.State.APPROVED


def test_a_role_that_was_just_given_moves_no_money_for_a_day(world: World) -> None:
    admin, person = world._user("admin", "admin"), world._user("promoted", "auditor")
    world.contributor(1000)
    person = staff.change_roles(
        user=person, roles=["finance_checker"], by=admin, reason="new colleague", at=world.at, seen=SEEN
    )
    run = world.in_review()
    with pytest.raises(actor.UnableToActYet, match="roles changed"):
        world.approve(run, by=person, at=world.at + timedelta(hours=23))
    assert world.approve(run, by=person, at=world.at + timedelta(hours=25)).state == PayoutRun.State.APPROVED


def test_nobody_changes_their_own_roles(world: World) -> None:
    admin = world._user("admin", "admin")
    with pytest.raises(staff.UnableToChangeRoles, match="their own"):
        staff.change_roles(user=admin, roles=["admin", "compliance"], by=admin, reason="x", at=world.at, seen=SEEN)
    with pytest.raises(staff.UnableToChangeRoles, match="no role wizard"):
        staff.change_roles(user=world.owner, roles=["wizard"], by=admin, reason="x", at=world.at, seen=SEEN)


# --- policies -----------------------------------------------------------------------------------------------------
def test_a_policy_is_proposed_by_one_and_approved_by_another(world: World) -> None:
    wanted = figures() | {"minimum_minor": 2500}
    proposal = policies.propose_policy(
        currency="USD", figures=wanted, reason="fees", by=world.maker, at=world.at, seen=SEEN
    )
    assert terms_in_force("USD").minimum_minor == 500
    with pytest.raises(UnableToDecide, match="somebody else"):
        approve(proposal, by=world.maker, at=world.at, seen=SEEN)
    decided = approve(proposal, by=world.checker, at=world.at, seen=SEEN)
    assert decided.policy is not None
    assert (decided.policy.created_by, decided.policy.approved_by) == (world.maker, world.checker)
    assert terms_in_force("USD").minimum_minor == 2500
    with pytest.raises(UnableToDecide, match="already"):
        reject(proposal, by=world.checker, at=world.at, seen=SEEN)


def test_a_newer_proposal_of_a_policy_replaces_the_open_one(world: World) -> None:
    def propose(by: User) -> PolicyProposal:
        return policies.propose_policy(currency="USD", figures=figures(), reason="fees", by=by, at=world.at, seen=SEEN)

    first, second, third = propose(world.maker), propose(world.checker), propose(world.checker)
    for row in (first, second):
        row.refresh_from_db()
    assert (first.state, first.decided_by, first.rejection) == (
        "rejected",
        world.checker,
        "A newer proposal replaced it.",
    )
    assert (second.state, second.decided_by, third.state) == ("withdrawn", world.checker, "proposed")
    lines = AuditEvent.objects.filter(subject="policy:USD").order_by("sequence").values_list("action", flat=True)
    assert list(lines)[-5:] == [
        "propose_policy", "reject_policy", "propose_policy", "withdraw_policy", "propose_policy",
    ]  # fmt: skip


def test_a_policy_by_one_person_is_refused_by_the_database(world: World) -> None:
    from django.db import IntegrityError, transaction

    columns = (
        "currency, version, minimum_minor, maturity_days, bank_change_days, requires_tax_form, probation_days, "
        "created_by_id, approved_by_id, created_at"
    )
    for approver, name in (("NULL", "a_policy_takes_two_people"), (str(world.maker.pk), "approved_by_another")):
        with pytest.raises(IntegrityError, match=name), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO payouts_payoutpolicy ({columns}) VALUES "
                f"('USD', 99, 1, 0, 0, false, 0, {world.maker.pk}, {approver}, now())"
            )


# --- the first live run -------------------------------------------------------------------------------------------
def test_the_first_run_with_real_money_is_a_small_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "STRIPE_SECRET_KEY", "rk_live_nothing_is_asked_with_it")
    monkeypatch.setattr(settings, "FIRST_LIVE_RUN_MINOR_MAX", 999)
    world.contributor(1000)
    run = world.approved()
    with pytest.raises(approval.UnableToStart, match=r"at most 10 people and USD 9\.99"):
        approval.start_execution(run=run, by=world.checker, at=world.at, seen=SEEN)


# --- the audit log ------------------------------------------------------------------------------------------------
def test_the_command_verifies_the_audit_log_and_finds_a_changed_line(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    from config.engine.roles import APP_ROLE, OWNER_ROLE

    world.contributor(1000)
    world.in_review()
    call_command("verify_audit_log")
    assert "The chain holds" in capsys.readouterr().out
    changed = audit_queries.audit_events().last()
    assert changed is not None
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"SET LOCAL ROLE {OWNER_ROLE}")
        cursor.execute("ALTER TABLE people_auditevent DISABLE TRIGGER USER")
        cursor.execute("UPDATE people_auditevent SET action = 'nothing' WHERE id = %s", [changed.pk])
        cursor.execute("ALTER TABLE people_auditevent ENABLE TRIGGER USER")
        cursor.execute(f"SET LOCAL ROLE {APP_ROLE}")
    with pytest.raises(CommandError, match=f"broken at line {changed.sequence}"):
        call_command("verify_audit_log")
