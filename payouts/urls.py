"""Addresses of the contributor's home and payouts, of the console's runs, and of Stripe's webhooks."""

from django.urls import path

from payouts import api, portal
from payouts.console import actions, board, differences, log, runs

app_name = "payouts"

_RUN = "console/runs/<uuid:public_id>/"

urlpatterns = [
    path("portal/", portal.home, name="home"),
    path("portal/top-works/", portal.top_works, name="top_works"),
    path("portal/payouts/", portal.payouts, name="payouts"),
    path("portal/payouts/set-up/", portal.set_up, name="set_up"),
    path("portal/payouts/onboarding/", portal.onboarding, name="onboarding"),
    path("portal/payouts/returned/", portal.returned, name="returned"),
    path("portal/payouts/read-account/", portal.read_account, name="read_account"),
    path("portal/payouts/threshold/", portal.threshold, name="threshold"),
    path("portal/payouts/history.csv", portal.history_csv, name="history_csv"),
    path("portal/payouts/<uuid:public_id>/remittance.pdf", portal.remittance_pdf, name="remittance"),
    path("console/", board.console, name="console"),
    path("console/runs/", runs.runs, name="runs"),
    path("console/runs/build/", runs.build, name="build"),
    path(_RUN, runs.run, name="run"),
    path(f"{_RUN}progress/", runs.progress, name="progress"),
    path(f"{_RUN}stripe-balance/", runs.stripe_balance, name="stripe_balance"),
    path(f"{_RUN}payouts.csv", runs.payouts_csv, name="run_csv"),
    path(f"{_RUN}left-out.csv", runs.left_out_csv, name="left_out_csv"),
    path(f"{_RUN}attempts.csv", runs.attempts_csv, name="attempts_csv"),
    path(f"{_RUN}payouts/<uuid:payout_id>/", runs.payee, name="payee"),
    path(f"{_RUN}payouts/<uuid:payout_id>/remittance.pdf", runs.payee_pdf, name="payee_pdf"),
    path(f"{_RUN}submit/", actions.submit, name="submit"),
    path(f"{_RUN}approve/", actions.approve, name="approve"),
    path(f"{_RUN}reject/", actions.reject, name="reject"),
    path(f"{_RUN}cancel/", actions.cancel, name="cancel"),
    path(f"{_RUN}exclude/", actions.exclude, name="exclude"),
    path(f"{_RUN}take-up/", actions.take_up, name="take_up"),
    path(f"{_RUN}rebuild/", actions.rebuild, name="rebuild"),
    path(f"{_RUN}execute/", actions.execute, name="execute"),
    path(f"{_RUN}pause/", actions.pause, name="pause"),
    path(f"{_RUN}resume/", actions.resume, name="resume"),
    path(f"{_RUN}reconcile/", actions.reconcile, name="reconcile"),
    path(f"{_RUN}close/", actions.close, name="close"),
    path("console/reconciliation/", differences.reconciliation, name="reconciliation"),
    path("console/reconciliation/differences/<uuid:public_id>/", differences.sign_off, name="sign_off"),
    path("console/reconciliation/unknown/<uuid:public_id>/", differences.decide, name="decide"),
    path("console/audit/", log.audit, name="audit"),
    path("console/audit.csv", log.audit_csv, name="audit_csv"),
    path("webhooks/stripe/", api.stripe_webhook, name="stripe_webhook"),
    path("webhooks/stripe/connect/", api.stripe_connect_webhook, name="stripe_connect_webhook"),
]
