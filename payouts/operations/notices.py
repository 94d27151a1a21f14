"""Telling people: notices that follow from the rows, and the mail of each notice, once.

A mail is written down as tried before it is handed over, and as sent afterwards. A process that dies in between leaves
it to be tried again. Its Message-ID is the same, so that a reader's mail program shows one.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from contributors.models import Contributor, Membership
from contributors.queries.people import manages
from ledger.models import Period
from ledger.money import asset
from ledger.proof import POTS
from ledger.queries import books
from ledger.queries.accounts import earned_by_contributor
from ledger.statements.build import EARNING_KINDS
from payouts.models import LeftOut, MutedNotice, Notice, PayoutRun, TaxProfile
from payouts.operations.details import of_rejections
from payouts.operations.notice_kinds import KINDS, OPTIONAL
from payouts.queries import attention, standing, words
from people.inbox import OpenItem
from people.models import AuditEvent, User
from people.operations import mail, webhooks
from people.presentation import amounts, codes, dates
from people.queries.programme import on_trial

log = structlog.get_logger(__name__)

TRIES_MAX = 8
FIRST_WAIT = timedelta(minutes=1)
LAST_WAIT = timedelta(hours=6)
# A notice that nobody got in time is found in the portal; a mail of last week's state only confuses.
MAILED_FOR = timedelta(days=3)
TAX_FORM_WARNED = timedelta(days=30)
# Days before a deadline of Stripe, a warning for each.
DEADLINE_WARNED = (30, 14, 3)
# Of each kind, so many items are told at once; the rest follows as these are decided.
MAILED_ITEMS = 200
LEFT_OUT_KINDS = {"not_onboarded": "onboarding_needed", "below_threshold": "carried_over"}
TOLD_TO_ADMINISTRATORS = ("change_roles", "invite_staff", "join_staff", "confirm_factors", "approve_factor_reset")
CARRIED_OVER = (LeftOut.Reason.BELOW_THRESHOLD, LeftOut.Reason.IMMATURE)


class UnableToChooseNotices(Exception):
    """The kind cannot be switched off, or the person does not manage the contributor."""

    status = 422
    problem = "notice-not-optional"


# --- what is to be told -------------------------------------------------------------------------------------------
def notice_what_is_due(*, at: datetime) -> int:
    """Write the notices that follow from the rows: open work of staff, payees left out, tax forms that end, deadlines
    of Stripe, sealed months.

    Repeatable: a notice is given once for its subject. Returns how many were new.
    """
    kinds = (
        _of_open_work,
        _of_left_out,
        _of_tax_forms,
        _of_deadlines,
        _of_sealed_months,
        of_rejections,
        _of_staff,
    )
    wanted = [notice for kind in kinds for notice in kind(at)]
    with transaction.atomic():
        Notice.objects.bulk_create(wanted, batch_size=1000, ignore_conflicts=True)
        _tell_statements(wanted, at)
    return len(wanted)


def _tell_statements(wanted: Iterable[Notice], at: datetime) -> None:
    """Write the webhooks of contributors with statements that became final."""
    final = [notice for notice in wanted if notice.kind == "month_sealed"]
    for month in sorted({notice.subject.split(":")[1] for notice in final}):
        of = {f"contributor:{n.contributor_id}": {"month": month} for n in final if n.subject.split(":")[1] == month}
        webhooks.emit_each(event="statement.ready", of=of, at=at)


def _untold(kind: str, subjects: Collection[str]) -> set[str]:
    known = Notice.objects.filter(kind=kind, subject__in=subjects).values_list("subject", flat=True)
    return set(subjects) - set(known)


def _of_open_work(at: datetime) -> list[Notice]:
    """Everything that waits for staff, by the inbox's own list; each item once."""
    found = []
    for group in attention.groups(at=at, limit=MAILED_ITEMS):
        items = {item.subject: item for item in group.items}
        found += [
            Notice(kind=group.kind.name, subject=subject, created_at=at, words=_words(items[subject]))
            for subject in sorted(_untold(group.kind.name, items))
        ]
    return found


