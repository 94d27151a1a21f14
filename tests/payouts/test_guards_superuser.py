"""The rules that hold for everybody, attacked as the database's superuser: no role stands above them."""

from __future__ import annotations

import pytest
from django.db import connection

from payouts.models import PayoutRun
from payouts.operations import approval, holds
from people.models import AuditEvent
from tests.payouts.test_guards import APPROVE, INSERT_ATTEMPT, attack, columns_but, executing, run_sql
from tests.worlds.world import SEEN, World

__all__ = ["executing"]

EMPTIED_NEVER = [
    "payouts_payoutrun", "payouts_payout", "payouts_payoutattempt", "payouts_reversal", "payouts_hold",
    "payouts_difference", "payouts_reconciliation", "people_auditevent", "payouts_webhookevent", "payouts_topup",
    "payouts_bankpayout",
]  # fmt: skip


def become_superuser() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE none")
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (True,)


def test_one_attempt_is_open_and_keys_and_answers_stay(executing: PayoutRun) -> None:
    become_superuser()
    payout = executing.payouts.order_by("pk").first()
    assert payout is not None
    run_sql(INSERT_ATTEMPT, payout.pk, 1, "k1")
    for state in ("sent", "unknown"):
        run_sql("UPDATE payouts_payoutattempt SET state = %s WHERE payout_id = %s", state, payout.pk)
        assert attack(INSERT_ATTEMPT, payout.pk, 2, "k2") == "one_open_attempt"
    assert attack("UPDATE payouts_payoutattempt SET idempotency_key = 'k9'") == "payouts_payoutattempt_is_append_only"
    assert attack("UPDATE payouts_payoutattempt SET state = 'sent'") == "payouts_payoutattempt_follows_the_arrows"
    assert attack("DELETE FROM payouts_payoutattempt") == "payouts_payoutattempt_is_append_only"


def test_one_payout_of_a_person_is_live_even_where_the_trigger_is_switched_off(
    world: World, executing: PayoutRun
) -> None:
    payout = executing.payouts.order_by("pk").first()
    assert payout is not None
    other = PayoutRun.objects.create(
        currency="USD",
        cut_off=world.at,
        matured_before=world.at,
        state="set_aside",
        created_by=world.maker,
        created_at=world.at,
        last_edited_by=world.maker,
        last_edited_at=world.at,
    )
    become_superuser()
    again = columns_but("id", "public_id", "run_id", "state")
    run_sql(
        f"INSERT INTO payouts_payout (public_id, run_id, state, {again}) SELECT gen_random_uuid(), %s, 'ready', "
        f"{again} FROM payouts_payout WHERE id = %s",
        other.pk,
        payout.pk,
    )
    approve = "UPDATE payouts_payout SET state = 'approved' WHERE run_id = %s"
    assert attack(approve, other.pk) == "a_payout_moves_with_its_run"
    run_sql("SET CONSTRAINTS ALL IMMEDIATE")
    run_sql("ALTER TABLE payouts_payout DISABLE TRIGGER payout_belongs_to_its_run")
    assert attack(approve, other.pk) == "one_live_payout"


def test_nobody_approves_their_own_run(world: World) -> None:
    world.contributor(1_000)
    run = world.in_review()
    become_superuser()
    assert attack(APPROVE, world.maker.pk, run.pk) == "approver_is_neither_creator_nor_last_editor"
    swap = "UPDATE payouts_payoutrun SET created_by_id = %s WHERE id = %s"
    assert attack(swap, world.checker.pk, run.pk) == "payouts_payoutrun_keeps_created_by_id"
    run_sql(APPROVE, world.checker.pk, run.pk)
    second = "UPDATE payouts_payoutrun SET second_approved_by_id = %s, second_approved_at = now() WHERE id = %s"
    assert attack(second, world.checker.pk, run.pk) == "second_approver_is_somebody_else"


