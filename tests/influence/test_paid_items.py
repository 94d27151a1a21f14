"""Rule 2: pay by item, for any arrangement of accounts; and every input that it must define."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from influence import paid_items, verify
from influence.index.shards import Array
from influence.index.sums import NO_CLUSTER
from influence.paid_items import Counted, Leaders, leading, net_tails, spreads
from influence.shares import BILLION, GRID, ItemShares, UnableToShare, apportion_items

ITEMS, MATTER, K = 2_000, 20, 100


class Scored:
    """Items with given scores, in blocks, as an opened index has them."""

    def __init__(
        self,
        scores: Array,
        holders: Sequence[int] | Array,
        *,
        clusters: Sequence[int] | Array | None = None,
        works: Sequence[int] | Array | None = None,
        tails: Array | None = None,
        alive: Array | None = None,
        block: int = 300,
    ) -> None:
        count = scores.shape[1]
        labels = np.stack(
            [
                np.asarray(holders),
                np.arange(count) if works is None else np.asarray(works),
                np.full(count, NO_CLUSTER) if clusters is None else np.asarray(clusters),
            ]
        ).astype(np.int64)
        self.scores, self.net_tails, self.block = scores.astype(np.float32), tails, block
        self.alive = np.arange(count) if alive is None else alive
        self.counted = Counted(labels, self.alive)

    def item_scores(self, _: Any) -> Iterator[tuple[Array, Array]]:
        for start in range(0, len(self.alive), self.block):
            chosen = self.alive[start : start + self.block]
            yield chosen, self.scores[:, chosen]

    def shares(self, k: int = K) -> list[ItemShares]:
        found = paid_items.paid_items(self, self.scores, k=k)
        return [paid.shares(key=f"g{row}") for row, paid in enumerate(found)]


def drawn(generations: int = 3, items: int = ITEMS, seed: int = 1) -> Array:
    """Noise, and 20 items that matter, as the simulation of the rule's design has them."""
    chance = np.random.default_rng(seed)
    scores = chance.standard_normal((generations, items)).astype(np.float32)
    scores[:, chance.choice(items, MATTER, replace=False)] += chance.gamma(2, 8, (generations, MATTER))
    return scores


def as_dict(shares: ItemShares) -> dict[int, int]:
    return dict(zip(shares.holder_ids, shares.ppb, strict=True))


def summed(shares: ItemShares, parent: Sequence[int] | Array) -> Counter[int]:
    """Exact parts of the grid by the account that each holder was cut from."""
    found: Counter[int] = Counter()
    for holder, part in zip(shares.holder_ids, shares.parts, strict=True):
        found[int(parent[holder])] += part
    return found


def test_pay_is_the_excess_over_the_next_item_times_the_factor() -> None:
    scores = np.array([[5.0, 1.0, 3.0, 2.0, -4.0]])
    (paid,) = paid_items.paid_items(Scored(scores, [1, 1, 2, 3, 4], tails=np.array([0.5, 1, 1, 1, 1])), scores, k=2)
    assert (paid.threshold, paid.counted) == (2.0, 5)
    assert paid.works.tolist() == [0, 2]
    assert paid.pay.tolist() == [1.5, 1.0]
    shares = paid.shares(key="g")
    assert as_dict(shares) == {1: 600_000_000, 2: 400_000_000}
    assert shares.unattributed_ppb == 0


@pytest.mark.parametrize("accounts", [20, 200, ITEMS])
def test_no_arrangement_of_accounts_changes_anybodys_pay(accounts: int) -> None:
    scores, chance = drawn(), np.random.default_rng(3)
    holders, same = chance.permutation(np.arange(ITEMS) % accounts), np.arange(ITEMS)
    names, merged = chance.permutation(accounts), np.where(same == 0, 1, same)
    before = Scored(scores, holders).shares()
    # The new accounts of the items; the account to compare by, of each old and of each new account.
    for arranged, of_old, of_new in (
        (same, same, holders),
        (merged[holders], merged, same),
        (names[holders], same, np.argsort(names)),
    ):
        for one, other in zip(before, Scored(scores, arranged).shares(), strict=True):
            assert summed(other, of_new) == summed(one, of_old)
            assert sum(other.ppb) == BILLION


@given(seed=st.integers(0, 10_000), accounts=st.integers(1, 40), pieces=st.integers(2, 30))
def test_cutting_one_account_changes_neither_its_pay_nor_that_of_others(seed: int, accounts: int, pieces: int) -> None:
    chance = np.random.default_rng(seed)
    scores = chance.standard_normal((1, 150))
    holders = chance.integers(0, accounts, 150)
    cut = np.where(holders == 0, 100 + chance.integers(0, pieces, 150), holders)
    one, other = (Scored(scores, accounts).shares(k=20)[0] for accounts in (holders, cut))
    assert summed(other, np.where(np.arange(200) >= 100, 0, np.arange(200))) == summed(one, np.arange(200))


