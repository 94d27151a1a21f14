"""Addresses of receipts, statements, earnings, the books and the receipt of the API."""

from django.urls import path, re_path

from ledger import (
    api,
    console,
    console_advances,
    console_contests,
    console_contracts,
    console_generations,
    console_manual,
    console_plans,
    console_taxes,
)
from ledger.portal import contracts, disputes, earnings, receipts, roots, statements

app_name = "ledger"
MONTH = r"(?P<period>[0-9]{4}-[0-9]{2})"
CODE = r"(?P<code>[0-9]{4}-[0-9]{2})"

urlpatterns = [
    path("roots/", roots.roots, name="roots"),
    path("roots.json", roots.roots_json, name="roots_json"),
    path("portal/receipts/", receipts.receipts, name="receipts"),
    path("portal/receipts/<uuid:generation_id>/", receipts.receipt, name="receipt"),
    path("portal/receipts/<uuid:generation_id>/recompute/", receipts.recompute, name="recompute"),
    path("portal/receipts/<uuid:generation_id>/dispute/", disputes.dispute, name="dispute"),
    path(
        "portal/receipts/<uuid:generation_id>/disputes/<int:dispute_id>/withdraw/",
        disputes.withdraw,
        name="withdraw_dispute",
    ),
    path("portal/statements/", statements.statements, name="statements"),
    path("portal/statements/verify_statement.py", statements.verifier, name="proof"),
    re_path(rf"^portal/statements/{MONTH}/$", statements.statement, name="statement"),
    re_path(rf"^portal/statements/{MONTH}/csv$", statements.statement_as_csv, name="statement_csv"),
    re_path(rf"^portal/statements/{MONTH}/pdf$", statements.statement_as_pdf, name="statement_pdf"),
    path("portal/contracts/", contracts.contracts, name="own_contracts"),
    path("portal/earnings/", earnings.earnings, name="earnings"),
    path("portal/earnings/csv", earnings.earnings_csv, name="earnings_csv"),
    path("console/trial-balance/", console.trial_balance, name="trial_balance"),
    path("console/trial-balance/csv", console.trial_balance_csv, name="trial_balance_csv"),
    path("console/accounts/<str:currency>/<str:kind>/", console.accounts, name="accounts"),
    path("console/journal/", console.journal, name="journal"),
    path("console/journal/export/", console.export_journal, name="export_journal"),
    path("console/journal/<int:entry_id>/", console.entry, name="entry"),
    path("console/periods/", console.periods, name="periods"),
    re_path(rf"^console/periods/{CODE}/$", console.period, name="period"),
    re_path(rf"^console/periods/{CODE}/close/$", console.close, name="close_period"),
    re_path(rf"^console/periods/{CODE}/seal/$", console.seal, name="seal_period"),
    path("console/disputes/", console.disputes, name="disputes"),
    path("console/disputes/<int:dispute_id>/", console.answer, name="answer_dispute"),
    path("console/plans/", console_plans.plans, name="plans"),
    path("console/plans/propose/", console_plans.propose, name="plan_propose"),
    path("console/plans/<int:plan_id>/", console_plans.plan, name="plan"),
    path("console/plans/<int:plan_id>/decide/", console_plans.decide, name="plan_decide"),
    path("console/plans/<int:plan_id>/preview/", console_plans.ask_preview, name="plan_ask_preview"),
    path("console/plans/<int:plan_id>/preview/<int:preview_id>/", console_plans.preview, name="plan_preview"),
    path(
        "console/plans/<int:plan_id>/preview/<int:preview_id>/csv", console_plans.preview_csv, name="plan_preview_csv"
    ),
    path("console/plans/<int:plan_id>/pools/", console_plans.propose_pool, name="pool_propose"),
    path("console/plans/<int:plan_id>/pools/<int:pool_id>/decide/", console_plans.decide_pool, name="pool_decide"),
    path("console/restatements/", console_plans.restatements, name="restatements"),
    path(
        "console/restatements/<int:restatement_id>/decide/", console_plans.decide_restatement, name="restatement_decide"
    ),
    path("console/generations/", console_generations.generations, name="generations"),
    path("console/generations/<uuid:generation_id>/", console_generations.generation, name="generation_page"),
    path(
        "console/generations/<uuid:generation_id>/restate/",
        console_generations.propose_restatement,
        name="restate_generation",
    ),
    path("console/generations/<uuid:generation_id>/void/", console_generations.propose_void, name="void_propose"),
    path("console/voids/<int:proposal_id>/decide/", console_generations.decide_void, name="void_decide"),
    path("console/contracts/", console_contracts.contracts, name="contracts"),
    path("console/contracts/new/", console_contracts.contract_new, name="contract_new"),
    path("console/contracts/<int:contract_id>/", console_contracts.contract, name="contract"),
    path("console/contracts/<int:contract_id>/propose/", console_contracts.propose, name="terms_propose"),
    path("console/contracts/<int:contract_id>/<int:version>/", console_contracts.terms, name="terms"),
    path("console/contracts/<int:contract_id>/<int:version>/decide/", console_contracts.decide, name="terms_decide"),
    path("console/contracts/<int:contract_id>/advance/", console_advances.advance_new, name="advance_new"),
    path("console/advances/", console_advances.advances, name="advances"),
    path("console/advances/<int:advance_id>/", console_advances.advance, name="advance"),
    path("console/advances/<int:advance_id>/decide/", console_advances.advance_decide, name="advance_decide"),
    path("console/advances/<int:advance_id>/cancel/", console_advances.cancellation_new, name="advance_cancel"),
    path(
        "console/advances/<int:advance_id>/cancel/<int:cancellation_id>/decide/",
        console_advances.cancellation_decide,
        name="advance_cancel_decide",
    ),
    path("console/contested-shares/", console_contests.contests, name="contests"),
    path("console/contested-shares/<int:dispute_id>/", console_contests.contest, name="contest"),
    path("console/withholding/", console_taxes.withholding, name="withholding"),
    path("console/withholding/<int:rate_id>/decide/", console_taxes.withholding_decide, name="withholding_decide"),
    path("console/manual-entries/", console_manual.manual_entries, name="manual_entries"),
    path("console/manual-entries/new/", console_manual.manual_entry_new, name="manual_entry_new"),
    path("console/manual-entries/<int:manual_id>/", console_manual.manual_entry, name="manual_entry"),
    path(
        "console/manual-entries/<int:manual_id>/decide/", console_manual.manual_entry_decide, name="manual_entry_decide"
    ),
    path("api/v1/generations/<uuid:generation_id>/void", api.VoidView.as_view(), name="void_generation"),
    path("api/v1/generations/<uuid:generation_id>", api.ReceiptView.as_view(), name="generation"),
]
