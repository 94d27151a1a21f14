"""Every rule of the database, attacked by raw SQL as the application's own role."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from django.db import DatabaseError, connection, models, transaction

from payouts.attempts import content
from payouts.models import Difference, Payout, PayoutAttempt, PayoutRun
from payouts.operations import holds
from people.models import AuditEvent
from people.queries import audit as audit_queries
from tests.worlds.world import SEEN, World, only


def attack(sql: str, *params: Any) -> str:
    """Run a statement that must fail; returns the name of the rule that stopped it."""
    with pytest.raises(DatabaseError) as caught, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, params)
    cause: Any = caught.value.__cause__
    return str(cause.diag.constraint_name or cause.diag.message_primary)


def columns_but(*names: str) -> str:
    """The columns of a payout, for copying one."""
    return ", ".join(str(f.column) for f in Payout._meta.fields if f.column not in names)


def run_sql(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


INSERT_ATTEMPT = """
INSERT INTO payouts_payoutattempt (payout_id, number, kind, provider, idempotency_key, amount_minor, request,
  request_sha256, state, first_sent_at, sends, sends_not_executed, error_code, error_message, reserve_entry,
  balance_transaction, destination_payment)
VALUES (%s, %s, 'pay', 'stripe_transfer', %s, 1, '', '', 'sent', now(), 1, 0, '', '', 1, '', '')
"""


@pytest.fixture
def executing(world: World) -> PayoutRun:
    """An executing run of two payouts of which nothing was sent; nobody asked Stripe for its balance."""
    world.contributor(1_000)
    world.contributor(2_000)
    run = world.approved()
    run_sql("UPDATE payouts_payoutrun SET state = 'executing', started_at = %s WHERE id = %s", world.at, run.pk)
    run.refresh_from_db()
    return run


def test_a_second_key_cannot_exist_while_an_attempt_is_open(executing: PayoutRun) -> None:
    payout = executing.payouts.first()
    assert payout is not None
    run_sql(INSERT_ATTEMPT, payout.pk, 1, "k1")
    assert attack(INSERT_ATTEMPT, payout.pk, 2, "k2") == "one_open_attempt"
    run_sql("UPDATE payouts_payoutattempt SET state = 'unknown' WHERE payout_id = %s", payout.pk)
    assert attack(INSERT_ATTEMPT, payout.pk, 2, "k2") == "one_open_attempt"
    run_sql(
        "UPDATE payouts_payoutattempt SET state = 'succeeded', provider_transfer_id = 't' WHERE payout_id = %s",
        payout.pk,
    )
    assert attack(INSERT_ATTEMPT, payout.pk, 2, "k2") == "one_open_attempt"


def test_a_key_and_a_number_are_used_once(executing: PayoutRun) -> None:
    first, second = executing.payouts.order_by("pk")
    run_sql(INSERT_ATTEMPT, first.pk, 1, "k1")
    assert "idempotency_key" in attack(INSERT_ATTEMPT, second.pk, 1, "k1")
    run_sql("UPDATE payouts_payoutattempt SET state = 'refused' WHERE payout_id = %s", first.pk)
    assert attack(INSERT_ATTEMPT, first.pk, 1, "k2") == "a_payout_numbers_an_attempt_once"


def test_one_transfer_answers_one_attempt(executing: PayoutRun) -> None:
    first, second = executing.payouts.order_by("pk")
    run_sql(INSERT_ATTEMPT, first.pk, 1, "k1")
    run_sql(INSERT_ATTEMPT, second.pk, 1, "k2")
    done = "UPDATE payouts_payoutattempt SET state = 'succeeded', provider_transfer_id = 'tr_1' WHERE payout_id = %s"
    run_sql(done, first.pk)
    assert attack(done, second.pk) == "a_transfer_answers_one_attempt"


@pytest.mark.parametrize(
    "change",
    [
        "number = 9",
        "idempotency_key = 'other'",
        "request = 'amount=9'",
        "amount_minor = 9",
        "first_sent_at = now() + interval '1 s'",
        "reserve_entry = 2",
        "kind = 'reversal'",
    ],
)
def test_what_an_attempt_was_going_to_send_never_changes(executing: PayoutRun, change: str) -> None:
    payout = executing.payouts.first()
    assert payout is not None
    run_sql(INSERT_ATTEMPT, payout.pk, 1, "k1")
    run_sql("UPDATE payouts_payoutattempt SET error_code = 'x' WHERE payout_id = %s", payout.pk)
    rule = attack(f"UPDATE payouts_payoutattempt SET {change} WHERE payout_id = %s", payout.pk)
    assert rule == "payouts_payoutattempt_is_append_only"


def test_an_attempt_is_never_deleted_and_its_answer_never_replaced(executing: PayoutRun) -> None:
    payout = executing.payouts.first()
    assert payout is not None
    run_sql(INSERT_ATTEMPT, payout.pk, 1, "k1")
    run_sql(
        "UPDATE payouts_payoutattempt SET state = 'succeeded', provider_transfer_id = 't' WHERE payout_id = %s",
        payout.pk,
    )
    assert "permission denied" in attack("DELETE FROM payouts_payoutattempt")
    answer = attack("UPDATE payouts_payoutattempt SET provider_transfer_id = 'other'")
    assert answer == "payouts_payoutattempt_is_append_only"


def test_one_payout_of_a_person_and_currency_is_live(world: World, executing: PayoutRun) -> None:
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
    again = columns_but("id", "public_id", "run_id", "state")
    run_sql(
        f"INSERT INTO payouts_payout (public_id, run_id, state, {again}) SELECT gen_random_uuid(), %s, 'ready', "
        f"{again} FROM payouts_payout WHERE id = %s",
        other.pk,
        payout.pk,
    )
    # The state of the run would stop it first; that rule is attacked elsewhere.
    assert attack("UPDATE payouts_payout SET state = 'approved' WHERE run_id = %s", other.pk) in (
        "a_payout_moves_with_its_run",
        "one_live_payout",
    )
    index = "SELECT indexdef FROM pg_indexes WHERE indexname = 'one_live_payout'"
    with connection.cursor() as cursor:
        cursor.execute(index)
        definition = cursor.fetchone()[0]
    assert "UNIQUE" in definition
    assert all(state in definition for state in Payout.LIVE)


def test_a_person_is_paid_once_in_a_run(world: World) -> None:
    world.contributor(1_000)
    run = world.built()
    columns = columns_but("id", "public_id")
    rule = attack(
        f"INSERT INTO payouts_payout (public_id, {columns}) SELECT gen_random_uuid(), {columns} "
        "FROM payouts_payout WHERE run_id = %s",
        run.pk,
    )
    assert rule == "one_payout_per_run"


APPROVE = (
    "UPDATE payouts_payoutrun SET approved_by_id = %s, approved_at = now(), approval_expires_at = now(), "
    "approved_hash = content_hash WHERE id = %s"
)


def test_nobody_approves_what_they_built_or_edited_not_even_a_superuser(world: World) -> None:
    world.contributor(1_000)
    run = world.in_review()
    world.maker.is_superuser = True
    world.maker.save()
    assert attack(APPROVE, world.maker.pk, run.pk) == "approver_is_neither_creator_nor_last_editor"
    run_sql(APPROVE, world.checker.pk, run.pk)
    second = "UPDATE payouts_payoutrun SET second_approved_by_id = %s, second_approved_at = now() WHERE id = %s"
    for person in (world.checker, world.maker):
        assert attack(second, person.pk, run.pk) == "second_approver_is_somebody_else"
    run_sql(second, world.second_checker.pk, run.pk)


def test_the_creator_cannot_be_rewritten_to_let_them_approve(world: World) -> None:
    world.contributor(1_000)
    run = world.in_review()
    swap = "UPDATE payouts_payoutrun SET created_by_id = %s WHERE id = %s"
    assert attack(swap, world.checker.pk, run.pk) == "payouts_payoutrun_keeps_created_by_id"
    swap = "UPDATE payouts_payoutrun SET last_edited_by_id = %s WHERE id = %s"
    assert attack(swap, world.checker.pk, run.pk) == "a_run_past_draft_is_frozen"


def test_only_an_approved_run_executes(world: World) -> None:
    world.contributor(1_000)
    run = world.in_review()
    assert attack("UPDATE payouts_payoutrun SET state = 'approved' WHERE id = %s", run.pk) == (
        "only_an_approved_run_executes"
    )
    jump = attack("UPDATE payouts_payoutrun SET state = 'executing' WHERE id = %s", run.pk)
    assert jump in ("payouts_payoutrun_follows_the_arrows", "only_an_approved_run_executes")


def test_an_expired_approval_executes_nothing(world: World) -> None:
    world.contributor(1_000)
    run = world.approved()
    late = "UPDATE payouts_payoutrun SET state = 'executing', started_at = approval_expires_at WHERE id = %s"
    assert attack(late, run.pk) == "an_expired_approval_executes_nothing"


@pytest.mark.parametrize(
    "change",
    [
        "content_hash = '\\x00'",
        "total_minor = 1",
        "n_payouts = 9",
        "configuration = '{}'",
        "needs_second_approval = true",
    ],
)
def test_a_run_in_review_is_frozen(world: World, change: str) -> None:
    world.contributor(1_000)
    run = world.in_review()
    assert attack(f"UPDATE payouts_payoutrun SET {change} WHERE id = %s", run.pk) == "a_run_past_draft_is_frozen"


def test_an_approval_is_not_moved_to_another_hash(world: World) -> None:
    world.contributor(1_000)
    run = world.approved()
    change = "UPDATE payouts_payoutrun SET approved_hash = '\\x00' WHERE id = %s"
    assert attack(change, run.pk) in ("an_approval_is_given_in_review", "only_an_approved_run_executes")


@pytest.mark.parametrize(
    "change",
    [
        "amount_minor = 9, gross_minor = 9",
        "destination = 'acct_mine'",
        "contributor_id = contributor_id + 1",
        "currency = 'EUR'",
        "row_sha256 = ''",
        "run_id = run_id + 1",
        "public_id = gen_random_uuid()",
    ],
)
def test_the_terms_of_a_payout_never_change(executing: PayoutRun, change: str) -> None:
    rule = attack(f"UPDATE payouts_payout SET {change} WHERE run_id = %s", executing.pk)
    assert rule.startswith("payouts_payout_keeps_")


def test_no_payout_joins_or_leaves_a_run_past_draft(world: World) -> None:
    world.contributor(1_000)
    run = world.in_review()
    assert attack("DELETE FROM payouts_payout WHERE run_id = %s", run.pk) == "payouts_of_a_run_past_draft_are_frozen"
    world.contributor(1_000)
    columns = columns_but("id", "public_id", "contributor_id")
    rule = attack(
        f"INSERT INTO payouts_payout (public_id, contributor_id, {columns}) SELECT gen_random_uuid(), %s, {columns} "
        "FROM payouts_payout WHERE run_id = %s",
        world.contributors[1].pk,
        run.pk,
    )
    assert rule == "payouts_of_a_run_past_draft_are_frozen"


def test_a_payout_is_sent_only_by_an_executing_run(world: World) -> None:
    world.contributor(1_000)
    run = world.approved()
    assert attack("UPDATE payouts_payout SET state = 'sending' WHERE run_id = %s", run.pk) == (
        "a_payout_moves_with_its_run"
    )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("reversed_minor = amount_minor + 1", "no_more_is_reversed_than_was_paid"),
        ("reversed_minor = -1", "reversals_only_grow"),
        ("state = 'held', reason = ''", "a_held_payout_says_why"),
    ],
)
def test_amounts_and_reasons_are_checked(executing: PayoutRun, change: str, rule: str) -> None:
    assert attack(f"UPDATE payouts_payout SET {change} WHERE run_id = %s", executing.pk) == rule


@pytest.mark.parametrize(
    ("model", "table", "begins"),
    [
        (PayoutRun, "payouts_payoutrun", ["draft", "set_aside"]),
        (Payout, "payouts_payout", ["ready"]),
        (PayoutAttempt, "payouts_payoutattempt", ["sent"]),
        (Difference, "payouts_difference", ["open"]),
    ],
)
def test_the_database_has_exactly_the_arrows_of_the_models(
    db: None, model: type[models.Model], table: str, begins: list[str]
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT encode(t.tgargs, 'escape') FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
            "WHERE t.tgrelid = %s::regclass AND p.proname = 'rows_follow_the_arrows'",
            [table],
        )
        (arguments,) = cursor.fetchone()
    stored = {part for part in arguments.split("\\000") if part}
    transitions: dict[str, set[str]] = model.TRANSITIONS  # type: ignore[attr-defined]
    assert set(transitions) == set(model.State.values)  # type: ignore[attr-defined]
    wanted = {f"{a}>{b}" for a, ends in transitions.items() for b in ends} | {f"={state}" for state in begins}
    assert stored == wanted


def test_every_other_move_of_a_payout_is_refused(executing: PayoutRun) -> None:
    """From `approved`, where the payouts of this run stand, along every arrow that is not drawn."""
    for state in Payout.State.values:
        if state != "approved" and state not in Payout.TRANSITIONS["approved"]:
            rule = attack("UPDATE payouts_payout SET state = %s WHERE run_id = %s", state, executing.pk)
            assert rule == "payouts_payout_follows_the_arrows"


def test_a_run_is_never_deleted_and_its_origin_never_rewritten(world: World) -> None:
    world.contributor(1_000)
    run = world.built()
    assert "permission denied" in attack("DELETE FROM payouts_payoutrun")
    for change in ("currency = 'EUR'", "cut_off = now()", "created_at = now()", "public_id = gen_random_uuid()"):
        rule = attack(f"UPDATE payouts_payoutrun SET {change} WHERE id = %s", run.pk)
        assert rule.startswith("payouts_payoutrun_keeps_")


def test_a_hold_keeps_its_beginning_and_stays_released(world: World) -> None:
    contributor = world.contributor(1_000)
    hold = holds.place_hold(contributor=contributor, reason="fraud_review", by=world.compliance, at=world.at, seen=SEEN)
    assert attack("UPDATE payouts_hold SET reason = 'manual_admin'").startswith("payouts_hold_keeps_")
    holds.release_hold(hold=hold, by=world.compliance, at=world.at, seen=SEEN)
    assert attack("UPDATE payouts_hold SET released_at = NULL") == "payouts_hold_is_append_only"
    assert "permission denied" in attack("DELETE FROM payouts_hold")


def test_the_creator_of_a_run_does_not_sign_off_its_differences(world: World) -> None:
    world.contributor(1_000)
    run = world.built()
    Difference.objects.create(
        type="amount", run=run, currency="USD", subject="tr_1", words="Not the same.", found_at=world.at
    )
    sign = "UPDATE payouts_difference SET state = 'signed_off', note = 'x', signed_off_by_id = %s"
    assert attack(sign, world.maker.pk) == "sign_off_is_by_another_than_the_creator"
    assert attack("UPDATE payouts_difference SET state = 'signed_off'") == "a_sign_off_has_a_person_and_a_note"
    assert attack("UPDATE payouts_difference SET found = 'nothing'").startswith("payouts_difference_keeps_")
    run_sql(sign, world.checker.pk)


def test_the_audit_log_is_append_only_and_chained(world: World) -> None:
    world.contributor(1_000)
    world.in_review()
    events = list(AuditEvent.objects.order_by("sequence"))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    for before, after in itertools.pairwise(events):
        assert bytes(after.prev_hash) == bytes(before.hash)
    assert audit_queries.first_broken_audit_event() is None
    assert "permission denied" in attack("UPDATE people_auditevent SET action = 'x'")
    assert "permission denied" in attack("DELETE FROM people_auditevent")


def test_nobody_chooses_a_place_or_a_hash_in_the_audit_log(world: World) -> None:
    run_sql(
        "INSERT INTO people_auditevent (sequence, at, action, subject, before, after, request_id, prev_hash, hash) "
        "VALUES (999, now(), 'forged', 'x', '{}', '{}', '', '\\x01', '\\x02')"
    )
    assert AuditEvent.objects.get(action="forged").sequence != 999
    assert audit_queries.first_broken_audit_event() is None


@pytest.mark.parametrize("table", ["payouts_payoutpolicy", "payouts_reconciliation", "payouts_taxprofile"])
def test_records_of_rules_and_comparisons_are_append_only(world: World, table: str) -> None:
    assert "permission denied" in attack(f"UPDATE {table} SET id = id")
    assert "permission denied" in attack(f"DELETE FROM {table}")


def test_the_application_truncates_nothing(world: World) -> None:
    for table in ("payouts_payout", "payouts_payoutattempt", "people_auditevent", "payouts_webhookevent"):
        assert "permission denied" in attack(f"TRUNCATE {table} CASCADE")


def test_a_payouts_row_is_hashed_with_its_destination(world: World) -> None:
    world.contributor(1_000)
    payout = only(world.built())
    before = content.row_sha256(payout)
    assert bytes(payout.row_sha256) == before
    payout.destination = "acct_other"
    assert content.row_sha256(payout) != before