@pytest.mark.parametrize("accounts", [1, 60])
def test_flooding_with_what_teaches_nothing_is_paid_no_more_by_many_accounts(accounts: int) -> None:
    scores, chance = drawn(), np.random.default_rng(4)
    flood = chance.standard_normal((len(scores), 110)).astype(np.float32)
    holders = np.concatenate([np.zeros(ITEMS), 1 + np.arange(110) % accounts])
    for shares in Scored(np.concatenate([scores, flood], axis=1), holders).shares():
        assert sum(ppb for holder, ppb in as_dict(shares).items() if holder) < 0.03 * BILLION


def test_copies_count_once_with_the_best_score_and_for_all_holders_in_equal_parts() -> None:
    # Works 10 and 11 are copies of two items each; work 12 is alone.
    scores = np.array([[4.0, 1.0, 6.0, 1.5, 2.0]])
    given = Scored(scores, [1, 1, 2, 2, 3], works=[10, 10, 11, 11, 12], clusters=[7, 7, 7, 7, NO_CLUSTER])
    (paid,) = paid_items.paid_items(given, scores, k=2)
    # Items of the cluster: 6 and 1.5. The third largest of 6, 2 and 1.5 is the threshold.
    assert (paid.counted, paid.threshold) == (3, 1.5)
    assert paid.pay.tolist() == [4.5, 0.5]
    assert as_dict(paid.shares(key="g")) == {1: 450_000_000, 2: 450_000_000, 3: 100_000_000}


def test_more_copies_of_an_item_earn_its_holders_nothing_and_cost_others_nothing() -> None:
    scores = drawn(generations=1)
    copied = int(scores[0].argmax())
    many = np.concatenate([scores, np.repeat(scores[:, [copied]], 30, axis=1)], axis=1)
    holders = np.concatenate([np.arange(ITEMS), np.full(30, copied)])
    clusters = np.where((np.arange(ITEMS + 30) == copied) | (np.arange(ITEMS + 30) >= ITEMS), 5, NO_CLUSTER)
    (before,), (after,) = Scored(scores, np.arange(ITEMS)).shares(), Scored(many, holders, clusters=clusters).shares()
    assert before == after


def test_an_item_that_harms_as_often_as_it_helps_is_paid_nothing() -> None:
    chance = np.random.default_rng(5)
    own = chance.standard_normal((400, 300)).astype(np.float32)
    own[:20, 0] += 30
    # A wrong label helps its false class and harms the true one.
    own[20:40, 1] += 30
    own[40:60, 1] -= 30
    blocks = [(np.arange(300), own)]
    spread = spreads(lambda: blocks, generations=400)
    assert spread == pytest.approx(own.std(1), rel=1e-6)
    ((_, factors),) = net_tails(blocks, spread)
    expected = np.maximum(
        0, 1 - np.maximum(-own - spread[:, None], 0).mean(0) / np.maximum(own - spread[:, None], 0).mean(0)
    )
    assert factors == pytest.approx(expected, abs=1e-5)
    assert factors[0] > 0.8
    assert factors[1] < 0.2


def test_an_item_without_any_tail_has_the_factor_one_and_one_with_harm_alone_none() -> None:
    own = np.array([[0.0, -9.0, 9.0, 0.1], [0.1, -9.0, 9.0, 0.0]], dtype=np.float32)
    ((_, factors),) = net_tails([(np.arange(4), own)], np.array([1.0, 1.0]))
    assert factors.tolist() == [1, 0, 1, 1]


@given(seed=st.integers(0, 10_000), block=st.integers(1, 200), n=st.integers(1, 12), copies=st.booleans())
def test_leaders_found_block_by_block_are_those_of_a_whole_sort(seed: int, block: int, n: int, copies: bool) -> None:
    chance = np.random.default_rng(seed)
    scores = chance.permutation(np.arange(-40, 120)).astype(np.float32)[None].repeat(2, 0)
    scores[1] = chance.permutation(scores[1])
    units: Array | None = np.asarray(chance.integers(0, 60, scores.shape[1])) if copies else None
    blocks = ((np.arange(s, min(s + block, 160)), scores[:, s : s + block]) for s in range(0, 160, block))
    places, positions, found = leading(blocks, n, generations=2, units=units)
    for row in range(2):
        order = [int(place) for place in np.argsort(-scores[row]) if scores[row, place] > 0]
        if units is not None:
            first: dict[int, int] = {}
            for place in order:
                first.setdefault(int(units[place]), place)
            order = list(first.values())
        assert positions[places == row].tolist() == order[:n]
        assert found[places == row].tolist() == scores[row, order[:n]].tolist()


