"""A hostile member of staff decides for oneself, splits a run under a limit, or hands over a file in secret."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction

from contributors.models import Contributor, ContributorLink
from contributors.operations import links
from contributors.operations.deciding import acts_for
from contributors.operations.people import add_member
from ledger.journal import AccountKey
from ledger.models import ManualEntry
from ledger.operations.manual import propose_manual_entry
from payouts.models import Hold, PayoutAccount, PayoutRun
from payouts.operations import bank_files, bank_lines, banks, building, closing, holds, reversals, runs
from payouts.operations.accounts import refresh_holds
from people import actor
from people.models import User
from people.operations import staff
from people.operations.proposals import UnableToDecide, approve, reject
from tests.payouts.test_bank_rail import NEW_IBAN, executing, export, line, payee, sent
from tests.worlds.world import CENT, SEEN, World, only, states


@pytest.fixture(autouse=True)
def programme_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PROGRAMME_ACCOUNTS", {"USD": "DE89370400440532013000"})


# --- for oneself --------------------------------------------------------------------------------------------------
def test_nobody_of_staff_acts_on_the_payouts_of_a_contributor_that_they_act_for(world: World) -> None:
    contributor = world.contributor(1000)
    for person in (world.checker, world.compliance):
        add_member(contributor=contributor, user=person, role="viewer", at=world.at)
    hold = holds.place_hold(contributor=contributor, reason="manual_admin", by=world.maker, at=world.at, seen=SEEN)
    with pytest.raises(actor.UnableToActForOneself, match=f"You act for {contributor}"):
        holds.release_hold(hold=hold, by=world.checker, at=world.at, seen=SEEN)
    with pytest.raises(actor.UnableToActForOneself):
        banks.choose_rail(
            contributor=contributor, rail="manual_bank_file", by=world.checker, reason="mine", at=world.at, seen=SEEN
        )
    with pytest.raises(actor.UnableToActForOneself):
        world.tax_form(contributor)
    assert holds.release_hold(hold=hold, by=world.second_checker, at=world.at, seen=SEEN).released_at


def test_who_acts_for_a_payee_approves_no_run_that_pays_them(world: World) -> None:
    world.policy(second_approval_minor=1500)
    contributor = world.contributor(1000)
    world.contributor(1000)
    add_member(contributor=contributor, user=world.second_checker, role="viewer", at=world.at)
    run = world.in_review()
    for _ in ("the first", "the second"):
        with pytest.raises(actor.UnableToActForOneself, match=f"You act for {contributor}"):
            world.approve(run, by=world.second_checker)
        run = world.approve(run, by=world.checker if run.approved_by is None else world.second_checker_as_maker())
    assert run.state == PayoutRun.State.APPROVED


def linked(world: World, *accounts: Contributor) -> None:
    """Let compliance find that the accounts belong to one person."""
    found = links.propose_link(contributors=accounts, reason="One man.", by=world.compliance, at=world.at, seen=SEEN)
    colleague = User.objects.filter(name="colleague").first() or world._user("colleague", "compliance")
    approve(found, by=colleague, at=world.at, seen=SEEN)


def test_a_link_of_accounts_counts_as_acting_for_each_of_them(world: World) -> None:
    own, between, payee_account, stranger = (world.contributor(amount) for amount in (0, 0, 1000, 1000))
    add_member(contributor=own, user=world.checker, role="owner", at=world.at)
    run = world.in_review()
    linked(world, own, between)
    linked(world, between, payee_account)
    words = f"linked with {payee_account}"
    with pytest.raises(actor.UnableToActForOneself, match=words):
        world.approve(run)
    for name in ("approved_by", "second_approved_by"):
        with (
            pytest.raises(IntegrityError, match="acts for one of its payees"),
            transaction.atomic(),
        ):
            PayoutRun.objects.filter(pk=run.pk).update(**{name: world.checker})
    hold = holds.place_hold(contributor=payee_account, reason="manual_admin", by=world.maker, at=world.at, seen=SEEN)
    with pytest.raises(actor.UnableToActForOneself, match=words):
        holds.release_hold(hold=hold, by=world.checker, at=world.at, seen=SEEN)
    lines = [
        (AccountKey("contributor_payable", "USD", f"contributor:{payee_account.pk}"), 60 * CENT),
        (AccountKey("programme_cost", "USD"), -60 * CENT),
    ]
    entry = propose_manual_entry(lines=lines, reason="owed", reference="letter 1", by=world.maker, at=world.at)
    with pytest.raises(UnableToDecide, match=words):
        approve(entry, by=world.checker, at=world.at, seen=SEEN)
    with pytest.raises(IntegrityError, match="acts for a contributor of its lines"), transaction.atomic():
        ManualEntry.objects.filter(pk=entry.pk).update(
            state="approved", decided_by=world.checker, decided_at=world.at, entry=None
        )
    assert not acts_for(by=world.checker, contributors=[stranger.pk])
    holds.release_hold(hold=hold, by=world.second_checker, at=world.at, seen=SEEN)
    assert world.approve(run, by=world.second_checker).state == PayoutRun.State.APPROVED


def test_an_ended_link_counts_no_more(world: World) -> None:
    own, other = world.contributor(), world.contributor(1000)
    add_member(contributor=own, user=world.checker, role="viewer", at=world.at)
    linked(world, own, other)
    assert acts_for(by=world.checker, contributors=[other.pk])
    (link,) = ContributorLink.objects.all()
    ending = links.propose_end_of_link(link=link, reason="No.", by=world.compliance, at=world.at, seen=SEEN)
    approve(ending, by=User.objects.get(name="colleague"), at=world.at, seen=SEEN)
    assert not acts_for(by=world.checker, contributors=[other.pk])


def test_who_acts_for_a_payee_does_not_say_what_became_of_their_transfer(world: World) -> None:
    """Otherwise they would call a paid transfer rejected, name another account, and be paid again."""
    own, other = payee(world, 7000), payee(world, 8000)
    add_member(contributor=own, user=world.second_checker, role="owner", at=world.at)
    run, _file = sent(world)
    for kind in ("rejected", "executed"):
        lines = [line(run.payouts.get(contributor=contributor), kind) for contributor in (own, other)]
        results = bank_lines.record_bank_lines(lines=lines, by=world.second_checker, at=world.at, seen=SEEN)
        assert (results[0].outcome, results[0].words.startswith(f"You act for {own}")) == ("refused", True)
    assert world.payable(own) == 0
    assert states(run) == ["sending", "held"]


def test_who_acts_for_a_payee_does_not_withdraw_the_file_that_pays_them(world: World) -> None:
    contributor = payee(world, 7000)
    add_member(contributor=contributor, user=world.second_checker, role="owner", at=world.at)
    file = export(world, executing(world))
    with pytest.raises(actor.UnableToActForOneself, match=f"You act for {contributor}"):
        bank_files.withdraw_bank_file(file=file, by=world.second_checker, reason="lost", at=world.at, seen=SEEN)


def test_who_acts_for_a_payee_neither_takes_their_payout_back_nor_decides_what_became_of_it(paying: World) -> None:
    contributor = paying.contributor(1000)
    add_member(contributor=contributor, user=paying.second_checker, role="owner", at=paying.at)
    payout = only(paying.pay(paying.executing()))
    with pytest.raises(actor.UnableToActForOneself, match=f"You act for {contributor}"):
        reversals.reverse_payout(
            payout=payout, amount_minor=1000, by=paying.second_checker, reason="x", at=paying.at, seen=SEEN
        )
    with pytest.raises(actor.UnableToActForOneself, match=f"You act for {contributor}"):
        closing.decide_unknown(
            payout=payout, paid_transfer_id=None, by=paying.second_checker, note="none", at=paying.at, seen=SEEN
        )


def test_who_acts_for_a_payee_does_not_explain_away_what_differs_about_their_payout(world: World) -> None:
    contributor = payee(world, 7000)
    add_member(contributor=contributor, user=world.second_checker, role="viewer", at=world.at)
    run, _file = sent(world)
    short = line(run.payouts.get(), amount_minor=6999)
    bank_lines.record_bank_lines(lines=[short], by=world.checker, at=world.at, seen=SEEN)
    difference = run.differences.get()
    with pytest.raises(actor.UnableToActForOneself, match=f"You act for {contributor}"):
        closing.sign_off(difference=difference, by=world.second_checker, note="a fee", at=world.at, seen=SEEN)
    signed = closing.sign_off(difference=difference, by=world.checker, note="a fee", at=world.at, seen=SEEN)
    assert signed.state == "signed_off"


# --- limits -------------------------------------------------------------------------------------------------------
def test_a_run_split_under_the_limit_takes_a_second_approver_all_the_same(world: World) -> None:
    world.policy(second_approval_minor=1500)
    people = [world.contributor(1000), world.contributor(1000)]
    run = world.in_review()
    assert run.needs_second_approval
    first, other = runs.exclude(run=run, contributors=[people[0].pk], by=world.maker, at=world.at, seen=SEEN)
    later = world.at + timedelta(days=3)
    first = runs.submit_run(run=first, by=world.maker, at=later, seen=SEEN)
    assert (first.total_minor, first.needs_second_approval) == (1000, True)
    runs.cancel_run(run=first, by=world.maker, at=later, seen=SEEN)
    other = runs.take_up_run(run=other, by=world.maker, at=later, seen=SEEN)
    # A cancelled run pays nobody: alone, the other part is under the limit.
    other = runs.submit_run(run=other, by=world.maker, at=later, seen=SEEN)
    assert not other.needs_second_approval


def test_runs_of_one_day_that_one_person_approves_alone_are_limited_together(world: World) -> None:
    world.policy(second_approval_minor=15_000)
    world.contributor(10_000)
    payee(world, 10_000)
    assert not world.in_review().needs_second_approval

    def by_bank(hours: int) -> PayoutRun:
        at = world.at + timedelta(hours=hours)
        run = building.build_run(
            currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=at, seen=SEEN
        )
        return runs.submit_run(run=run, by=world.maker, at=at, seen=SEEN)

    second = by_bank(23)
    assert second.needs_second_approval
    runs.cancel_run(run=second, by=world.maker, at=world.at, seen=SEEN)
    assert not by_bank(25).needs_second_approval


def test_a_run_that_two_people_approve_takes_nothing_from_what_one_approves_alone(world: World) -> None:
    world.policy(second_approval_minor=15_000)
    world.contributor(16_000)
    payee(world, 10_000)
    assert world.in_review().needs_second_approval
    by_bank = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    )
    assert not runs.submit_run(run=by_bank, by=world.maker, at=world.at, seen=SEEN).needs_second_approval


# --- files --------------------------------------------------------------------------------------------------------
def test_who_downloaded_a_file_does_not_declare_that_the_bank_never_got_it(world: World) -> None:
    payee(world, 7000)
    file = export(world, executing(world))
    bank_files.read_bank_file(file=file, by=world.checker, at=world.at, seen=SEEN)
    with pytest.raises(bank_files.UnableToChangeBankFile, match="You downloaded this file"):
        bank_files.withdraw_bank_file(file=file, by=world.checker, reason="lost", at=world.at, seen=SEEN)
    withdrawn = bank_files.withdraw_bank_file(
        file=file, by=world.second_checker, reason="the bank's list has none", at=world.at, seen=SEEN
    )
    assert withdrawn.state == "withdrawn"


# --- rails --------------------------------------------------------------------------------------------------------
def test_a_change_of_rail_begins_a_cool_down_also_to_an_account_that_was_known(world: World) -> None:
    contributor = world.contributor(7000, country="GB")
    refresh_holds(account=PayoutAccount.objects.get(contributor=contributor), at=world.at)

    def choose(rail: str, days: int) -> None:
        banks.choose_rail(
            contributor=contributor,
            rail=rail,
            by=world.checker,
            reason="asked",
            at=world.at + timedelta(days=days),
            seen=SEEN,
        )

    def cool_down() -> object:
        return Hold.objects.get(
            contributor=contributor, reason="bank_details_changed_recently", released_at__isnull=True
        ).ends_at

    choose("manual_bank_file", 0)
    banks.record_bank_details(contributor=contributor, holder_name="A", iban=NEW_IBAN, by=world.owner, at=world.at)
    choose("stripe_transfer", 10)
    assert cool_down() == world.at + timedelta(days=13)
    choose("manual_bank_file", 20)
    assert PayoutAccount.objects.get(contributor=contributor).bank_fingerprint
    assert cool_down() == world.at + timedelta(days=23)


# --- roles --------------------------------------------------------------------------------------------------------
def test_an_administrator_who_was_dismissed_meanwhile_changes_no_roles(world: World) -> None:
    first, second = world._user("first", "admin"), world._user("second", "admin")
    assert first.has_role("admin")
    with pytest.raises(staff.UnableToChangeRoles, match="two administrators"):
        staff.change_roles(user=first, roles=[], by=second, reason="left", at=world.at, seen=SEEN)
    proposed = staff.propose_roles(user=first, roles=[], by=second, reason="left", at=world.at, seen=SEEN)
    approve(proposed, by=world.compliance, at=world.at, seen=SEEN)
    # `first` still holds the roles that a request had read before the change.
    with pytest.raises(staff.UnableToChangeRoles, match="you administer no more"):
        staff.change_roles(user=second, roles=[], by=first, reason="revenge", at=world.at, seen=SEEN)
    with pytest.raises(staff.UnableToChangeRoles, match=r"changed since you opened the page: now none"):
        staff.change_roles(
            user=first, roles=["admin", "auditor"], known=["admin"], by=second, reason="x", at=world.at, seen=SEEN
        )


# --- linked accounts ----------------------------------------------------------------------------------------------
def test_nobody_of_compliance_decides_whether_their_own_accounts_are_one(world: World) -> None:
    one, other = world.contributor(1000), world.contributor(1000)
    colleague = world._user("colleague", "compliance")
    add_member(contributor=other, user=colleague, role="viewer", at=world.at)
    with pytest.raises(actor.UnableToActForOneself):
        links.dismiss_suspicion(contributors=[one, other], reason="My brother's.", by=colleague, at=world.at, seen=SEEN)
    link = links.propose_link(
        contributors=[one, other], reason="One bank account.", by=world.compliance, at=world.at, seen=SEEN
    )
    for decide in (approve, reject):
        with pytest.raises(UnableToDecide, match="You act for"):
            decide(link, by=colleague, at=world.at, seen=SEEN)


def test_who_approved_a_link_on_an_old_page_does_not_approve_its_end(world: World) -> None:
    accounts = [world.contributor(1000), world.contributor(1000)]
    second, third = world._user("second", "compliance"), world._user("third", "compliance")
    link = links.propose_link(contributors=accounts, reason="One bank account.", by=world.compliance, at=world.at)
    agreed = approve(link, by=second, at=world.at, seen=SEEN)
    end = links.propose_end_of_link(link=agreed, reason="Sold.", by=second, at=world.at)
    with pytest.raises(UnableToDecide, match="approved already"):
        approve(link, by=third, at=world.at, seen=SEEN)
    end.refresh_from_db()
    assert end.state == "proposed"
