"""Telling people: notices that follow from the rows, and the mail of each notice, once.

A mail is written down as tried before it is handed over, and as sent afterwards. A process that dies in between leaves
it to be tried again. Its Message-ID is the same, so that a reader's mail program shows one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from contributors.models import Contributor, Membership
from contributors.queries.links import suspicions
from contributors.queries.people import manages
from ledger.money import asset
from ledger.queries import books
from payouts.models import Difference, LeftOut, MutedNotice, Notice, PayoutRun, PolicyProposal, TaxProfile
from payouts.operations.notice_kinds import KINDS, OPTIONAL
from people.models import User
from people.presentation import amounts, dates

log = structlog.get_logger(__name__)

TRIES_MAX = 8
FIRST_WAIT = timedelta(minutes=1)
LAST_WAIT = timedelta(hours=6)
# A notice that nobody got in time is found in the portal; a mail of last week's state only confuses.
MAILED_FOR = timedelta(days=3)
TAX_FORM_WARNED = timedelta(days=30)
LEFT_OUT_KINDS = {"not_onboarded": "onboarding_needed", "below_threshold": "carried_over"}
CARRIED_OVER = (LeftOut.Reason.BELOW_THRESHOLD, LeftOut.Reason.IMMATURE)


class UnableToChooseNotices(Exception):
    """The kind cannot be switched off, or the person does not manage the contributor."""

    status = 422
    problem = "notice-not-optional"


# --- what is to be told -------------------------------------------------------------------------------------------
def notice_what_is_due(*, at: datetime) -> int:
    """Write the notices that follow from the rows: a run that waits, a difference, a skipped contributor, a form that
    ends, a sealed month.

    Repeatable: a notice is given once for its subject. Returns how many were new.
    """
    wanted = [
        *_of_runs(at), *_of_differences(at), *_of_left_out(at), *_of_tax_forms(at), *_of_proposals(at),
        *_of_suspicions(at), *_of_sealed_months(at),
    ]  # fmt: skip
    Notice.objects.bulk_create(wanted, batch_size=1000, ignore_conflicts=True)
    return len(wanted)


def _untold(kind: str, subjects: Collection[str]) -> set[str]:
    known = Notice.objects.filter(kind=kind, subject__in=subjects).values_list("subject", flat=True)
    return set(subjects) - set(known)


def _of_runs(at: datetime) -> list[Notice]:
    runs = PayoutRun.objects.filter(state=PayoutRun.State.IN_REVIEW).select_related("created_by")
    named = {f"run:{run.public_id}:{run.submitted_at:%Y%m%d%H%M%S}": run for run in runs}
    return [
        Notice(
            kind="run_awaiting_approval", subject=subject, created_at=at,
            words=f"{named[subject]} pays {_money(named[subject].total_minor, named[subject].currency)} to "
            f"{named[subject].n_payouts} people and waits for somebody other than {named[subject].created_by} to "
            "approve it.",
        )
        for subject in sorted(_untold("run_awaiting_approval", named))
    ]  # fmt: skip


def _of_differences(at: datetime) -> list[Notice]:
    rows = Difference.objects.filter(state=Difference.State.OPEN, found_at__gte=at - MAILED_FOR)
    named = {f"difference:{row.public_id}": row for row in rows[:500]}
    return [
        Notice(
            kind="difference_found", subject=subject, created_at=at,
            words=f"{named[subject].words} ({named[subject].currency}, {named[subject].subject})"[:1000],
        )
        for subject in sorted(_untold("difference_found", named))
    ]  # fmt: skip


def _of_proposals(at: datetime) -> list[Notice]:
    rows = PolicyProposal.objects.filter(state=PolicyProposal.State.OPEN).select_related("proposed_by")
    named = {f"proposal:{row.public_id}": row for row in rows}
    return [
        Notice(
            kind="policy_proposed", subject=subject, created_at=at,
            words=f"{named[subject].proposed_by} proposes a {named[subject].currency} policy: {named[subject].reason}",
        )
        for subject in sorted(_untold("policy_proposed", named))
    ]  # fmt: skip


def _of_suspicions(at: datetime) -> list[Notice]:
    # An account more is another subject.
    named = {
        f"suspicion:{one.contributors[0].pk}:{len(one.contributors)}:{one.noted_at:%Y%m%d%H%M%S%f}": one
        for one in suspicions(at)
    }
    return [
        Notice(
            kind="link_suspected", subject=subject, created_at=at,
            words=f"{len(named[subject].contributors)} accounts have the same {named[subject].kind} "
            f"({named[subject].shown}). Are they one person's?",
        )
        for subject in sorted(_untold("link_suspected", named))
    ]  # fmt: skip


def _of_left_out(at: datetime) -> list[Notice]:
    """List the notices to skipped contributors: once a run has begun, its list of them is final."""
    found = []
    for run in PayoutRun.objects.filter(started_at__gte=at - MAILED_FOR):
        rows = run.left_out.filter(reason__in=(*CARRIED_OVER, LeftOut.Reason.NOT_ONBOARDED), amount__gt=0)
        told = Notice.objects.filter(kind__in=LEFT_OUT_KINDS.values(), subject__startswith=f"run:{run.public_id}:")
        if told.count() < rows.count():
            found += _of_rows(run, rows.order_by("pk"), set(told.values_list("subject", flat=True)), at)
    return found


def _of_rows(run: PayoutRun, rows: Iterable[LeftOut], told: set[str], at: datetime) -> list[Notice]:
    found = []
    for row in rows:
        subject = f"run:{run.public_id}:{row.contributor_id}"
        if subject in told:
            continue
        amount = amounts.text(row.amount, asset(row.currency))
        found.append(
            Notice(
                kind=LEFT_OUT_KINDS.get(row.reason, "carried_over"), subject=subject, created_at=at,
                contributor_id=row.contributor_id,
                words=f"The run of {dates.day(run.cut_off)} did not pay your {amount}. {row.words} {row.remedy}",
            )
        )  # fmt: skip
    return found


def _of_sealed_months(at: datetime) -> list[Notice]:
    """List the notices of sealed months. The root goes to everybody with accounts that the month moved: a keeper of the
    mail needs nobody's word for it."""
    found = []
    for month in books.sealed_periods().filter(sealed_at__gte=at - MAILED_FOR):
        subjects = {f"month:{month}:{pk}": pk for pk in books.contributors_moved_in(month)}
        if Notice.objects.filter(kind="month_sealed", subject__startswith=f"month:{month}:").count() == len(subjects):
            continue
        found += [
            Notice(
                kind="month_sealed", subject=subject, contributor_id=subjects[subject], created_at=at,
                words=f"{dates.month(month.starts)} is sealed, and your statement of it is final. Keep this: the "
                f"month's root is {month.root_hex}. With it your statement can be checked without us, for years.",
            )
            for subject in sorted(_untold("month_sealed", subjects))
        ]  # fmt: skip
    return found


