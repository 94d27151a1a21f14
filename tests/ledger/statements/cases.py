"""Made-up ledgers of one payee, for tests of the statements drawn from them; sealed like real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from ledger import proof
from ledger.queries.credits import Credit
from ledger.statements.build import (
    AccountStatement,
    JournalLine,
    LeafProof,
    ModelEarnings,
    Seal,
    Statement,
    WorkEarnings,
    assemble,
)

AMOUNTS = st.integers(min_value=-(10**14), max_value=10**14).filter(bool)
TITLES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40)
SCALES = {"USD": 9, "JPY": 7}
GROUPS = {
    "owed": ("prior_period", "adjustments", "payouts", "held", "released", "payouts_returned"),
    "held": ("held", "released"),
    "advance": ("advances", "recouped"),
}


@st.composite
def journals(draw: st.DrawFn, name: str, opening: int = 0) -> AccountStatement:
    """An account in a period: some entries, one of them perhaps an accrual with its credits."""
    kind, currency, _ = name.split(" ")
    entries = draw(st.lists(st.integers(1, 10**6), unique=True, max_size=5).map(sorted))
    lines, credits = [], []
    for number, entry in enumerate(entries):
        group, amount = draw(st.sampled_from(GROUPS[proof.POTS[kind]])), draw(AMOUNTS)
        if kind == "contributor_accrued" and number == 0:
            parts = draw(st.lists(st.integers(1, 10**12), min_size=1, max_size=4))
            made = [Credit(f"019e{i:04x}-0000-7000-8000-{entry:012x}", 1, entry, p) for i, p in enumerate(parts)]
            group, amount, credits = "accrued", sum(parts), made
        lines.append(JournalLine(entry, group, group, amount, "2026-10-09", "2026-10", f"{entry:064x}"))
    return AccountStatement(
        name=name,
        currency=currency,
        scale=SCALES[currency],
        opening=opening,
        journal=tuple(lines),
        credits=tuple(credits),
        closing=opening + sum(line.amount for line in lines),
        leaf=None,
    )


def sealed(
    period: str, accounts: Sequence[AccountStatement], previous: str = proof.NO_ROOT
) -> tuple[list[AccountStatement], Seal]:
    """The accounts with their proofs, in a tree that also holds the leaves of two strangers."""
    leaves = [
        proof.Leaf(
            period,
            account.name,
            f"{position:064x}",
            account.opening,
            tuple((line.entry_id, line.amount) for line in account.journal),
            tuple((c.generation_id, c.revision, c.entry_id, c.amount) for c in account.credits),
            account.closing,
        ).hash
        for position, account in enumerate(accounts)
    ]
    hashes = [proof.leaf_hash("a stranger"), *leaves, proof.leaf_hash("another")]
    tree = proof.tree_root(hashes)
    proved = [
        replace(account, leaf=LeafProof(f"{i:064x}", leaves[i], tuple(proof.siblings(hashes, i + 1))))
        for i, account in enumerate(accounts)
    ]
    return proved, Seal(proof.period_root(tree=tree, previous=previous), tree, previous)


def statement_of(
    accounts: Sequence[AccountStatement],
    *,
    period: str = "2026-10",
    seal: Seal | None = None,
    titles: Sequence[str] = ("Annual Message", "=cmd()"),
    withheld: dict[int, int] | None = None,
) -> Statement:
    works, models = [], []
    for currency in sorted({account.currency for account in accounts}):
        earned = sum(c.amount for account in accounts if account.currency == currency for c in account.credits)
        if earned:
            first = earned // 3
            works += [
                WorkEarnings(currency, SCALES[currency], "w1", titles[0], 3, first),
                WorkEarnings(currency, SCALES[currency], "w2", titles[-1], 4, earned - first),
            ]
            models.append(ModelEarnings(currency, SCALES[currency], "m1", "sotu-1", "Press & Co", 7, earned))
    return assemble(
        period=period,
        state="sealed" if seal else "closed",
        contributor_id="019e0000-0000-7000-8000-000000000001",
        contributor_name="Łukasz O'Brien",
        legal_name="Łukasz O'Brien & Söhne, Ltd.",
        accounts=accounts,
        withheld=withheld or {},
        works=works,
        models=models,
        notes=("Shares follow the midpoint method.",),
        seal=seal,
    )


@st.composite
def statements(draw: st.DrawFn, *, with_seal: bool = True) -> Statement:
    names = draw(
        st.lists(
            st.sampled_from(
                [
                    "contributor_accrued USD contributor:7",
                    "contributor_payable USD contributor:7",
                    "reserve_held USD contributor:7",
                    "advance USD contributor:7",
                    "contributor_accrued JPY contributor:7",
                ]
            ),
            unique=True,
            min_size=1,
        )
    )
    accounts = [draw(journals(name, draw(st.integers(-(10**12), 10**12)))) for name in sorted(names)]
    seal = None
    if with_seal:
        accounts, seal = sealed("2026-10", accounts)
    return statement_of(accounts, seal=seal, titles=draw(st.lists(TITLES, min_size=2, max_size=2)))
