"""The contributor's home: the earned money, the next payout, the allowed uses."""

from __future__ import annotations

from datetime import date, datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from attribution.models import ManifestWork
from contributors.models import Contributor
from contributors.portal.guard import contributor_required
from contributors.queries.consents import consent_matrix
from contributors.queries.links import linked_with
from contributors.queries.works import works_of
from ledger.money import asset
from ledger.queries import earnings, receipts
from payouts.portal import contributor_of
from payouts.portal.payouts import next_payout
from payouts.queries import standing
from people.presentation import dates
from people.presentation.charts import BarChart, Series

MONTHS_SHOWN = 12
RECEIPTS_SHOWN = 5
WORKS_SHOWN = 5


@require_GET
@contributor_required
def home(request: HttpRequest) -> HttpResponse:
    contributor, at = contributor_of(request), timezone.now()
    purses = standing.purses_of(contributor, at=at)
    months = earnings.earnings_by_month(contributor.pk)
    return render(
        request,
        "payouts/portal/home.html",
        {
            "purses": purses,
            "has_earned": any(purse.earned for purse in purses),
            "charts": [_chart(months, purse.currency, at.date()) for purse in purses] if months else [],
            "empty": None if months else _first_step(contributor),
            "receipts": receipts.receipts_of(contributor.pk, limit=RECEIPTS_SHOWN).rows,
            "consents": _consents(contributor, at),
            "counted_as_one": linked_with(contributor, at),
            **next_payout(request, at),
        },
    )


@require_GET
@contributor_required
def top_works(request: HttpRequest) -> HttpResponse:
    """A part of the home page that is fetched by itself: it reads the evidence of a whole month."""
    contributor = contributor_of(request)
    months = earnings.earnings_by_month(contributor.pk)
    period = months[-1].period_id if months else None
    rows = earnings.earnings_by_work(contributor.pk, period) if period else []
    named = [row for row in rows if row.work is not None and row.amount > 0]
    month = dates.month_of_number(period) if period else ""
    # htmx swaps the part into the home page; a browser without script follows the link and needs a whole page.
    template = "home_works.html" if request.headers.get("HX-Request") else "home_works_page.html"
    return render(request, f"payouts/portal/{template}", {"rows": named[:WORKS_SHOWN], "month": month})


def _chart(months: list[earnings.MonthEarnings], currency: str, today: date) -> BarChart:
    """The last twelve months, this one last. A month in which more was taken back than earned shows no bar."""
    found = {row.period_id: row for row in months if row.currency == currency}
    numbers = []
    year, month = today.year, today.month
    for _ in range(MONTHS_SHOWN):
        numbers.append(year * 100 + month)
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    numbers.reverse()
    kinds = {"By attribution": "direct", "Base pool": "floor", "Other": "other"}
    series = [
        Series(name, [max(0, getattr(found[n], kind)) if n in found else 0 for n in numbers])
        for name, kind in kinds.items()
    ]
    used = [one for one in series if any(one.values)]
    labels = [dates.short_month_of_number(number) for number in numbers]
    return BarChart(
        title="Earned per month",
        labels=labels,
        series=used or series[:1],
        currency=currency,
        scale=asset(currency).scale,
        places=asset(currency).exponent,
    )


def _consents(contributor: Contributor, at: datetime) -> list[tuple[str, str]]:
    """Return for each scope its label and its consent: `all`, `some` (of the datasets) or `none`."""
    everything, *datasets = consent_matrix(contributor, at)
    found = []
    for i, state in enumerate(everything.states):
        said = [row.states[i].current.value for row in datasets if row.states[i].current]  # type: ignore[union-attr]
        general = state.current.value if state.current else ""
        if general == "deny" or (general == "" and "allow" not in said):
            answer = "none"
        else:
            answer = "all" if general == "allow" and "deny" not in said else "some"
        found.append((state.label, answer))
    return found


def _first_step(contributor: Contributor) -> dict[str, str]:
    """Return the reason why nothing is earned yet, and the step that must happen first."""
    trained = ManifestWork.objects.filter(work__dataset__contributor=contributor)
    newest = trained.select_related("manifest__model_version").order_by("-manifest__created_at", "-pk").first()
    n_works = works_of(contributor).count()
    if newest is not None:
        n_trained = trained.filter(manifest=newest.manifest).count()
        return {
            "title": "No earnings yet",
            "sentence": f"{n_trained} of your works {'is' if n_trained == 1 else 'are'} in the training set of "
            f"{newest.manifest.model_version}. The first royalties appear after it has served a generation that "
            "drew on them.",
        }
    if n_works:
        return {
            "title": "No earnings yet",
            "sentence": f"{n_works} of your works {'is' if n_works == 1 else 'are'} registered; no model has been "
            "trained on them yet. A model may be, once you allow it.",
            "action": "See your permissions",
            "url": reverse("contributors:consent"),
        }
    return {
        "title": "Begin with your works",
        "sentence": "Register your works and allow their uses. Royalties follow when a model that was "
        "trained on it generates something.",
        "action": "Register works",
        "url": reverse("contributors:works"),
    }
