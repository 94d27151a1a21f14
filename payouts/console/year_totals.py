"""The totals of a year by payee, currency and tax form, as a page and as CSV."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from payouts.console import reader_required
from payouts.exports import tables
from payouts.queries import year_totals as totals
from people.presentation import csv

PAGE = 50


@require_GET
@reader_required
def year_totals(request: HttpRequest) -> HttpResponse:
    known = totals.years(timezone.now().date())
    year = _year(request, known)
    rows = totals.year_totals(year)
    context = {
        "year": year,
        "years": known,
        "page_obj": Paginator(rows, PAGE).get_page(request.GET.get("page")),
        "comparisons": totals.comparisons(year, rows),
    }
    return render(request, "payouts/console/year_totals.html", context)


@require_GET
@reader_required
def year_totals_csv(request: HttpRequest) -> HttpResponse:
    year = _year(request, totals.years(timezone.now().date()))
    response = HttpResponse(tables.year_totals(year, totals.year_totals(year)), content_type=csv.CONTENT_TYPE)
    response["Content-Disposition"] = f'attachment; filename="year-totals-{year}.csv"'
    return response


def _year(request: HttpRequest, known: list[int]) -> int:
    """The chosen year; the present one where none is named. Raises Http404 for a year that is not in the books."""
    given = request.GET.get("year", "") or str(known[0])
    for year in known:
        if given == str(year):
            return year
    raise Http404("The books have no such year.")
