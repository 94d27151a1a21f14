"""The site's addresses of this app, and three pages behind each guard, for the tests of the guards alone."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import TemplateView

from contributors.portal.guard import ContributorRequest, contributor_required
from people.console.guard import recently_authenticated, staff_required


@staff_required("finance_maker", "finance_checker")
def finance(request: HttpRequest) -> HttpResponse:
    return HttpResponse("finance")


@staff_required("finance_checker")
@recently_authenticated
def approve(request: HttpRequest) -> HttpResponse:
    return HttpResponse("approved" if request.method == "POST" else "form")


@recently_authenticated
def sensitive(request: HttpRequest) -> HttpResponse:
    return HttpResponse("sensitive")


@contributor_required
def whoami(request: ContributorRequest) -> HttpResponse:
    others = ", ".join(str(other) for other in request.other_contributors)
    return HttpResponse(f"{request.contributor} as {request.membership.role}, not {others}")


urlpatterns = [
    path("", TemplateView.as_view(template_name="public/home.html"), name="home"),
    path("how-it-works/", TemplateView.as_view(template_name="public/how_it_works.html"), name="how_it_works"),
    path("", include("contributors.urls")),
    path("accounts/", include("allauth.urls")),
    path("guarded/finance/", finance),
    path("guarded/approve/", approve),
    path("guarded/sensitive/", sensitive),
    path("guarded/whoami/", whoami),
]
