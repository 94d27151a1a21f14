"""Holds: every reason has an owner, words and a way out; the automatic ones come and go with their reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contributors.models import Contributor
from payouts.models import Hold, HoldReason, LeftOut, PayoutAccount
from payouts.operations import accounts, banks, building, holds, runs
from payouts.queries import balances, payees
from payouts.queries.hold_reasons import (
    DISABLED_REASONS,
    PLACED_BY_PEOPLE,
    RULES,
    Owner,
    reason_of_disabling,
    why_not_release,
)
from payouts.rails import amounts
from payouts.rails.stripe import calls
from payouts.reconciliation import sweeping
from people import actor
from people.models import STAFF_ROLES
from people.queries import audit as audit_queries
from tests.worlds.world import ADDRESS, SEEN, World

R = HoldReason


def open_reasons(contributor: Contributor) -> set[str]:
    return {one.hold.reason for one in payees.open_holds(contributor)}


def refresh(world: World, contributor: Contributor, *, days: float = 0) -> set[str]:
    account = PayoutAccount.objects.get(contributor=contributor)
    accounts.refresh_holds(account=account, at=world.at + timedelta(days=days))
    return open_reasons(contributor)


# --- every reason -------------------------------------------------------------------------------------------------
def test_every_reason_has_an_owner_and_words_for_the_contributor() -> None:
    assert set(RULES) == set(HoldReason)
    for reason, rule in RULES.items():
        for sentence in (rule.words, rule.remedy):
            assert sentence[0].isupper(), reason
            assert sentence.endswith("."), reason
            assert "_" not in sentence, reason
            assert len(sentence) < 200, reason
        assert rule.owner in list(Owner), reason


@pytest.mark.parametrize("reason", list(HoldReason))
def test_a_hold_of_every_reason_stops_a_payout_and_tells_its_owner_and_remedy(world: World, reason: HoldReason) -> None:
    contributor = world.contributor(1000)
    hold = holds.place_hold(contributor=contributor, reason=reason, at=world.at)
    run = world.built()
    row = run.left_out.get()
    is_onboarding = reason in (R.ONBOARDING_INCOMPLETE, R.BANK_ACCOUNT_MISSING)
    expected = LeftOut.Reason.NOT_ONBOARDED if is_onboarding else LeftOut.Reason.HELD
    assert (run.payouts.count(), row.reason, row.hold_reason) == (0, expected, reason)
    assert (row.words, row.remedy) == (RULES[reason].words, RULES[reason].remedy)
    told = contributor.notices.get(kind="hold_placed")
    assert told.words == f"{RULES[reason].words} {RULES[reason].remedy}"
    assert hold.placed_by is None


FINANCE, COMPLIANCE, NOBODY = {"finance_checker", "compliance", "admin"}, {"compliance"}, set[str]()
# reason -> (its owner, the roles that end it by hand). Written out once more, so that a change of the table is a
# decision.
RELEASES: dict[HoldReason, tuple[str, set[str]]] = {
    R.ONBOARDING_INCOMPLETE: ("contributor", NOBODY),
    R.BANK_ACCOUNT_MISSING: ("contributor", NOBODY),
    R.BANK_DETAILS_INCOMPLETE: ("contributor", NOBODY),
    R.TRANSFERS_CAPABILITY_INACTIVE: ("contributor", NOBODY),
    R.PAYOUTS_DISABLED: ("contributor", NOBODY),
    R.REQUIREMENTS_PAST_DUE: ("contributor", NOBODY),
    R.STRIPE_UNDER_REVIEW: ("Stripe", NOBODY),
    R.SANCTIONS_LISTED: ("compliance", COMPLIANCE),
    R.REJECTED_BY_STRIPE: ("compliance", COMPLIANCE),
    R.ACCOUNT_DISCONNECTED: ("contributor", NOBODY),
    R.ACCOUNT_OUTDATED: ("contributor", NOBODY),
    R.ACCOUNT_REPLACED: ("finance", FINANCE),
    R.BANK_DETAILS_CHANGED_RECENTLY: ("finance", NOBODY),
    R.TAX_FORM_MISSING: ("contributor", NOBODY),
    R.TAX_FORM_EXPIRED: ("contributor", NOBODY),
    R.DISPUTE_OR_CLAIM: ("finance", FINANCE),
    R.ATTRIBUTION_UNDER_REVIEW: ("finance", FINANCE),
    R.FRAUD_REVIEW: ("compliance", COMPLIANCE),
    R.NEGATIVE_BALANCE: ("finance", FINANCE),
    R.NEGATIVE_STRIPE_BALANCE: ("Stripe", NOBODY),
    R.COUNTRY_UNSUPPORTED: ("finance", FINANCE),
    R.CURRENCY_UNSUPPORTED: ("finance", FINANCE),
    R.AMOUNT_OUT_OF_RANGE: ("finance", FINANCE),
    R.REFUSED_BY_STRIPE: ("finance", FINANCE),
    R.REFUSED_BY_BANK: ("contributor", NOBODY),
    R.MANUAL_ADMIN: ("finance", FINANCE),
    R.CONTRIBUTOR_PAUSED: ("contributor", {"contributor", "compliance"}),
    R.FIRST_PAYOUT_PROBATION: ("finance", NOBODY),
}


@pytest.mark.parametrize("reason", list(HoldReason))
def test_who_releases_a_hold_follows_from_its_rule(world: World, reason: HoldReason) -> None:
    """Everybody tries: each role of staff, the contributor and a stranger; then the page's own answer is compared."""
    owner, allowed = RELEASES[reason]
    assert RULES[reason].owner == owner
    contributor = world.contributor(1000)
    people = {role: world._user(role, role) for role in STAFF_ROLES} | {"stranger": world._user("stranger")}
    released = set()
    for name, by in people.items():
        hold = holds.place_hold(contributor=contributor, reason=reason, at=world.at)
        assert (why_not_release(hold, by) == "") == (name in allowed), name
        if not allowed:
            assert RULES[reason].remedy in why_not_release(hold, by), "staff reads what the contributor was told"
        try:
            holds.release_hold(hold=hold, by=by, at=world.at, note="seen to", seen=SEEN)
            released.add(name)
        except (actor.UnableToAct, holds.UnableToReleaseHold):
            Hold.objects.filter(pk=hold.pk).update(released_at=world.at)
    hold = holds.place_hold(contributor=contributor, reason=reason, at=world.at)
    try:
        holds.resume_own_payouts(contributor=contributor, by=world.owner, at=world.at)
        released.add("contributor")
    except holds.UnableToReleaseHold:
        assert Hold.objects.get(pk=hold.pk).released_at is None
    assert released == allowed


