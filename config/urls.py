"""Where everything answers. Each app names its own addresses; the root includes them."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView
from drf_spectacular.views import SpectacularJSONAPIView

from attribution.queries import examples
from config import health
from config.demo import page as demo
from config.setup import page as setup

handler400 = "config.problems.bad_request"
handler404 = "config.problems.not_found"
handler500 = "config.problems.server_error"
urlpatterns = [
    path(
        "",
        # Asked for when the page is made.
        TemplateView.as_view(template_name="public/home.html", extra_context={"demo": demo.report}),
        name="home",
    ),
    path("demo/", demo.demo, name="demo"),
    path("demo/stages/", demo.stages, name="demo_stages"),
    path(
        "how-it-works/",
        TemplateView.as_view(
            template_name="public/how_it_works.html",
            # Asked for when the page is made.
            extra_context={
                "withdrawn_works_leave": lambda: settings.WITHDRAWN_WORKS_LEAVE_INDEXES,
                "example": examples.shares_by_items,
            },
        ),
        name="how_it_works",
    ),
    path("console/setup/", setup.setup, name="setup"),
    path("", include("people.urls")),
    path("", include("contributors.urls")),
    path("", include("attribution.urls")),
    path("", include("ledger.urls")),
    path("", include("payouts.urls")),
    path("accounts/", include("allauth.urls")),
    path("console/tables/", admin.site.urls),
    path("api/v1/openapi.json", SpectacularJSONAPIView.as_view(), name="openapi"),
    path("livez", health.livez, name="livez"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
]