# --- inputs with nothing, or too little, in them ----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("scores", "paid"),
    [
        ([[2.0]], {0: BILLION}),
        ([[-2.0]], {}),
        ([[0.0, 0.0, 0.0]], {}),
        ([[3.0, 1.0, -1.0]], {0: 750_000_000, 1: 250_000_000}),
        ([[1.0] * 150], {}),
        ([[-1.0] * 150], {}),
    ],
    ids=["one item", "one that harms", "nothing", "fewer than K + 1", "all alike", "all harm"],
)
def test_what_nothing_explains_is_left_to_the_base_pool(scores: list[list[float]], paid: dict[int, int]) -> None:
    (shares,) = Scored(np.array(scores), np.arange(len(scores[0]))).shares()
    assert as_dict(shares) == paid
    assert sum(shares.ppb) + shares.unattributed_ppb == BILLION


def test_no_items_at_all_pay_nobody() -> None:
    (shares,) = Scored(np.zeros((1, 3)), [1, 2, 3], alive=np.zeros(0, dtype=np.int64)).shares()
    assert shares == ItemShares((), (), (), BILLION)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused(bad: float) -> None:
    scores = drawn()
    scores[1, 700] = bad
    with pytest.raises(UnableToShare, match="not a finite number"):
        Scored(scores, np.arange(ITEMS)).shares()


def test_holders_without_a_paid_item_are_not_in_the_shares() -> None:
    for shares in Scored(drawn(), np.arange(ITEMS)).shares():
        assert 0 < len(shares.holder_ids) <= K
        assert all(part > 0 for part in shares.parts)


# --- integers ---------------------------------------------------------------------------------------------------------
pays = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=120)


@given(pay=pays, seed=st.integers(0, 10_000), key=st.text(max_size=8))
def test_the_verifier_of_the_standard_library_makes_the_same_integers(pay: list[float], seed: int, key: str) -> None:
    chance = random.Random(seed)
    holders = [chance.randrange(1, 50) for _ in pay]
    shares = apportion_items(pay=pay, rows=np.arange(len(pay)), holders=holders, key=key)
    assert sum(shares.ppb) + shares.unattributed_ppb == BILLION
    assert verify.shares(shares.parts, shares.holder_ids, key) == list(shares.ppb)
    assert all(part <= GRID for part in shares.parts)


def test_the_verifier_reads_a_file_and_tells_a_changed_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shares, *_) = Scored(drawn(), np.arange(ITEMS)).shares()
    named = zip(shares.holder_ids, shares.parts, shares.ppb, strict=True)
    rows = [{"number": number, "part": part, "ppb": ppb} for number, part, ppb in named]
    receipt = {"id": "g0", "rule": 2, "unattributed_ppb": 0, "shares": rows}
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(receipt))
    assert verify.main(str(path)) == 0
    rows[0]["ppb"] += 1
    path.write_text(json.dumps(receipt))
    assert verify.main(str(path)) == 1
    assert "do NOT follow" in capsys.readouterr().out
    path.write_text(json.dumps(receipt | {"rule": 1}))
    assert verify.main(str(path)) == 2
    assert "no shares by rule 2" in capsys.readouterr().out


@pytest.mark.parametrize("pay", [[1.0, -0.5], [np.nan, 1.0], [np.inf]])
def test_pay_that_is_no_number_from_nought_on_is_refused(pay: list[float]) -> None:
    with pytest.raises(UnableToShare):
        apportion_items(pay=pay, rows=np.arange(len(pay)), holders=np.arange(len(pay)), key="g")


def test_one_scan_serves_every_k() -> None:
    given = Scored(drawn(), np.arange(ITEMS))
    leaders = Leaders(given, given.scores, 200)
    for k in (20, 100, 200):
        for one, other in zip(leaders.paid(k), paid_items.paid_items(given, given.scores, k=k), strict=True):
            assert one.threshold == other.threshold
            assert one.pay.tolist() == other.pay.tolist()


@pytest.mark.parametrize("items", [10_000, pytest.param(100_000, marks=pytest.mark.full)])
def test_the_pool_reaches_the_items_that_matter_however_many_others_there_are(items: int) -> None:
    scores = drawn(generations=2, items=items, seed=2)
    chosen = np.argsort(-scores, axis=1)[:, :MATTER]
    chance = np.random.default_rng(6)
    own = chance.standard_normal((200, items), dtype=np.float32)
    own[:20][:, chosen[0]] += chance.gamma(2, 8, (20, MATTER)).astype(np.float32)
    blocks = [(np.arange(items), own)]
    ((_, factors),) = net_tails(blocks, spreads(lambda: blocks, generations=len(own)))
    matter = set(np.flatnonzero((scores > 6).any(0)).tolist())
    for shares in Scored(scores, np.arange(items), tails=factors).shares():
        assert sum(ppb for holder, ppb in as_dict(shares).items() if holder in matter) >= 0.95 * BILLION