def test_a_reason_that_people_place_can_be_released_by_its_owner() -> None:
    """And a hold that nobody releases by hand comes and goes with its reason."""
    for reason, (owner, allowed) in RELEASES.items():
        assert RULES[reason].automatic or allowed, reason
        if reason in PLACED_BY_PEOPLE:
            assert {"finance": "finance_checker"}.get(owner, owner) in allowed, reason


def test_compliance_lifts_a_contributors_own_pause_with_a_reason_alone(world: World) -> None:
    contributor = world.contributor(1000)
    hold = holds.pause_own_payouts(contributor=contributor, by=world.owner, at=world.at)
    with pytest.raises(holds.UnableToReleaseHold, match="Say why it is lifted without them"):
        holds.release_hold(hold=hold, by=world.compliance, at=world.at, note=" ", seen=SEEN)
    holds.release_hold(hold=hold, by=world.compliance, at=world.at, note="a court's order", seen=SEEN)
    assert open_reasons(contributor) == set()
    lifted = audit_queries.audit_events(f"contributor:{contributor.pk}").get(action="release_hold")
    assert (lifted.actor, lifted.after) == (world.compliance, {"note": "a court's order"})


@pytest.mark.parametrize("reason", list(HoldReason))
def test_people_place_only_what_people_decide(world: World, reason: HoldReason) -> None:
    contributor = world.contributor(1000)

    def place() -> None:
        holds.place_hold(contributor=contributor, reason=reason, by=world.compliance, at=world.at, seen=SEEN)

    if reason in PLACED_BY_PEOPLE:
        place()
        assert reason in open_reasons(contributor)
    else:
        with pytest.raises(holds.UnableToPlaceHold, match="comes and goes by itself"):
            place()


