"""Statements drawn from the ledger itself: they agree with the tables, sealed, repeatable and provable."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction
from django.db.models import Sum
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import proof
from ledger.models import Line, Period
from ledger.operations import payouts, periods, sealing
from ledger.operations.closing import close_period
from ledger.queries.balances import balances_of
from ledger.statements.build import Statement, build_statement
from ledger.statements.csv import statement_csv
from ledger.statements.pdf import statement_pdf
from people.presentation.amounts import grouped, plain
from tests.people.presentation.papers import text_of
from tests.worlds.programme import AT, NOVEMBER, OCTOBER, Programme

pytestmark = pytest.mark.django_db
DOLLAR = 10**9
SEPTEMBER = 202609


def statement(programme: Programme, place: int = 0, period: int = OCTOBER) -> Statement:
    return build_statement(contributor=programme.contributors[place], period=Period.objects.get(pk=period))


def posted(programme: Programme, place: int, **filters: object) -> int:
    """The sum of a contributor's journal lines, straight from the table."""
    owner = f"contributor:{programme.contributors[place].pk}"
    lines = Line.objects.filter(account__owner=owner, **filters)
    return lines.aggregate(sum=Sum("amount"))["sum"] or 0


@pytest.fixture
def paid(accrued: Programme) -> Programme:
    """October closed and sealed; in November a payout with tax, one refused, and more earnings."""
    accrued.attribute(accrued.generate(60), scores=[1.0, 0.5, 0.2])
    accrued.close(seal=True)
    accrued.pay(0, DOLLAR // 2, tax=DOLLAR // 20)
    accrued.pay(0, DOLLAR // 4, ends="refused")
    accrued.attribute(accrued.generate(5, first=AT - timedelta(hours=20)), scores=[1.0, 0.5, 0.2])
    accrued.accrue()
    return accrued


def test_each_closing_is_the_next_opening_and_the_sum_of_the_journal(paid: Programme) -> None:
    for place in range(3):
        closing = 0
        for number in (SEPTEMBER, OCTOBER, NOVEMBER):
            pots = [pot for pot in statement(paid, place, number).pots if pot.name == "owed"]
            if not pots:
                continue
            (pot,) = pots
            assert pot.opening == closing
            assert pot.opening + sum(line.amount for line in pot.lines) == pot.closing
            closing = pot.closing
            assert closing == posted(paid, place, entry__period_id__lte=number)
        assert closing > 0


def test_the_lines_of_a_month_say_what_happened_in_it(paid: Programme) -> None:
    october, november = statement(paid), statement(paid, period=NOVEMBER)
    assert [line.kind for line in october.pots[0].lines] == ["accrued", "floor"]
    amounts = {line.kind: line.amount for line in november.pots[0].lines}
    assert amounts["payouts"] == -(DOLLAR // 2 - DOLLAR // 20) - DOLLAR // 4
    assert amounts["withholding"] == -DOLLAR // 20
    assert amounts["payouts_returned"] == DOLLAR // 4
    assert amounts["accrued"] == posted(paid, 0, entry__period_id=NOVEMBER, entry__kind="accrue")


def test_what_was_earned_in_a_closed_month_is_shown_as_a_prior_period_adjustment(paid: Programme) -> None:
    paid.attribute(paid.generate(3), scores=[1.0, 0.0, 0.0])
    paid.accrue()
    (pot,) = statement(paid, period=NOVEMBER).pots
    prior = next(line for line in pot.lines if line.kind == "prior_period")
    assert prior.amount == posted(paid, 0, entry__period_id=NOVEMBER, entry__earned_period_id=OCTOBER)
    assert prior.amount > 0


def test_a_restatement_after_the_payout_stands_in_the_month_in_which_it_was_posted(paid: Programme) -> None:
    before = statement_csv(statement(paid))
    paid.attribute(paid.generations[30:90], scores=[0.0, 1.0, 0.0], revision=2)
    paid.accrue()
    assert statement_csv(statement(paid)) == before
    november = statement(paid, period=NOVEMBER)
    restated = next(line for line in november.pots[0].lines if line.kind == "prior_restated")
    assert restated.amount < 0
    assert proof.verify(statement_csv(november)).period == "2026-11"


def test_a_restatement_that_changes_nothing_for_a_payee_still_proves(paid: Programme) -> None:
    paid.attribute(paid.generations[30:32], scores=[1.0, 0.5, 0.2], revision=2)
    paid.accrue()
    later = AT + timedelta(days=30)
    periods.open_periods(at=later)
    close_period(period=NOVEMBER, at=later)
    sealing.seal_period(period=NOVEMBER, at=later)
    assert proof.verify(statement_csv(statement(paid, period=NOVEMBER))).root


def test_a_sealed_statement_is_byte_for_byte_the_same_whatever_happens_after(paid: Programme) -> None:
    first = statement(paid)
    again = statement(paid)
    assert statement_csv(first) == statement_csv(again)
    assert statement_pdf(first) == statement_pdf(again)
    paid.pay(0, DOLLAR // 10)
    close_period(period=OCTOBER, at=AT)
    paid.attribute(paid.generate(3), scores=[1.0, 0.0, 0.0])
    paid.accrue()
    assert statement_csv(statement(paid)) == statement_csv(first)
    assert statement_pdf(statement(paid)) == statement_pdf(first)


def test_every_payee_proves_its_statement_under_the_one_published_root(paid: Programme) -> None:
    root = bytes(Period.objects.get(pk=OCTOBER).root or b"").hex()
    for place in range(3):
        verified = proof.verify(statement_csv(statement(paid, place)), root=root)
        assert verified.root == root
        assert verified.accounts == 2
    assert proof.verify(statement_csv(statement(paid)), root=root).credits >= 60


def test_a_payee_runs_the_command_on_the_downloaded_file(paid: Programme, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(paid.client(0).get("/portal/statements/2026-10/csv").getvalue())
    root = bytes(Period.objects.get(pk=OCTOBER).root or b"").hex()
    command = [sys.executable, "manage.py", "verify_statement", str(tmp_path / "s.csv"), "--root", root]
    environment = {
        "PATH": "/usr/bin:/bin",
        "DATABASE_URL": "postgres://nobody@/nowhere?host=/nowhere",
        "BROKER_URL": "",
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert root in done.stdout
    (tmp_path / "s.csv").write_bytes((tmp_path / "s.csv").read_bytes().replace(b"accrued", b"accrueD", 1))
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert failed.returncode == 1
    assert "NOT VERIFIED" in failed.stderr


def test_a_month_that_is_not_sealed_is_honest_about_it(accrued: Programme) -> None:
    found = statement(accrued)
    assert found.state == "open"
    assert proof.verify(statement_csv(found)).root == ""
    assert "is not sealed yet" in text_of(statement_pdf(found))


def test_earnings_by_work_and_by_model_sum_to_the_accrued_line(paid: Programme) -> None:
    for place in range(3):
        found = statement(paid, place)
        accrued = next(line.amount for line in found.pots[0].lines if line.kind == "accrued")
        assert sum(work.amount for work in found.works) == accrued == sum(model.amount for model in found.models)


def test_the_pdf_has_every_figure_of_the_ledger(paid: Programme) -> None:
    found = statement(paid, period=NOVEMBER)
    text = text_of(statement_pdf(found))
    figures: Iterable[int] = [
        *(amount for pot in found.pots for amount in (pot.opening, pot.closing)),
        *(line.amount for pot in found.pots for line in pot.lines),
        *(work.amount for work in found.works),
        *(line.amount for account in found.accounts for line in account.journal),
    ]
    for figure in figures:
        assert grouped(figure, 9) in text
    assert "Abraham Lincoln Estate" in text


def test_a_title_that_a_spreadsheet_would_run_is_harmless_in_the_file(paid: Programme) -> None:
    assert b",=SUM" not in statement_csv(statement(paid, 2))
    assert b"'=SUM(A1:A9) and other poems" in statement_csv(statement(paid, 2))


def test_a_payee_who_had_nothing_has_an_empty_statement(programme: Programme) -> None:
    found = statement(programme)
    assert (found.pots, found.works, found.accounts) == ((), (), ())
    assert proof.verify(statement_csv(found)).accounts == 0


# --- any history --------------------------------------------------------------------------------------------------
@pytest.fixture
def closed(programme: Programme) -> Programme:
    programme.attribute(programme.generate(20), scores=[1.0, 0.5, 0.2])
    programme.close()
    return programme


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("earn"), st.integers(1, 6)),
        st.tuples(st.just("pay"), st.integers(1, 30)),
        st.tuples(st.just("refuse"), st.integers(1, 30)),
        st.tuples(st.just("reverse"), st.integers(1, 5)),
    ),
    max_size=6,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_history_adds_up_month_after_month(closed: Programme, steps: list[tuple[str, int]]) -> None:
    """Earnings, payouts, refusals and reversals in any order: every month's closing is the next one's opening."""
    savepoint = transaction.savepoint()
    try:
        paid = live_through(closed, steps)
        closing = 0
        for period in (OCTOBER, NOVEMBER):
            found = statement(closed, period=period)
            (pot,) = found.pots
            assert pot.opening == closing
            assert pot.opening + sum(line.amount for line in pot.lines) == pot.closing
            closing = pot.closing
            proof.verify(statement_csv(found))
        assert closing == posted(closed, 0)
        (balances,) = balances_of(closed.contributors[0].pk)
        assert balances.paid == paid
        assert closing == balances.pending + balances.payable
    finally:
        transaction.savepoint_rollback(savepoint)


def live_through(programme: Programme, steps: list[tuple[str, int]]) -> int:
    """Take the steps that the balances allow; returns the sum that was paid and stayed paid."""
    cent, paid = DOLLAR // 100, 0
    for number, (step, size) in enumerate(steps):
        ready = balances_of(programme.contributors[0].pk)[0].payable
        if step == "earn":
            programme.attribute(programme.generate(size, first=AT - timedelta(hours=30)))
            programme.accrue()
        elif step == "reverse" and paid >= size * cent:
            payouts.record_transfer_reversal(
                contributor_id=programme.contributors[0].pk,
                currency="USD",
                amount=size * cent,
                reversal_id=f"trr_{number}",
                at=AT,
            )
            paid -= size * cent
        elif step in {"pay", "refuse"} and ready >= size * cent:
            programme.pay(0, size * cent, ends="paid" if step == "pay" else "refused")
            paid += size * cent if step == "pay" else 0
    return paid


# --- pages --------------------------------------------------------------------------------------------------------
def test_the_page_the_csv_and_the_pdf_show_the_same_figures(paid: Programme) -> None:
    client = paid.client(0)
    page = client.get("/portal/statements/2026-11/").content.decode()
    file = client.get("/portal/statements/2026-11/csv").getvalue().decode()
    text = text_of(client.get("/portal/statements/2026-11/pdf").content)
    for pot in statement(paid, period=NOVEMBER).pots:
        for amount in (pot.opening, pot.closing, *(line.amount for line in pot.lines)):
            assert plain(amount, 9) in file
            assert grouped(amount, 9) in text
            assert shown(amount) in page


def shown(amount: int) -> str:
    """An amount as the pages write it, the further digits in a span of their own."""
    text = grouped(amount, 9)
    head, tail = text[:-7], text[-7:].rstrip("0")
    return f'{head}<span class="fraction">{tail}</span>' if tail else head


def test_the_list_has_a_line_for_each_month_that_agrees_with_its_statement(paid: Programme) -> None:
    page = paid.client(0).get("/portal/statements/").content.decode()
    for number in (OCTOBER, NOVEMBER):
        closing = statement(paid, period=number).pots[0].closing
        cents = f"{(closing + 5_000_000) // 10_000_000 / 100:.2f}"
        assert f"</span> {cents}</span></button>" in page
        assert f"Exactly USD {grouped(closing, 9)}".rstrip("0") in page


def test_there_is_no_statement_before_the_first_entry_or_for_no_month(paid: Programme) -> None:
    client = paid.client(0)
    for period in ("2026-08", "2026-09", "2031-01", "2026-13"):
        for form in ("", "csv", "pdf"):
            assert client.get(f"/portal/statements/{period}/{form}").status_code == 404, period


def test_files_are_private_and_named(paid: Programme) -> None:
    for form, kind in (("csv", "text/csv; charset=utf-8"), ("pdf", "application/pdf")):
        response = paid.client(0).get(f"/portal/statements/2026-10/{form}")
        assert response["Content-Type"] == kind
        assert response["Content-Disposition"] == f'attachment; filename="statement-2026-10.{form}"'
        assert response["Cache-Control"] == "private, no-store"


def test_the_verifier_is_served_to_everybody_as_it_runs_here(db: None) -> None:
    response = Client(headers={"Host": "127.0.0.1"}).get("/portal/statements/verify_statement.py")
    assert response.content == Path(proof.__file__).read_bytes()