def _of_tax_forms(at: datetime) -> list[Notice]:
    newer = TaxProfile.objects.filter(contributor=OuterRef("contributor"), pk__gt=OuterRef("pk"))
    rows = TaxProfile.objects.filter(
        ~Exists(newer), valid_until__gte=at.date(), valid_until__lte=(at + TAX_FORM_WARNED).date()
    )
    return [
        Notice(
            kind="tax_form_expiring", subject=f"tax_form:{row.pk}", contributor_id=row.contributor_id, created_at=at,
            words=f"Your tax form ({row.get_form_display()}) is valid until {dates.day(row.valid_until)}. Send us a "
            "new one before that day, so that nothing is held back.",
        )
        for row in rows
        if row.valid_until is not None
    ]  # fmt: skip


def _money(minor: int, currency: str) -> str:
    return amounts.text_of_minor(minor, asset(currency))


# --- mail ---------------------------------------------------------------------------------------------------------
def send_due_notices(*, at: datetime, limit: int = 200, seconds_max: float = 60.0) -> int:
    """Mail the notices that were not mailed yet, for at most `seconds_max` seconds. Returns how many mails were handed
    over. A mail server that fails is tried again, each time later, eight times in all."""
    sent, stop_at = 0, time.monotonic() + seconds_max
    connection: BaseEmailBackend = get_connection()
    # One connection for all of them where the server answers; where it does not, each mail says so by itself.
    with contextlib.suppress(Exception):
        connection.open()
    while sent < limit and time.monotonic() < stop_at:
        notice = _take(at)
        if notice is None:
            break
        sent += _mail(notice, connection, at)
    connection.close()
    return sent