@pytest.mark.parametrize("disabled", [*DISABLED_REASONS, "rejected.fraud", "rejected.listed", "something_new"])
def test_whatever_stripe_names_as_the_reason_becomes_a_hold(disabled: str) -> None:
    reason = reason_of_disabling(disabled)
    assert reason in RULES
    if "listed" in disabled:
        assert reason == R.SANCTIONS_LISTED
        assert not RULES[reason].automatic
    elif disabled.startswith("rejected"):
        assert reason == R.REJECTED_BY_STRIPE


# --- those that come and go ---------------------------------------------------------------------------------------
def test_a_missing_and_an_old_tax_form_stop_payments_until_a_new_one_comes(world: World) -> None:
    world.policy(requires_tax_form=True)
    contributor = world.contributor(1000)
    assert refresh(world, contributor) == {R.TAX_FORM_MISSING}
    world.tax_form(contributor, valid_until=world.at.date())
    assert open_reasons(contributor) == set(), "recording the form releases the hold at once"
    assert refresh(world, contributor) == set()
    assert refresh(world, contributor, days=1) == {R.TAX_FORM_EXPIRED}
    tomorrow = world.at + timedelta(days=1)
    world.tax_form(contributor, valid_until=(world.at + timedelta(days=900)).date(), at=tomorrow)
    assert open_reasons(contributor) == set()


def test_a_first_payout_waits_for_the_probation_and_goes_on_by_itself(world: World) -> None:
    world.policy(probation_days=7)
    contributor = world.contributor(1000)
    assert refresh(world, contributor) == {R.FIRST_PAYOUT_PROBATION}
    hold = Hold.objects.get(contributor=contributor)
    assert hold.ends_at == world.at + timedelta(days=7)
    assert refresh(world, contributor, days=7) == set()


def test_a_currency_that_the_rail_does_not_pay_is_a_hold_until_the_rail_changes(world: World) -> None:
    contributor = world.contributor(1000)
    world.currency = "BHD"
    world.policy()
    Contributor.objects.filter(pk=contributor.pk).update(currency="BHD")
    assert refresh(world, contributor) == {R.CURRENCY_UNSUPPORTED}
    Contributor.objects.filter(pk=contributor.pk).update(currency="USD")
    assert refresh(world, contributor) == set()


def test_what_the_rail_itself_refused_is_not_released_by_a_table_of_ours(world: World) -> None:
    contributor = world.contributor(1000)
    payout = world.approved().payouts.get()
    holds.place_hold(contributor=contributor, reason="country_unsupported", payout=payout, at=world.at)
    assert refresh(world, contributor) == {R.COUNTRY_UNSUPPORTED}
    hold = Hold.objects.get(contributor=contributor)
    holds.release_hold(hold=hold, by=world.checker, at=world.at, seen=SEEN)
    assert open_reasons(contributor) == set()


def test_a_country_without_a_rail_is_said_at_once(world: World) -> None:
    contributor = world.contributor(1000, outcome=None)
    # Registered while another rail paid there, or moved since.
    Contributor.objects.filter(pk=contributor.pk).update(country="NG")
    contributor.refresh_from_db()
    banks.account_on_rail(contributor=contributor, at=world.at)
    assert refresh(world, contributor) == {R.COUNTRY_UNSUPPORTED}
    row = building.build_run(
        currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
    ).left_out.get()
    assert "no way yet of paying to your country" in row.words


