from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from contributors.models import PPB
from ledger import journal, proof
from ledger.journal import AccountKey
from ledger.models import Entry, FloorDistribution, Leaf, Period, Unaccrued
from ledger.operations import closing, payouts, periods, sealing, verbs
from ledger.operations.closing import UnableToClose, close_period
from ledger.queries.invariants import check_all
from tests.worlds.story import NOVEMBER, OCTOBER
from tests.worlds.world import PRICE, build_world

pytestmark = pytest.mark.django_db
POOL = PRICE * 4 // 5


def close_october() -> Period:
    close_period(period=202609, at=NOVEMBER)
    return close_period(period=202610, at=NOVEMBER)


def test_periods_open_from_the_oldest_generation_that_may_come_to_the_next_month(at: datetime) -> None:
    opened = periods.open_periods(at=datetime(2026, 3, 2, tzinfo=UTC))
    assert [p.pk for p in opened] == [202601, 202602, 202603, 202604]
    assert periods.open_periods(at=datetime(2026, 3, 31, tzinfo=UTC)) == []
    assert [p.code for p in periods.open_periods(at=datetime(2026, 12, 31, tzinfo=UTC))][-2:] == [
        "2026-12",
        "2027-01",
    ]


def test_an_operation_opens_the_month_in_which_it_happens(at: datetime) -> None:
    verbs.post_verb(verb="capital", amount=1, currency="USD", reference="c", at=at)
    verbs.post_verb(verb="capital", amount=1, currency="USD", reference="d", at=at + timedelta(days=90))
    assert Period.objects.get(pk=202703).state == "open"


def test_a_close_makes_what_was_earned_payable(at: datetime) -> None:
    world = build_world(OCTOBER)
    world.attribute(world.generate(10), shares=[PPB, 0, 0], general=[0, PPB, 0])
    world.accrue_all()
    assert close_october().state == "closed"
    direct = POOL * 4 // 5 // 2
    assert [world.balance("contributor_payable", i) for i in range(3)] == [10 * direct, 10 * (POOL - direct), 0]
    assert [world.balance("contributor_accrued", i) for i in range(3)] == [0, 0, 0]
    assert journal.balance(world.floor) == 0


def test_a_close_accrues_first_what_is_attributed(at: datetime) -> None:
    world = build_world(OCTOBER)
    world.attribute(world.generate(3))
    close_october()
    entry = Entry.objects.get(kind="accrue")
    assert (entry.period_id, entry.effective.isoformat(), entry.n_docs) == (202610, "2026-10-31", 3)


def test_a_close_leaves_the_next_month_alone(at: datetime) -> None:
    world = build_world(OCTOBER)
    world.attribute(world.generate(1), shares=[PPB, 0, 0], general=[PPB, 0, 0])
    world.at = NOVEMBER
    world.attribute(world.generate(1), shares=[PPB, 0, 0], general=[PPB, 0, 0])
    world.accrue_all()
    close_october()
    assert world.balance("contributor_payable") == POOL
    assert world.balance("contributor_accrued") == POOL * 4 // 5 // 2


def test_a_period_is_not_closed_before_it_is_over_nor_before_the_one_before(at: datetime) -> None:
    build_world(OCTOBER)
    with pytest.raises(UnableToClose, match="not over"):
        close_period(period=202611, at=NOVEMBER)
    with pytest.raises(UnableToClose, match="before period 202609"):
        close_period(period=202610, at=NOVEMBER)
    with pytest.raises(UnableToClose, match="no period"):
        close_period(period=202001, at=NOVEMBER)


def test_closing_again_changes_nothing(at: datetime) -> None:
    world = build_world(OCTOBER)
    world.attribute(world.generate(2))
    close_october()
    before = Entry.objects.count()
    close_october()
    assert Entry.objects.count() == before


