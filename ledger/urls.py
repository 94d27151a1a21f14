"""Addresses of receipts, statements, earnings, the books and the receipt of the API."""

from django.urls import path, re_path

from ledger.api import limits as limits_api
from ledger.api import usage, voids
from ledger.api.receipts import ReceiptView
from ledger.console import (
    advances,
    books,
    contests,
    generations,
    limits,
    manual,
    periods,
    plans,
    taxes,
    transactions,
)
from ledger.console import (
    contracts as console_contracts,
)
from ledger.console import (
    disputes as disputes_console,
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
    path("portal/receipts/<uuid:generation_id>/output/<int:position>", receipts.output, name="receipt_output"),
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
    path("console/trial-balance/", books.trial_balance, name="trial_balance"),
    path("console/trial-balance/csv", books.trial_balance_csv, name="trial_balance_csv"),
    path("console/accounts/<str:currency>/<str:kind>/", books.accounts, name="accounts"),
    path("console/journal/", books.journal, name="journal"),
    path("console/journal/export/", books.export_journal, name="export_journal"),
    path("console/journal/<int:entry_id>/", books.entry, name="entry"),
    path("console/services/<uuid:public_id>/limits/", limits.limits, name="limits"),
    path("console/services/<uuid:public_id>/limits/<str:currency>/remove/", limits.remove, name="remove_limit"),
    path("console/periods/", periods.periods, name="periods"),
    re_path(rf"^console/periods/{CODE}/$", periods.period, name="period"),
    re_path(rf"^console/periods/{CODE}/close/$", periods.close, name="close_period"),
    re_path(rf"^console/periods/{CODE}/seal/$", periods.seal, name="seal_period"),
    path("console/disputes/", disputes_console.disputes, name="disputes"),
    path("console/disputes/<int:dispute_id>/", disputes_console.answer, name="answer_dispute"),
    path("console/plans/", plans.plans, name="plans"),
    path("console/plans/propose/", plans.propose, name="plan_propose"),
    path("console/plans/<int:plan_id>/", plans.plan, name="plan"),
    path("console/plans/<int:plan_id>/preview/", plans.ask_preview, name="plan_ask_preview"),
    path("console/plans/<int:plan_id>/preview/<int:preview_id>/", plans.preview, name="plan_preview"),
    path("console/plans/<int:plan_id>/preview/<int:preview_id>/csv", plans.preview_csv, name="plan_preview_csv"),
    path("console/plans/<int:plan_id>/pools/", plans.propose_pool, name="pool_propose"),
    path("console/restatements/", plans.restatements, name="restatements"),
    path("console/generations/", generations.generations, name="generations"),
    path("console/generations/<uuid:generation_id>/", generations.generation, name="generation_page"),
    path(
        "console/generations/<uuid:generation_id>/restate/",
        generations.propose_restatement,
        name="restate_generation",
    ),
    path("console/generations/<uuid:generation_id>/void/", generations.propose_void, name="void_propose"),
    path("console/contracts/", console_contracts.contracts, name="contracts"),
    path("console/contracts/new/", console_contracts.contract_new, name="contract_new"),
    path("console/contracts/<int:contract_id>/", console_contracts.contract, name="contract"),
    path("console/contracts/<int:contract_id>/propose/", console_contracts.propose, name="terms_propose"),
    path("console/contracts/<int:contract_id>/<int:version>/", console_contracts.terms, name="terms"),
    path("console/contracts/<int:contract_id>/advance/", advances.advance_new, name="advance_new"),
    path("console/advances/", advances.advances, name="advances"),
    path("console/advances/<int:advance_id>/", advances.advance, name="advance"),
    path("console/advances/<int:advance_id>/cancel/", advances.cancellation_new, name="advance_cancel"),
    path("console/contested-shares/", contests.contests, name="contests"),
    path("console/contested-shares/<int:dispute_id>/", contests.contest, name="contest"),
    path("console/withholding/", taxes.withholding, name="withholding"),
    path("console/manual-entries/", manual.manual_entries, name="manual_entries"),
    path("console/manual-entries/new/", manual.manual_entry_new, name="manual_entry_new"),
    path("console/transactions/", transactions.transactions, name="transactions"),
    path("console/transactions/new/", transactions.transaction_choose, name="transaction_choose"),
    path("console/transactions/new/<slug:key>/", transactions.transaction_new, name="transaction_new"),
    path("api/v1/limits", limits_api.LimitsView.as_view(), name="limits_api"),
    path("api/v1/limits/<str:currency>", limits_api.LimitView.as_view(), name="limit_api"),
    path("api/v1/usage", usage.UsageView.as_view(), name="usage"),
    path("api/v1/usage.csv", usage.UsageCsvView.as_view(), name="usage_csv"),
    path("api/v1/balance", usage.BalanceView.as_view(), name="service_balance"),
    path("api/v1/invoices", usage.InvoicesView.as_view(), name="service_invoices"),
    path("api/v1/generations/<uuid:generation_id>/void", voids.VoidView.as_view(), name="void_generation"),
    path("api/v1/generations/<uuid:generation_id>", ReceiptView.as_view(), name="generation"),
]