def _words(item: OpenItem) -> str:
    """An item in one line: its title, its words, and its proposer."""
    said = f"{item.title.rstrip('.')}. {item.words}" if item.words else item.title
    return (f"{said} ({item.person})" if item.person else said)[:1000]


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
        amount = amounts.text_in_minor(row.amount, asset(row.currency))
        kind = LEFT_OUT_KINDS.get(row.reason, "carried_over")
        found.append(
            Notice(
                kind=kind,
                subject=subject,
                title=f"{amount} is carried over" if kind == "carried_over" else f"Tell us where to pay you {amount}",
                created_at=at,
                contributor_id=row.contributor_id,
                words=f"The run of {dates.utc_day(run.cut_off)} did not pay your {amount}. {row.words} {row.remedy}",
            )
        )
    return found


def _of_sealed_months(at: datetime) -> list[Notice]:
    """List the notices of sealed months. The root goes to everybody with accounts that the month moved: a keeper of the
    mail needs nobody's word for it."""
    found = []
    for month in books.sealed_periods().filter(sealed_at__gte=at - MAILED_FOR):
        subjects = {f"month:{month}:{pk}": pk for pk in books.contributors_moved_in(month)}
        if Notice.objects.filter(kind="month_sealed", subject__startswith=f"month:{month}:").count() == len(subjects):
            continue
        owed = [kind for kind, pot in POTS.items() if pot == "owed"]
        earned = earned_by_contributor(month.pk, owed, EARNING_KINDS)
        found += [
            _of_sealed_month(month, subject, subjects[subject], earned.get(subjects[subject], []), at)
            for subject in sorted(_untold("month_sealed", subjects))
        ]
    return found


def _of_sealed_month(
    month: Period, subject: str, contributor_id: int, earned: Sequence[tuple[str, int]], at: datetime
) -> Notice:
    name = dates.month(month.starts)
    sums = ", ".join(amounts.text_in_minor(units, asset(currency)) for currency, units in earned)
    return Notice(
        kind="month_sealed",
        subject=subject,
        title=f"Your {name} statement is final{f': {sums}' if sums else ''}",
        contributor_id=contributor_id,
        created_at=at,
        words=f"{f'You earned {sums} in {name}. ' if sums else ''}{name} is sealed, and your statement is final. "
        f"Keep this: the month's root is {month.root_hex}. With it your statement can be checked without us, for "
        "years.",
    )


def _of_staff(at: datetime) -> list[Notice]:
    """Tell all administrators of each change of roles, of each invitation and of each reset of a second factor."""
    lines = AuditEvent.objects.filter(action__in=TOLD_TO_ADMINISTRATORS, at__gte=at - MAILED_FOR)
    return [
        Notice(
            kind="staff_changed",
            subject=f"audit:{line.sequence}",
            created_at=at,
            words=f"{codes.spaced(line.action).capitalize()}: {line.subject}, by {line.actor or 'the operator'}, "
            f"{dates.moment(line.at)}. {json.dumps(line.after, ensure_ascii=False)}"[:1000],
        )
        for line in lines.select_related("actor").order_by("sequence")
    ]


def _of_tax_forms(at: datetime) -> list[Notice]:
    newer = TaxProfile.objects.filter(contributor=OuterRef("contributor"), pk__gt=OuterRef("pk"))
    rows = TaxProfile.objects.filter(
        ~Exists(newer), valid_until__gte=dates.today(at), valid_until__lte=dates.today(at + TAX_FORM_WARNED)
    )
    return [
        Notice(
            kind="tax_form_expiring",
            subject=f"tax_form:{row.pk}",
            title=f"Your tax form expires on {dates.day(row.valid_until)}",
            contributor_id=row.contributor_id,
            created_at=at,
            words=f"Your tax form ({row.get_form_display()}) is valid until {dates.day(row.valid_until)}. Send us a "
            "new one before that day, so that nothing is held back.",
        )
        for row in rows
        if row.valid_until is not None
    ]