def test_a_balance_below_zero_at_stripe_is_found_by_the_sweep_and_ends_with_its_reason(
    paying: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paying.sandbox is not None
    contributor = paying.contributor(1000)
    account = paying.account(contributor)
    paying.sandbox.adjust(account, -500)
    later = paying.at + timedelta(hours=25)
    PayoutAccount.objects.exclude(contributor=contributor).update(synced_at=later)
    sweeping.sweep_accounts(at=later)
    assert open_reasons(contributor) == {R.NEGATIVE_STRIPE_BALANCE}
    assert paying.built().left_out.get().hold_reason == R.NEGATIVE_STRIPE_BALANCE
    paying.sandbox.adjust(account, 500)
    sweeping.sweep_accounts(at=later + timedelta(hours=25))
    assert open_reasons(contributor) == set()
    assert calls.balance(account).total("USD") == 0


def test_a_contributor_pauses_and_resumes_its_own_payouts(world: World) -> None:
    contributor = world.contributor(1000)
    holds.pause_own_payouts(contributor=contributor, by=world.owner, at=world.at)
    assert world.built().left_out.get().hold_reason == R.CONTRIBUTOR_PAUSED
    with pytest.raises(holds.UnableToPlaceHold, match="paused already"):
        holds.pause_own_payouts(contributor=contributor, by=world.owner, at=world.at)
    assert refresh(world, contributor) == {R.CONTRIBUTOR_PAUSED}
    holds.resume_own_payouts(contributor=contributor, by=world.owner, at=world.at)
    assert open_reasons(contributor) == set()
    with pytest.raises(holds.UnableToReleaseHold):
        holds.resume_own_payouts(contributor=contributor, by=world.owner, at=world.at)


def test_only_who_manages_a_contributor_pauses_its_payouts(world: World) -> None:
    contributor = world.contributor(1000)
    for act in (holds.pause_own_payouts, holds.resume_own_payouts):
        with pytest.raises(holds.UnableToPlaceHold, match="does not manage"):
            act(contributor=contributor, by=world.checker, at=world.at)


# --- thresholds, maturity, dormancy -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("country", "currency", "rail", "least"),
    [
        ("US", "USD", "stripe_transfer", 1),
        ("GB", "GBP", "stripe_transfer", 100),
        ("JP", "JPY", "stripe_transfer", 1),
        ("HU", "HUF", "stripe_transfer", 40000),
        ("TW", "TWD", "stripe_transfer", 80000),
        ("BR", "USD", "manual_bank_file", 5000),
        ("KW", "KWD", "manual_bank_file", 15000),
        ("XX", "USD", "stripe_transfer", 1),
    ],
)
def test_a_rail_has_a_least_amount_by_country_and_currency(country: str, currency: str, rail: str, least: int) -> None:
    assert amounts.rail_minimum(country, currency, rail=rail) == least


def test_the_largest_of_the_three_thresholds_counts(world: World) -> None:
    contributor = world.contributor(4999, outcome=None, country="BR")
    banks.record_bank_details(
        contributor=contributor,
        holder_name="A",
        iban="GB33BUKB20201555555555",
        address=ADDRESS,
        by=world.owner,
        at=world.at,
    )

    def build() -> Any:
        run = building.build_run(
            currency="USD", rail="manual_bank_file", cut_off=world.at, by=world.maker, at=world.at, seen=SEEN
        )
        runs.cancel_run(run=run, by=world.maker, at=world.at, seen=SEEN)
        return run

    row = build().left_out.get()
    assert (row.reason, row.amount) == (LeftOut.Reason.BELOW_THRESHOLD, world.payable(contributor))
    assert "minimum payout of USD 50.00" in row.words
    world.credit(contributor, 1)
    assert build().payouts.get().amount_minor == 5000
    account = PayoutAccount.objects.get(contributor=contributor)
    accounts.set_own_threshold(account=account, minimum_minor=6000, by=world.owner, at=world.at)
    assert "minimum payout of USD 60.00" in build().left_out.get().words


def test_money_of_somebody_who_was_not_heard_of_for_three_years_is_reported(world: World) -> None:
    silent, heard = world.contributor(1000), world.contributor(2000)
    years_later = world.at + timedelta(days=365.25 * 3 + 1)
    world.owner.last_login = world.at
    world.owner.save(update_fields=["last_login"])
    assert {row.contributor for row in balances.dormant(at=years_later)} == {silent, heard}
    assert balances.dormant(at=world.at + timedelta(days=365 * 2)) == []
    from contributors.operations.people import add_member

    visitor = world._user("visitor")
    visitor.last_login = years_later - timedelta(days=10)
    visitor.save(update_fields=["last_login"])
    add_member(contributor=heard, user=visitor, role="viewer", at=world.at)
    [row] = balances.dormant(at=years_later)
    assert (row.contributor, row.amount) == (silent, world.payable(silent))
