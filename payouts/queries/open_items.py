"""Open work about payouts: runs by their next step, payouts without an answer, differences, webhooks, mails, payees."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import CharField, Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Cast, Concat
from django.urls import reverse

from contributors.models import Contributor
from ledger.models import Account
from ledger.money import asset, from_minor
from payouts.models import (
    BankFile,
    Difference,
    Notice,
    Payout,
    PayoutAccount,
    PayoutRun,
    Rail,
    TopUp,
    WebhookEvent,
)
from payouts.queries import payees, records, standing, words
from payouts.queries.policies import terms_in_force
from people.inbox import COUNT_MAX, Kind, OpenItem
from people.presentation import amounts, codes, dates

MAKERS = ("finance_maker", "admin")
CHECKERS = ("finance_checker", "admin")
FINANCE = ("finance_maker", "finance_checker", "admin")
EVERYBODY_IN_FINANCE = (*FINANCE, "compliance")
EXPLAINERS = ("finance_checker", "compliance", "admin")
# A mail that was given up earlier is not listed any more: its news are old.
FAILED_MAILS_SHOWN = timedelta(days=14)
S = PayoutRun.State


# --- runs ---------------------------------------------------------------------------------------------------------
def _sum_of(run: PayoutRun) -> str:
    people = "1 payee" if run.n_payouts == 1 else f"{run.n_payouts} payees"
    return f"{amounts.text_of_minor(run.total_minor, asset(run.currency))} to {people}, built by {run.created_by}"


def _run(run: PayoutRun, since: datetime | None, said: str, **more: Any) -> OpenItem:
    moment = since or run.created_at
    given: dict[str, Any] = {
        "subject": f"run:{run.public_id}:{run.state}:{moment:%Y%m%d%H%M%S}",
        "url": reverse("payouts:run", args=[run.public_id]),
        "person": str(run.created_by),
        **more,
    }
    return OpenItem(title=str(run), words=said, since=moment, **given)


def _draft(run: PayoutRun) -> OpenItem:
    said = f"{_sum_of(run)}. It waits to be submitted." if run.n_payouts else "It pays nobody as it was calculated."
    return _run(run, run.last_edited_at, said)


def _in_review(run: PayoutRun) -> OpenItem:
    because = "You built or changed this run, or have approved it, so somebody else has to approve it."
    return _run(
        run,
        run.submitted_at,
        f"{_sum_of(run)}. It waits for somebody else's approval.",
        subject=f"run:{run.public_id}:{run.submitted_at:%Y%m%d%H%M%S}",
        url=reverse("payouts:approve", args=[run.public_id]),
        barred=frozenset({run.created_by_id, run.last_edited_by_id, run.approved_by_id} - {None}),
        barred_because=because,
    )


def _paused(run: PayoutRun) -> OpenItem:
    moment = run.paused_at or run.created_at
    said = words.PAUSES.get(run.pause_code, codes.spaced(run.pause_code).capitalize())
    return _run(
        run,
        moment,
        f"{said} {run.pause_note}".strip(),
        subject=f"run:{run.public_id}:{run.pause_code}:{moment.isoformat()}",
    )


def _runs(*states: str, **more: Any) -> Callable[[datetime], QuerySet[PayoutRun]]:
    return lambda at: (
        PayoutRun.objects.filter(state__in=states, **more).select_related("created_by", "approved_by").order_by("pk")
    )


def _underway() -> Exists:
    return Exists(Payout.objects.filter(run=OuterRef("pk"), state__in=(*Payout.LIVE, Payout.State.REFUSED)))


def _of_runs(*states: str) -> dict[str, frozenset[str]]:
    return {"payouts.PayoutRun": frozenset(states)}


RUNS = [
    Kind(
        name="run_to_submit", heading="Runs to submit", mail="A payout run waits to be submitted", roles=MAKERS,
        rows=_runs(S.DRAFT), item=_draft, covers=_of_runs("draft"),
    ),
    Kind(
        name="run_awaiting_approval", heading="Runs to approve", mail="A payout run waits for approval",
        roles=CHECKERS, rows=_runs(S.IN_REVIEW), item=_in_review, covers=_of_runs("in_review"),
    ),
    Kind(
        name="run_to_execute", heading="Runs to execute", mail="A payout run waits to be executed", roles=FINANCE,
        rows=_runs(S.APPROVED), covers=_of_runs("approved"),
        item=lambda run: _run(run, run.approved_at, f"Approved by {run.approved_by}. Nothing has been sent yet."),
    ),
    Kind(
        name="run_stopped", heading="Paused runs", mail="A payout run stopped", roles=EVERYBODY_IN_FINANCE,
        rows=_runs(S.PAUSED), item=_paused, covers=_of_runs("paused"),
    ),
    Kind(
        name="bank_run_to_order", heading="Bank runs under way", mail="A bank run waits for the bank's report",
        roles=FINANCE, covers=_of_runs("executing"),
        rows=lambda at: _runs(S.EXECUTING, rail=Rail.MANUAL_BANK_FILE)(at).filter(_underway()),
        item=lambda run: _run(
            run, run.started_at, "Its payments are to be ordered, or wait for the bank's report.",
            url=reverse("payouts:bank_files", args=[run.public_id]),
        ),
    ),
    Kind(
        name="bank_file_to_send", heading="Bank files to hand over", mail="A bank file waits to be handed over",
        roles=FINANCE, covers={"payouts.BankFile": frozenset({"made"})},
        rows=lambda at: BankFile.objects.filter(state="made").select_related("run", "made_by").order_by("pk"),
        item=lambda file: OpenItem(
            subject=f"bank_file:{file.public_id}", title=f"File {file.number} of {file.run}", since=file.made_at,
            words="Hand it to the bank, then mark it as sent.", person=str(file.made_by),
            url=reverse("payouts:bank_files", args=[file.run.public_id]),
        ),
    ),
    Kind(
        name="run_to_reconcile", heading="Runs to reconcile", mail="A payout run waits to be reconciled",
        roles=FINANCE, covers=_of_runs("executing"), rows=lambda at: _runs(S.EXECUTING)(at).exclude(_underway()),
        item=lambda run: _run(run, run.finished_at or run.started_at, "Every payout is at its end."),
    ),
    Kind(
        name="run_to_close", heading="Runs to close", mail="A payout run waits to be closed", roles=FINANCE,
        rows=_runs(S.RECONCILED), covers=_of_runs("reconciled"),
        item=lambda run: _run(run, run.reconciled_at, "Every transfer was matched; the run can be closed."),
    ),
    Kind(
        name="run_set_aside", heading="Runs set aside", mail="A payout run was set aside", roles=MAKERS,
        rows=_runs(S.SET_ASIDE), covers=_of_runs("set_aside"),
        item=lambda run: _run(run, run.created_at, "Split off from another run. It waits to be taken up."),
    ),
]  # fmt: skip


# --- payouts ------------------------------------------------------------------------------------------------------
def _payout(payout: Payout) -> OpenItem:
    amount = amounts.text_of_minor(payout.amount_minor, asset(payout.currency))
    since = payout.needs_person_since or payout.created_at
    return OpenItem(
        subject=f"payout:{payout.public_id}",
        title=f"{amount} to {payout.contributor}",
        words="Stripe gave no final answer about it.",
        url=reverse("payouts:decide", args=[payout.public_id]),
        since=since,
    )


def _difference(row: Difference) -> OpenItem:
    return OpenItem(
        subject=f"difference:{row.public_id}",
        title=row.words,
        words=f"{row.currency}, {row.subject}",
        url=reverse("payouts:sign_off", args=[row.public_id]),
        since=row.found_at,
        barred=frozenset({row.run.created_by_id}) if row.run else frozenset(),
        barred_because="You built the run, so somebody else has to explain its difference.",
    )


def _webhook(event: WebhookEvent) -> OpenItem:
    return OpenItem(
        subject=f"event:{event.pk}",
        title=f"{event.type} about {event.object_id or 'nothing that it names'}",
        words=event.error,
        url=reverse("payouts:event", args=[event.pk]),
        since=event.received_at,
    )


# --- mails --------------------------------------------------------------------------------------------------------
def _failed_mails(at: datetime) -> QuerySet[Notice]:
    """Find mails that a mail server refused to the end. A failed mail about failed mails is left out."""
    failed = Notice.objects.filter(given_up_at__gte=at - FAILED_MAILS_SHOWN).exclude(error="")
    return failed.exclude(kind="mail_failed").select_related("contributor").order_by("pk")


def _failed_mail(notice: Notice) -> OpenItem:
    payee = notice.contributor
    return OpenItem(
        subject=f"notice:{notice.pk}",
        title=f"Mail to {payee or 'staff'}: {notice.words}",
        words=f"Tried {notice.tries} times. {notice.error}",
        url=reverse("payouts:payee_account", args=[payee.public_id]) if payee else reverse("payouts:attention"),
        since=notice.given_up_at or notice.created_at,
    )


# --- payees -------------------------------------------------------------------------------------------------------
def _without_account(at: datetime) -> QuerySet[Contributor]:
    """Find contributors with payable money at the minimum of a payout or above, and without a rail that could pay
    them."""
    owed = Account.objects.filter(kind="contributor_payable", balance__posted__gt=0)
    enough = Q(pk__in=[])
    for currency in sorted(set(owed.values_list("asset__code", flat=True))):
        least = from_minor(terms_in_force(currency).minimum_minor, currency)
        enough |= Q(asset__code=currency, balance__posted__gte=least)
    mine = owed.filter(enough, owner=OuterRef("named")).order_by("opened_at")
    payable = Q(rail=Rail.MANUAL_BANK_FILE) & ~Q(bank_fingerprint="") | Q(
        rail=Rail.STRIPE_TRANSFER,
        provider_account_id__isnull=False,
        disconnected_at__isnull=True,
        transfers_capability=PayoutAccount.Capability.ACTIVE,
    )
    ready = PayoutAccount.objects.filter(payable, contributor=OuterRef("pk"))
    named = Contributor.objects.annotate(named=Concat(Value("contributor:"), Cast("pk", CharField())))
    found = named.filter(Exists(mine)).exclude(Exists(ready))
    return found.annotate(owed_since=Subquery(mine.values("opened_at")[:1])).order_by("pk")


def _payee(contributor: Any) -> OpenItem:
    return OpenItem(
        subject=f"payee:{contributor.pk}",
        title=str(contributor),
        words="Money waits for a payout and no rail can pay it. Remind the payee.",
        url=reverse("payouts:payee_account", args=[contributor.public_id]),
        since=contributor.owed_since,
    )


STOPS_SOON = timedelta(days=14)


def _stopping(at: datetime) -> list[OpenItem]:
    """Name the payees that Stripe stops within two weeks, unless they answer it."""
    return [
        OpenItem(
            subject=f"deadline:{account.provider_account_id}:{deadline:%Y%m%d}",
            title=str(account.contributor),
            words=f"Stripe stops payments on {dates.day(deadline)} without "
            f"{words.listed(standing.asked_by_stripe(account) or standing.asked_in_future(account))}. The payee is "
            "told by mail; remind them if they do not answer.",
            url=reverse("payouts:payee_account", args=[account.contributor.public_id]),
            since=account.synced_at or account.created_at,
        )
        for account, deadline in standing.with_deadlines(after=at, before=at + STOPS_SOON)
    ]


# --- queues -------------------------------------------------------------------------------------------------------
def _stalled(at: datetime) -> list[OpenItem]:
    """Name each queue of the payout workers with an oldest row older than the limit."""
    late = at - timedelta(minutes=settings.STALLED_MINUTES)
    due = Q(next_try_at__lt=late)
    payouts = Payout.objects.filter(
        Q(lease_until__lt=late) | Q(lease_until=None) & (due | Q(next_try_at=None, run__started_at__lt=late)),
        state__in=Payout.LIVE,
        needs_person_since=None,
        rail=Rail.STRIPE_TRANSFER,
        run__state=S.EXECUTING,
    )
    events = WebhookEvent.objects.filter(
        due | Q(next_try_at=None, received_at__lt=late), state__in=WebhookEvent.WAITING
    )
    top_ups = TopUp.objects.filter(
        Q(next_look_at__lt=late) | Q(next_look_at=None, requested_at__lt=late), state=TopUp.State.REQUESTED
    )
    runs = PayoutRun.objects.filter(state=S.CALCULATING, last_edited_at__lt=late)
    found = []
    for name, rows, moment, what, page in (
        ("payouts", payouts, "approved_at", "approved payout", "payouts:runs"),
        ("webhooks", events, "received_at", "webhook", "payouts:inbox"),
        ("top_ups", top_ups, "requested_at", "requested top-up", "payouts:funding"),
        ("runs", runs, "last_edited_at", "run in calculation", "payouts:runs"),
    ):
        moments = sorted(rows.values_list(moment, flat=True)[:COUNT_MAX])
        if moments:
            number = f"{COUNT_MAX} or more" if len(moments) == COUNT_MAX else str(len(moments))
            found.append(
                OpenItem(
                    subject=f"queue:{name}:{moments[0]:%Y%m%d%H%M%S%f}",
                    title=f"{number} {what}{'s' if len(moments) > 1 and name != 'runs' else ''} without progress",
                    words="Do the workers of the queue payouts run?",
                    url=reverse(page),
                    since=moments[0],
                )
            )
    return found


KINDS = [
    *RUNS,
    Kind(
        name="payout_needs_person", heading="Payouts to decide", mail="A payout waits for a decision",
        roles=EXPLAINERS, rows=lambda at: payees.needs_person(), item=_payout,
        covers={"payouts.Payout": frozenset({"unknown"})},
    ),
    Kind(
        name="difference_found", heading="Differences to explain", mail="Reconciliation found a difference",
        roles=EXPLAINERS, rows=lambda at: records.open_differences(), item=_difference,
        covers={"payouts.Difference": frozenset({"open"})},
    ),
    Kind(
        name="top_up_found", heading="Top-ups made at Stripe", mail="A top-up made at Stripe waits to be booked",
        roles=FINANCE, covers={"payouts.TopUp": frozenset({"found"})},
        rows=lambda at: TopUp.objects.filter(state=TopUp.State.FOUND).order_by("pk"),
        item=lambda topup: OpenItem(
            subject=f"top_up:{topup.public_id}", since=topup.requested_at,
            title=f"A top-up of {amounts.text_of_minor(topup.amount_minor, asset(topup.currency))} made at Stripe",
            words="Book it, so that the ledger agrees with Stripe.",
            url=reverse("payouts:book_top_up", args=[topup.public_id]),
        ),
    ),
    Kind(
        name="webhook_dead", heading="Webhooks that nothing here knew", mail="A webhook could not be applied",
        roles=EVERYBODY_IN_FINANCE, rows=lambda at: records.dead_webhooks().defer("payload"), item=_webhook,
        covers={"payouts.WebhookEvent": frozenset({"dead"})},
    ),
    Kind(
        name="mail_failed", heading="Failed mails", mail="A mail could not be sent", roles=FINANCE,
        rows=_failed_mails, item=_failed_mail,
    ),
    Kind(
        name="payee_without_account", heading="No payout account", mail="A payee with money has no payout account",
        roles=FINANCE, rows=_without_account, item=_payee,
    ),
    Kind(
        name="payee_stops_soon", heading="Payees that Stripe stops soon", mail="Stripe is about to stop a payee",
        roles=FINANCE, rows=_stopping,
    ),
    Kind(
        name="payouts_stalled", heading="Queues without progress", mail="A queue of payouts makes no progress",
        roles=("admin", "finance_maker", "finance_checker"), rows=_stalled,
        covers={
            "payouts.PayoutRun": frozenset({"calculating"}),
            "payouts.Payout": frozenset({"approved", "sending"}),
            "payouts.WebhookEvent": frozenset({"received", "retrying"}),
            "payouts.TopUp": frozenset({"requested"}),
        },
    ),
]  # fmt: skip