@pytest.mark.parametrize("chunks_done", range(1, 9))
def test_a_close_that_died_anywhere_goes_on_and_gives_the_same(
    at: datetime, monkeypatch: pytest.MonkeyPatch, chunks_done: int
) -> None:
    monkeypatch.setattr(closing, "CHUNK_CONTRIBUTORS", 2)
    world = build_world(OCTOBER, contributors=5)
    world.attribute(world.generate(4), general=[PPB // 2, PPB // 2, 0, 0, 0])
    post, posted = journal.post, 0

    def dying_post(**arguments: object) -> journal.Posted:
        nonlocal posted
        posted += 1
        if posted == chunks_done:
            raise ConnectionError("killed")
        return post(**arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "post", dying_post)
    for _ in range(2):
        try:
            close_october()
        except ConnectionError:
            assert Period.objects.get(pk=202610).state == "closing"
    payable = [world.balance("contributor_payable", i) for i in range(5)]
    assert sum(payable) == 4 * POOL
    assert payable[0] == payable[1] > payable[2]
    keys = [key for key in Entry.objects.values_list("idem_key", flat=True) if key.startswith("close:202610")]
    assert len(keys) == 4
    assert not [r.name for r in check_all() if r.rows]


def test_a_negative_result_is_taken_from_the_payable_and_then_owed_and_recovered_from_later_earnings(
    at: datetime,
) -> None:
    world = build_world(OCTOBER)
    paid = world.generate(2)
    world.attribute(paid, shares=[PPB, 0, 0], general=[0, 0, PPB], weight_ppb=PPB)
    close_october()
    direct = 2 * (POOL * 4 // 5)
    assert world.balance("contributor_payable") == direct
    taken = direct // 4 * 3
    payouts.reserve_payout(
        contributor_id=world.contributors[0].pk,
        currency="USD",
        gross=taken // 10**7 * 10**7,
        tax=0,
        rail="stripe",
        attempt_key="po_1",
        at=NOVEMBER,
    )
    left = world.balance("contributor_payable")
    world.at = NOVEMBER
    world.attribute(paid, shares=[0, PPB, 0], general=[0, 0, PPB], weight_ppb=PPB, revision=2)
    world.accrue_all()
    assert world.balance("contributor_accrued") == -direct
    close_period(period=202611, at=datetime(2026, 12, 2, tzinfo=UTC))
    assert world.balance("contributor_payable") == 0
    assert world.balance("contributor_receivable") == -(direct - left)
    world.at = datetime(2026, 12, 5, tzinfo=UTC)
    world.attribute(world.generate(3), shares=[PPB, 0, 0], general=[0, 0, PPB], weight_ppb=PPB)
    close_period(period=202612, at=datetime(2027, 1, 2, tzinfo=UTC))
    earned = 3 * (POOL * 4 // 5)
    assert world.balance("contributor_receivable") == 0
    assert world.balance("contributor_payable") == earned - (direct - left)
    assert Entry.objects.filter(kind="close_recover").count() == 1
    assert not [r.name for r in check_all() if r.rows]


def test_generations_that_were_not_accrued_are_listed_with_the_reason(at: datetime) -> None:
    world = build_world(OCTOBER)
    waiting, failed, refused, accrued = world.generate(4)
    type(failed).objects.filter(pk=failed.pk).update(state="unattributable", error="the text is empty")
    world.attribute([accrued])
    world.attribute(world.generate(1, currency="JPY"))
    world.attribute([refused])
    close_october()
    listed = {u.generation_id: u.reason for u in Unaccrued.objects.all()}
    assert listed == {waiting.pk: "not attributed yet", failed.pk: "unattributable: the text is empty"}
    assert not [r.name for r in check_all(["I19"]) if r.rows]


# --- base pools --------------------------------------------------------------------------------------------------
def test_the_floor_pool_goes_by_general_shares_weighted_by_generations(at: datetime) -> None:
    world = build_world(OCTOBER)
    world.attribute(world.generate(3), general=[PPB, 0, 0], weight_ppb=0)
    world.attribute(world.generate(1), general=[0, PPB // 2, 0], weight_ppb=0)
    close_october()
    found = FloorDistribution.objects.get()
    assert found.n_generations == 4
    assert found.credits == {
        world.contributors[0].pk: 4 * POOL * 6 // 7,
        world.contributors[1].pk: 4 * POOL // 7 + 1,
    }
    assert (found.pool, found.kept) == (4 * POOL, 0)


def test_a_cap_keeps_the_rest_of_the_pool_for_the_next_month(at: datetime) -> None:
    world = build_world(OCTOBER, plan=False)
    plan = world.adopt(cap_ppb=PPB // 4)
    world.attribute(world.generate(1), general=[PPB, 0, 0], weight_ppb=0)
    close_october()
    assert world.balance("contributor_payable") == POOL // 4
    assert journal.balance(AccountKey("floor_pool", "USD", f"plan:{plan.pk}")) == POOL * 3 // 4
    assert FloorDistribution.objects.get().kept == POOL * 3 // 4


def test_a_pool_for_which_nobody_qualifies_stays(at: datetime) -> None:
    world = build_world(OCTOBER)
    world.attribute(world.generate(1), general=[0, 0, 0], weight_ppb=0)
    close_october()
    assert FloorDistribution.objects.get().kept == POOL
    assert FloorDistribution.objects.get().entry is None


# --- the seal -----------------------------------------------------------------------------------------------------
def test_a_seal_chains_a_root_over_a_leaf_for_each_account(at: datetime) -> None:
    world = build_world(OCTOBER)
    world.attribute(world.generate(3))
    close_october()
    sealing.seal_period(period=202609, at=NOVEMBER)
    sealed = sealing.seal_period(period=202610, at=NOVEMBER)
    leaves = list(Leaf.objects.filter(period=sealed).order_by("position"))
    assert sealed.tree_hex == proof.tree_root([bytes(leaf.hash).hex() for leaf in leaves])
    assert sealed.previous_hex == Period.objects.get(pk=202609).root_hex
    assert sealing.seal_period(period=202610, at=NOVEMBER).root_hex == sealed.root_hex
    accrued = AccountKey("contributor_accrued", "USD", f"contributor:{world.contributors[0].pk}")
    leaf = next(leaf for leaf in leaves if leaf.account_id == journal.open_accounts([accrued])[0])
    with connection.cursor() as cursor:
        cursor.execute("SELECT entry_id, amount FROM ledger_line WHERE account_id = %s ORDER BY 1", [leaf.account_id])
        lines = tuple(cursor.fetchall())
        cursor.execute(
            "SELECT d.generation_id::text, d.revision, e.id, u.amount FROM ledger_accrual d"
            " JOIN ledger_entry e USING (batch_id), unnest(d.account_ids, d.amounts) u(account_id, amount)"
            " WHERE u.account_id = %s ORDER BY 1, 2",
            [leaf.account_id],
        )
        credits = tuple(cursor.fetchall())
    assert len(credits) == 3
    proved = proof.Leaf(
        "2026-10", str(accrued), proof.leaf_salt(bytes(sealed.salt or b""), leaf.account_id), 0, lines, credits, 0
    )
    assert proved.hash == bytes(leaf.hash).hex()


def test_only_a_closed_period_is_sealed_and_only_after_the_one_before(at: datetime) -> None:
    build_world(OCTOBER)
    with pytest.raises(sealing.UnableToSeal, match="only a closed one"):
        sealing.seal_period(period=202610, at=NOVEMBER)
    close_october()
    with pytest.raises(sealing.UnableToSeal, match="sealed first"):
        sealing.seal_period(period=202610, at=NOVEMBER)


def test_the_database_and_the_offline_proof_build_the_same_tree(at: datetime) -> None:
    world = build_world(OCTOBER, contributors=6)
    close_october()
    sealing.seal_period(period=202609, at=NOVEMBER)
    sealing.seal_period(period=202610, at=NOVEMBER)
    world.at = NOVEMBER
    for place in range(6):
        world.attribute(world.generate(1), holders=[world.holders[place]], shares=[PPB], general=[PPB])
    close_period(period=202611, at=datetime(2026, 12, 2, tzinfo=UTC))
    sealing.seal_period(period=202611, at=datetime(2026, 12, 2, tzinfo=UTC))
    assert Leaf.objects.filter(period_id=202611).count() > 8
    assert not [r.name for r in check_all(["I10", "I16"]) if r.rows]


def test_under_the_equal_rule_every_cluster_of_consenting_works_counts_once(at: datetime) -> None:
    from attribution.models import ManifestWork, TrainingManifest
    from contributors.models import Consent
    from contributors.operations.consents import grant_consent, withdraw_consent
    from contributors.operations.works import NewWork, register_dataset, register_works

    world = build_world(OCTOBER, plan=False)
    world.adopt(floor_rule="equal")
    long_before = OCTOBER - timedelta(days=50)
    manifest = TrainingManifest.objects.create(
        model_version=world.index.model_version, sha256=bytes(32), n_items=4, n_works=4, created_at=OCTOBER
    )
    # The second author's only work copies the first's; the third author's consent ends before the month does.
    texts = [[b"one " * 200, b"two different " * 200], [b"one " * 200], [b"three is another " * 200]]
    for contributor, contents in zip(world.contributors, texts, strict=True):
        dataset = register_dataset(contributor=contributor, name="d", description="", licence="CC0", at=long_before)
        grant_consent(
            contributor=contributor,
            scope="train_generative",
            valid_from=long_before,
            by=world.users[0],
            source="portal",
            at=long_before,
        )
        works = [NewWork(title=f"w{n}", modality="text", content=c, published_on=None) for n, c in enumerate(contents)]
        for work in register_works(dataset=dataset, works=works, at=long_before):
            consent = Consent.objects.get(contributor=contributor)
            ManifestWork.objects.create(manifest=manifest, work=work, consent=consent)
    withdraw_consent(
        contributor=world.contributors[2],
        scope="train_generative",
        valid_from=OCTOBER,
        by=world.users[0],
        source="portal",
        at=OCTOBER,
    )
    world.attribute(world.generate(1), weight_ppb=0)
    close_october()
    # Two clusters: {one, its copy} and {two}.
    assert [world.balance("contributor_payable", i) for i in range(3)] == [POOL * 3 // 4, POOL // 4, 0]


def test_the_beat_sweeps_until_nothing_is_left_and_keeps_the_next_month_open(at: datetime) -> None:
    from django.utils import timezone

    from ledger.tasks import open_next_period, sweep_attributed

    world = build_world(timezone.now())
    world.attribute(world.generate(3))
    assert sweep_attributed() == 3
    assert sweep_attributed() == 0
    assert open_next_period() == 0
