"""Addresses of the sandbox. It is served by itself; the product's addresses are not among these."""

from django.urls import path, re_path

from stripe_sandbox import api, control, pages

urlpatterns = [
    re_path(r"^v\d+/", api.v1),
    path("_sandbox/advance", control.advance),
    path("_sandbox/settings", control.settings),
    path("_sandbox/faults", control.fault_switches),
    path("_sandbox/accounts/<str:reference>", control.account),
    path("_sandbox/payouts/<str:reference>/fail", control.fail_payout),
    path("_sandbox/topups/<str:reference>/reverse", control.reverse_topup),
    path("_sandbox/balances", control.balances),
    path("_sandbox/resend", control.resend),
    path("_sandbox/audit", control.audit),
    path("onboarding/<str:token>", pages.open_link, name="open"),
    path("onboarding/visits/<str:visit>", pages.choose, name="choose"),
    path("sandbox.css", pages.style, name="style"),
    path("", pages.home),
]
