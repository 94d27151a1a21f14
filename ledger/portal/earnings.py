"""Earnings by month, model, service and work, as a page with charts and as CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from contributors.portal.guard import ContributorRequest, contributor_required
from ledger.money import asset, format_amount
from ledger.portal.receipts import month_code
from ledger.queries import books
from ledger.queries.earnings import (
    MonthEarnings,
    by_service,
    earnings_by_model,
    earnings_by_month,
    earnings_by_work,
)
from people.presentation import csv, dates
from people.presentation.amounts import adds_up_in_minor
from people.presentation.charts import BarChart, Series
from people.queries.programme import legal_entity_line

MONTHS_SHOWN = 12
BARS_MAX = 8


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    url: str
    currency: str
    generations: int
    amount: int


@dataclass(frozen=True, slots=True)
class Block:
    key: str
    caption: str
    rows: list[Row]
    chart: BarChart | None

    @property
    def adds_up(self) -> bool:
        """Whether the rows in cents sum to each total in cents; if not, the page shows exact amounts."""
        return all(
            adds_up_in_minor([row.amount for row in self.rows if row.currency == code], total, asset(code))
            for code, total in self.totals
        )

    @property
    def totals(self) -> list[tuple[str, int]]:
        codes = sorted({row.currency for row in self.rows})
        return [(code, sum(row.amount for row in self.rows if row.currency == code)) for code in codes]


@contributor_required
@require_GET
def earnings(request: ContributorRequest) -> HttpResponse:
    by_month = earnings_by_month(request.contributor.pk)
    numbers = sorted({row.period_id for row in by_month}, reverse=True)
    chosen = _chosen(request, numbers)
    context = {
        "months": [(month_code(number), dates.month_of_number(number)) for number in numbers],
        "charts": [_month_chart(by_month, code) for code in sorted({row.currency for row in by_month})],
        "below_zero": [
            (dates.month_of_number(row.period_id), total, row.currency)
            for row in by_month
            if (total := row.direct + row.floor + row.other) < 0
        ],
        "estimates": list(books.estimates_of(request.contributor.pk)),
        "chosen": month_code(chosen) if chosen else "",
        "chosen_name": dates.month_of_number(chosen) if chosen else "",
        "month_rows": [row for row in by_month if row.period_id == chosen],
        "blocks": _blocks(request.contributor.pk, chosen) if chosen else [],
    }
    return render(request, "ledger/portal/earnings.html", context)


@contributor_required
@require_GET
def earnings_csv(request: ContributorRequest) -> HttpResponse:
    by_month = earnings_by_month(request.contributor.pk)
    chosen = _chosen(request, sorted({row.period_id for row in by_month}, reverse=True))
    if not chosen:
        raise Http404("You have no earnings yet.")
    header = ("period", "by", "name", "generations", "currency", "amount")
    lines: list[tuple[object, ...]] = []
    code = month_code(chosen)
    for row in by_month:
        if row.period_id == chosen:
            for source, amount in (("attribution", row.direct), ("base pool", row.floor), ("other", row.other)):
                lines.append((code, "source", source, "", row.currency, format_amount(amount, row.currency)))
    for block in _blocks(request.contributor.pk, chosen):
        for line in block.rows:
            amount_text = format_amount(line.amount, line.currency)
            lines.append((code, block.key, line.name, line.generations, line.currency, amount_text))
    issuer = legal_entity_line()
    table = csv.table((*header, "issuer"), ((*line, issuer) for line in lines))
    response = HttpResponse(table, content_type=csv.CONTENT_TYPE)
    response["Content-Disposition"] = f'attachment; filename="earnings-{code}.csv"'
    response["Cache-Control"] = "private, no-store"
    return response


def _chosen(request: ContributorRequest, numbers: Sequence[int]) -> int | None:
    """The month that was asked for, or the newest one with earnings."""
    wanted = books.period_number(request.GET.get("month", ""))
    return wanted if wanted in numbers else next(iter(numbers), None)


def _month_chart(by_month: Sequence[MonthEarnings], currency: str) -> BarChart:
    """The last twelve months by source. A month that was restated to less than nothing has no bar; the table has it."""
    rows = [row for row in by_month if row.currency == currency][-MONTHS_SHOWN:]
    series = [
        Series("By attribution", [max(0, row.direct) for row in rows]),
        Series("From the base pool", [max(0, row.floor) for row in rows]),
    ]
    if any(row.other > 0 for row in rows):
        series.append(Series("Other", [max(0, row.other) for row in rows]))
    labels = [dates.short_month_of_number(row.period_id) for row in rows]
    return BarChart(
        title=f"Earned each month, {currency}",
        labels=labels,
        series=series,
        currency=currency,
        scale=asset(currency).scale,
        places=asset(currency).exponent,
    )


def _blocks(contributor_id: int, number: int) -> list[Block]:
    found = earnings_by_model(contributor_id, number)
    models = [Row(e.model, _receipts(number, model=e.model_id), e.currency, e.generations, e.amount) for e in found]
    services = [
        Row(e.service, _receipts(number, service=e.service_id), e.currency, e.generations, e.amount)
        for e in by_service(found)
    ]
    works = [
        Row(
            e.work.title if e.work else "Works that no receipt names",
            _receipts(number, work=e.work.public_id) if e.work else "",
            e.currency,
            e.generations,
            e.amount,
        )
        for e in earnings_by_work(contributor_id, number)
    ]
    blocks = [
        _block("work", "Each credit is divided among the works that its receipt names, by their scores.", works),
        _block("model", "The base pool is not in these sums: it belongs to no single model.", models),
        _block("service", "Operators of the models that paid.", services),
    ]
    return [block for block in blocks if block.rows]


def _block(key: str, caption: str, rows: list[Row]) -> Block:
    codes = {row.currency for row in rows}
    bars = [row for row in rows if row.amount > 0][:BARS_MAX]
    chart = None
    if key == "work" and len(codes) == 1 and len(bars) > 1:
        chart = BarChart(
            title="The works that earned most",
            labels=_distinct([row.name for row in bars]),
            series=[Series("By attribution", [row.amount for row in bars])],
            currency=bars[0].currency,
            scale=asset(bars[0].currency).scale,
            places=asset(bars[0].currency).exponent,
            label_heading="Work",
        )
    return Block(key, caption, rows, chart)


def _distinct(names: Sequence[str]) -> list[str]:
    """Number the names that occur twice: two works may have one title."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct


def _receipts(number: int, **chosen: object) -> str:
    pairs = "".join(f"&{name}={value}" for name, value in chosen.items())
    return f"{reverse('ledger:receipts')}?month={month_code(number)}{pairs}"