def test_one_run_of_a_currency_is_open_from_draft_through_paused(world: World) -> None:
    world.contributor(1_000)
    run = world.approved()
    become_superuser()
    columns = ", ".join(
        str(f.column) for f in PayoutRun._meta.fields if f.column not in ("id", "public_id", "state", "supersedes_id")
    )
    another = (
        f"INSERT INTO payouts_payoutrun (public_id, state, {columns}) SELECT gen_random_uuid(), 'draft', {columns} "
        "FROM payouts_payoutrun WHERE id = %s"
    )
    for state in ("executing", "paused"):
        assert attack(another, run.pk) == "one_run_at_a_time"
        run_sql(
            "UPDATE payouts_payoutrun SET state = %s, started_at = %s, paused_at = now(), pause_code = 'person' "
            "WHERE id = %s",
            state,
            world.at,
            run.pk,
        )
    assert attack(another, run.pk) == "one_run_at_a_time"


def test_what_was_approved_and_paid_stays_as_it_was(executing: PayoutRun) -> None:
    become_superuser()
    terms = attack("UPDATE payouts_payout SET destination = 'acct_mine' WHERE run_id = %s", executing.pk)
    assert terms == "payouts_payout_keeps_destination"
    assert attack("DELETE FROM payouts_payout WHERE run_id = %s", executing.pk) == (
        "payouts_of_a_run_past_draft_are_frozen"
    )
    assert attack("DELETE FROM payouts_payoutrun") == "payouts_payoutrun_is_append_only"
    assert attack("UPDATE payouts_payoutrun SET total_minor = 1 WHERE id = %s", executing.pk) == (
        "a_run_past_draft_is_frozen"
    )
    for state in ("transferred", "settled", "reversed"):
        rule = attack("UPDATE payouts_payout SET state = %s WHERE run_id = %s", state, executing.pk)
        assert rule in ("payouts_payout_follows_the_arrows", "a_reversed_payout_came_back_whole")


def test_the_audit_log_and_holds_stay(world: World) -> None:
    contributor = world.contributor(1_000)
    holds.place_hold(contributor=contributor, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    assert AuditEvent.objects.exists()
    become_superuser()
    assert attack("UPDATE people_auditevent SET action = 'x'") == "people_auditevent_is_append_only"
    assert attack("DELETE FROM people_auditevent") == "people_auditevent_is_append_only"
    assert attack("DELETE FROM payouts_hold") == "payouts_hold_is_append_only"


@pytest.mark.parametrize("table", EMPTIED_NEVER)
def test_no_table_of_payouts_is_emptied(db: None, table: str) -> None:
    become_superuser()
    assert attack(f"TRUNCATE {table} CASCADE").endswith("_is_append_only")


@pytest.mark.parametrize("step", ["approve", "start", "resume"])
def test_a_payout_that_was_changed_past_the_guards_is_neither_approved_nor_started_nor_resumed(
    paying: World, step: str
) -> None:
    """Approval and sending hash the rows anew each time, and never trust a stored hash."""
    paying.contributor(1_000)
    run = {"approve": paying.in_review, "start": paying.approved, "resume": paying.executing}[step]()
    if step == "resume":
        run = approval.pause_run(run=run, by=paying.maker, note="wait", at=paying.at, seen=SEEN)
    become_superuser()
    run_sql("SET CONSTRAINTS ALL IMMEDIATE")
    run_sql("ALTER TABLE payouts_payout DISABLE TRIGGER payout_keeps_its_terms")
    run_sql("UPDATE payouts_payout SET destination = 'acct_of_somebody_else' WHERE run_id = %s", run.pk)
    if step == "approve":
        with pytest.raises(approval.UnableToApprove, match="changed since you opened it"):
            paying.approve(run)
    elif step == "start":
        with pytest.raises(approval.UnableToStart, match="differ from the approved ones"):
            approval.start_execution(run=run, by=paying.checker, at=paying.at, seen=SEEN)
    else:
        with pytest.raises(approval.UnableToResume, match="differ from the approved ones"):
            approval.resume_run(run=run, by=paying.maker, at=paying.at, seen=SEEN)