def _take(at: datetime) -> Notice | None:
    """One notice that is due, marked as tried before anything goes out."""
    with transaction.atomic(durable=True):
        due = Notice.objects.filter(
            Q(next_try_at__isnull=True) | Q(next_try_at__lte=at), sent_at__isnull=True, given_up_at__isnull=True
        )
        due = due.select_for_update(skip_locked=True, no_key=True).order_by("pk")
        # Notices that nobody can switch off do not wait behind the mails of one night to ten thousand people.
        notice = due.exclude(kind__in=OPTIONAL).first() or due.first()
        if notice is None:
            return None
        notice.tries += 1
        notice.next_try_at = at + min(FIRST_WAIT * 2 ** (notice.tries - 1), LAST_WAIT)
        notice.save(update_fields=["tries", "next_try_at"])
        return notice


def _mail(notice: Notice, connection: BaseEmailBackend, at: datetime) -> bool:
    addresses = _addresses(notice, at)
    if not addresses:
        Notice.objects.filter(pk=notice.pk).update(given_up_at=at)
        return False
    try:
        _message(notice, addresses, connection).send()
    except Exception as error:
        # No error of a mail server may stop the others, nor keep this one from being tried again.
        gives_up = notice.tries >= TRIES_MAX
        Notice.objects.filter(pk=notice.pk).update(
            error=f"{type(error).__name__}: {error}"[:500], given_up_at=at if gives_up else None
        )
        log.warning("notice_not_mailed", notice=notice.pk, tries=notice.tries, error=str(error))
        return False
    Notice.objects.filter(pk=notice.pk).update(sent_at=at, error="")
    return True


def _addresses(notice: Notice, at: datetime) -> list[str]:
    """Return the addresses of the mail; none for a kind without mail, one that was switched off, or one that is too
    old."""
    kind = KINDS.get(notice.kind)
    if kind is None or notice.created_at < at - MAILED_FOR:
        return []
    if kind.roles:
        people = User.objects.filter(groups__name__in=kind.roles, is_active=True)
        return sorted(set(people.values_list("email", flat=True)))
    if notice.contributor_id is None:
        return []
    if MutedNotice.objects.filter(contributor_id=notice.contributor_id, kind=notice.kind).exists():
        return []
    members = Membership.objects.filter(
        contributor_id=notice.contributor_id, role__in=Membership.MANAGING,
        user__is_active=True,
    )  # fmt: skip
    return sorted(set(members.values_list("user__email", flat=True)))


def _message(notice: Notice, addresses: list[str], connection: BaseEmailBackend) -> EmailMessage:
    kind = KINDS[notice.kind]
    parts = [notice.words, f"See {settings.SITE_URL}{kind.page}"]
    if notice.contributor is not None:
        parts.insert(0, f"To {notice.contributor.display_name}:")
    if notice.kind in OPTIONAL:
        parts.append(f"You can switch mails of this kind off: {settings.SITE_URL}/portal/notices/")
    host = urlsplit(settings.SITE_URL).hostname or "localhost"
    return EmailMessage(
        subject=f"{settings.ACCOUNT_EMAIL_SUBJECT_PREFIX}{kind.subject}",
        body="\n\n".join(parts) + "\n",
        to=addresses if notice.contributor_id else [],
        bcc=[] if notice.contributor_id else addresses,
        connection=connection,
        headers={"Message-ID": f"<notice-{notice.pk}-{int(notice.created_at.timestamp())}@{host}>",
                 "Auto-Submitted": "auto-generated"},
    )  # fmt: skip


# --- choice -------------------------------------------------------------------------------------------------------
@transaction.atomic
def choose_notices(*, contributor: Contributor, muted: Collection[str], by: User) -> None:
    """Store the kinds that a contributor does not want as mail. A notice about stopped money is always mailed.

    Raises UnableToChooseNotices unless `by` manages the contributor, and for a kind that cannot be switched off.
    """
    if not manages(by, contributor):
        raise UnableToChooseNotices(f"{by} does not manage {contributor}.")
    if fixed := sorted(set(muted) - set(OPTIONAL)):
        raise UnableToChooseNotices(f"These mails cannot be switched off: {', '.join(fixed)}.")
    Contributor.objects.select_for_update(no_key=True).get(pk=contributor.pk)
    MutedNotice.objects.filter(contributor=contributor).exclude(kind__in=muted).delete()
    MutedNotice.objects.bulk_create(
        [MutedNotice(contributor=contributor, kind=kind) for kind in sorted(muted)], ignore_conflicts=True
    )