def _of_deadlines(at: datetime) -> list[Notice]:
    """List the warnings to payees with a deadline at Stripe: one each when 30, 14 and 3 days are left at most."""
    found = {}
    for account, deadline in standing.with_deadlines(before=at + timedelta(days=max(DEADLINE_WARNED)), after=at):
        days = next(days for days in sorted(DEADLINE_WARNED) if deadline - at <= timedelta(days=days))
        asked = [*dict.fromkeys([*standing.asked_by_stripe(account), *standing.asked_in_future(account)])]
        subject = f"deadline:{account.provider_account_id}:{deadline:%Y%m%d}:{days}"
        found[subject] = Notice(
            kind="stripe_deadline",
            subject=subject,
            title=f"Answer Stripe by {dates.day(deadline)}, or your payouts stop",
            contributor_id=account.contributor_id,
            created_at=at,
            words=f"Stripe needs {words.listed(asked)}"[:600] + f" by {dates.moment(deadline)}. You are still paid. "
            "Without it Stripe stops payments to you after that day. Open your payout details and answer.",
        )
    return [found[subject] for subject in sorted(_untold("stripe_deadline", found))]


def _money(minor: int, currency: str) -> str:
    return amounts.text_of_minor(minor, asset(currency))


# --- mail ---------------------------------------------------------------------------------------------------------
def send_due_notices(*, at: datetime, limit: int = 200, seconds_max: float = 60.0) -> int:
    """Mail the notices that were not mailed yet, for at most `seconds_max` seconds. Returns how many mails were handed
    over. A mail server that fails is tried again, each time later, eight times in all."""
    stop_at = time.monotonic() + seconds_max
    connection: BaseEmailBackend = get_connection()
    if not Notice.objects.filter(_due_q(at)).exists():
        return 0
    # One connection for all of them where the server answers; where it does not, each mail says so by itself.
    with contextlib.suppress(Exception):
        connection.open()
    sent = _mail_open_work(connection, at)
    while sent < limit and time.monotonic() < stop_at:
        notice = _take(at)
        if notice is None:
            break
        sent += _mail(notice, connection, at)
    connection.close()
    return sent


def _due_q(at: datetime) -> Q:
    return Q(next_try_at__isnull=True, sent_at__isnull=True, given_up_at__isnull=True) | Q(
        next_try_at__lte=at, sent_at__isnull=True, given_up_at__isnull=True
    )


def _due(at: datetime) -> QuerySet[Notice]:
    """List the notices with a due mail, locked; those that another worker holds are skipped."""
    due = Notice.objects.filter(_due_q(at))
    return due.select_for_update(skip_locked=True, no_key=True).order_by("pk")


def _tried(notice: Notice, at: datetime) -> None:
    notice.tries += 1
    notice.next_try_at = at + min(FIRST_WAIT * 2 ** (notice.tries - 1), LAST_WAIT)
    notice.save(update_fields=["tries", "next_try_at"])


def _take(at: datetime) -> Notice | None:
    """One notice that is due, marked as tried before anything goes out."""
    with transaction.atomic(durable=True):
        due = _due(at).exclude(kind__in=attention.BY_NAME)
        # Notices that nobody can switch off do not wait behind the mails of one night to ten thousand people.
        notice = due.exclude(kind__in=OPTIONAL).first() or due.first()
        if notice is None:
            return None
        _tried(notice, at)
        return notice


def _mail(notice: Notice, connection: BaseEmailBackend, at: datetime) -> bool:
    addresses = _addresses(notice, at)
    if not addresses:
        Notice.objects.filter(pk=notice.pk).update(given_up_at=at)
        return False
    return _send([notice], lambda: _message(notice, addresses, connection), at)


def _send(notices: Sequence[Notice], message: Callable[[], EmailMessage], at: datetime) -> bool:
    """Send the one mail of these notices and write down the result."""
    try:
        message().send()
    except Exception as error:
        # No error of a mail server may stop the others, nor keep this one from being tried again.
        for notice in notices:
            gives_up = notice.tries >= TRIES_MAX
            Notice.objects.filter(pk=notice.pk).update(
                error=f"{type(error).__name__}: {error}"[:500], given_up_at=at if gives_up else None
            )
            log.warning("notice_not_mailed", notice=notice.pk, tries=notice.tries, error=str(error))
        return False
    Notice.objects.filter(pk__in=[notice.pk for notice in notices]).update(sent_at=at, error="")
    return True


