"""Disputed shares of split sheets: their earnings go on hold, and then to the payee that the decision names.

Accrual puts a contested part on an accrued account of its own (its contract dimension is `dispute:N`), which closes
leave alone while the dispute is open; from there it is held. So a restatement never meets an account that was emptied.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection, transaction

from contributors.models import SplitDispute
from contributors.operations.deciding import why_not_decide
from contributors.operations.splits import close_contest
from ledger import journal
from ledger.journal import AccountKey, post
from ledger.models import Account, EntryKind, Period
from ledger.operations.periods import dated
from ledger.operations.verbs import post_verb
from people.actor import logged
from people.models import User

DECIDERS = ("finance_checker", "compliance")


class UnableToSettleClaim(Exception):
    """The answer is missing, a month is being closed, or the person may not decide it."""

    status = 409
    problem = "claim-not-settleable"


def hold_contested(*, at: datetime) -> int:
    """Put on hold the earnings of open disputes' shares since the last time; returns the number of entries. By beat and
    after each close; done twice it holds nothing twice, because it moves the present balance.
    """
    numbers = list(SplitDispute.objects.filter(state=SplitDispute.State.OPEN).values_list("pk", flat=True))
    return sum(_hold(number, at) for number in numbers)


def _hold(dispute: int, at: datetime) -> int:
    held = 0
    accounts = Account.objects.filter(kind="contributor_accrued", contract=f"dispute:{dispute}")
    for account in accounts.select_related("asset").order_by("id"):
        with transaction.atomic():
            day = dated(at)
            journal.hold_still()
            account.balance.refresh_from_db()
            if account.balance.posted <= 0:
                continue
            code = account.asset.code
            post(
                kind=EntryKind.OPEN_DISPUTE,
                # Every line raises the version, so that each amount is moved under a key of its own.
                idem_key=f"open_dispute:split-{dispute}:{account.pk}:{account.balance.version}",
                effective=day,
                lines=[
                    (AccountKey("contributor_accrued", code, account.owner, account.contract), -account.balance.posted),
                    (AccountKey("on_hold", code, f"dispute:split-{dispute}"), account.balance.posted),
                ],
                reference=f"contested share, dispute {dispute}",
            )
            held += 1
    return held


@logged("contest", "state", "answer", before="open")
def decide_contest(*, dispute: SplitDispute, upheld: bool, answer: str, by: User, at: datetime) -> SplitDispute:
    """Give all earnings of a disputed share to its claimant (upheld) or to the payee of the split.

    Raises UnableToSettleClaim while a close is under way, UnableToContestShare for a dispute that is decided already.
    """
    if not answer.strip():
        raise UnableToSettleClaim("Describe the checks and findings: both co-authors read it.")
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Not while a sweep accrues to the account that is emptied here.
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger accrue'))")
        closed = close_contest(dispute=dispute, state="upheld" if upheld else "declined", answer=answer, by=by, at=at)
        if refusal := why_not_decide(by=by, roles=DECIDERS, at=at, about=[closed.claimant_id, closed.against_id]):
            raise UnableToSettleClaim(refusal)
        journal.hold_still()
        if Period.objects.filter(state=Period.State.CLOSING).exists():
            raise UnableToSettleClaim("A month is being closed; decide when its close is finished.")
        _hold(closed.pk, at)
        winner = closed.claimant_id if upheld else closed.against_id
        held = Account.objects.filter(kind="on_hold", owner=f"dispute:split-{closed.pk}", balance__posted__gt=0)
        for account in held.select_related("asset", "balance").order_by("id"):
            post_verb(
                verb="decide_dispute",
                reference=f"split-{closed.pk}",
                currency=account.asset.code,
                awards={winner: account.balance.posted},
                at=at,
            )
    return closed
