"""The page that shows the progress of the demo, for everybody that opens it while the demo is prepared."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from config.demo import progress


def report() -> progress.Report | None:
    """Return the state of the demo of this installation; None where it has none."""
    return progress.read(progress.path_of(settings.TRIBUTARY_DATA))


@never_cache
@require_safe
def demo(request: HttpRequest) -> HttpResponse:
    """Show every stage: the finished ones, those in progress with their counts, and the next one."""
    return _shown(request, "public/demo.html")


@never_cache
@require_safe
def stages(request: HttpRequest) -> HttpResponse:
    """The part of the page that renews itself."""
    return _shown(request, "public/demo_stages.html")


def _shown(request: HttpRequest, template: str) -> HttpResponse:
    found = report()
    if found is None:
        raise Http404("This installation has no demo.")
    return render(request, template, {"report": found})