# --- mail of open work --------------------------------------------------------------------------------------------
def _mail_open_work(connection: BaseEmailBackend, at: datetime) -> int:
    """Mail the due notices of open work: one mail for all items that the same people can act on.

    An item that was decided meanwhile is told to nobody. Returns the number of mails that went out.
    """
    with transaction.atomic(durable=True):
        notices = list(_due(at).filter(kind__in=attention.BY_NAME)[:MAILED_ITEMS])
        for notice in notices:
            _tried(notice, at)
    if not notices:
        return 0
    groups = {group.kind.name: group for group in attention.groups(at=at, limit=MAILED_ITEMS)}
    items = {(name, item.subject): item for name, group in groups.items() for item in group.items}
    alone = on_trial()
    mails: dict[tuple[str, ...], list[tuple[Notice, OpenItem | None]]] = {}
    for notice in notices:
        item = items.get((notice.kind, notice.subject))
        group = groups.get(notice.kind)
        is_open = item is not None or (group is not None and group.is_cut)
        addresses = _staff(KINDS[notice.kind].roles, item.barred if item and not alone else ()) if is_open else []
        if not addresses or notice.created_at < at - MAILED_FOR:
            Notice.objects.filter(pk=notice.pk).update(given_up_at=at)
            continue
        mails.setdefault(tuple(addresses), []).append((notice, item))
    sent = 0
    for people, told in mails.items():
        sent += _send([notice for notice, _ in told], partial(_digest, told, people, connection), at)
    return sent


def _staff(roles: Collection[str], barred: Collection[int]) -> list[str]:
    people = User.objects.filter(groups__name__in=roles, is_active=True).exclude(pk__in=barred)
    return sorted(set(people.values_list("email", flat=True)))


def _digest(
    told: Sequence[tuple[Notice, OpenItem | None]], people: Sequence[str], connection: BaseEmailBackend
) -> EmailMessage:
    first, page = told[0][0], "/console/attention/"
    parts = []
    for notice, item in told:
        head = f"{notice.title or KINDS[notice.kind].subject}\n" if len(told) > 1 else ""
        parts.append(f"{head}{notice.words}\nSee {settings.SITE_URL}{item.url if item else page}")
    if len(told) > 1:
        parts.append(f"All that waits: {settings.SITE_URL}{page}")
    subject = KINDS[first.kind].subject if len(told) == 1 else f"{len(told)} things need attention"
    # The same set of notices has the same Message-ID, so that a second try shows as one mail.
    numbers = "-".join(str(notice.pk) for notice, _ in told)
    name = f"{first.pk}" if len(told) == 1 else f"{first.pk}-{sha256(numbers.encode()).hexdigest()[:16]}"
    return EmailMessage(
        subject=mail.subject_line(subject),
        body="\n\n".join(parts) + "\n",
        to=[],
        bcc=list(people),
        connection=connection,
        headers=_headers(name, first),
    )


def _addresses(notice: Notice, at: datetime) -> list[str]:
    """Return the addresses of the mail; none for a kind without mail, one that was switched off, or one that is too
    old."""
    kind = KINDS.get(notice.kind)
    if kind is None or notice.created_at < at - MAILED_FOR:
        return []
    if kind.roles:
        return _staff(kind.roles, ())
    if notice.contributor_id is None:
        return []
    if MutedNotice.objects.filter(contributor_id=notice.contributor_id, kind=notice.kind).exists():
        return []
    members = Membership.objects.filter(
        contributor_id=notice.contributor_id,
        role__in=Membership.MANAGING,
        user__is_active=True,
    )
    return sorted(set(members.values_list("user__email", flat=True)))


def _message(notice: Notice, addresses: list[str], connection: BaseEmailBackend) -> EmailMessage:
    kind = KINDS[notice.kind]
    parts = [notice.words, f"See {settings.SITE_URL}{kind.page}"]
    if notice.contributor is not None:
        parts.insert(0, f"To {notice.contributor.display_name}:")
    if notice.kind in OPTIONAL:
        parts.append(f"You can switch mails of this kind off: {settings.SITE_URL}/portal/notices/")
    return EmailMessage(
        subject=mail.subject_line(notice.title or kind.subject),
        body="\n\n".join(parts) + "\n",
        to=addresses if notice.contributor_id else [],
        bcc=[] if notice.contributor_id else addresses,
        connection=connection,
        headers=_headers(str(notice.pk), notice),
    )


def _headers(name: str, first: Notice) -> dict[str, str]:
    host = urlsplit(settings.SITE_URL).hostname or "localhost"
    return {
        "Message-ID": f"<notice-{name}-{int(first.created_at.timestamp())}@{host}>",
        "Auto-Submitted": "auto-generated",
    }


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
