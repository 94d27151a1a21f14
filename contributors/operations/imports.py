"""Contributors from a CSV: checked line by line, imported whole or not at all, each invited to claim its account."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection, transaction

from contributors.models import Contributor, MemberInvitation, Membership
from contributors.operations.members import write_invitation
from contributors.operations.people import (
    UnableToRegisterContributor,
    checked_details,
    register_contributor,
    require_payable,
)
from people.actor import ADMIN, COMPLIANCE, NOBODY, Presence, audit, require_role, require_settled_role
from people.models import User
from people.operations.invitations import UnableToInvite, checked_email
from people.queries.programme import programme

COLUMNS = ("email", "kind", "legal_name", "display_name", "country")
OPTIONAL = ("display_name",)
BYTES_MAX = 2 * 1024 * 1024
ROWS_MAX = 5_000
ROLES = (COMPLIANCE, ADMIN)


class UnableToImport(Exception):
    """The file is no table of contributors, is too large, or has lines with errors."""

    status = 422
    problem = "import-refused"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the file, counted from 1 with the header. `error` names its fault; "" for a good one."""

    line: int
    email: str
    kind: str
    legal_name: str
    display_name: str
    country: str
    is_known: bool = False
    error: str = ""


@dataclass
class Preview:
    """The lines of a file: the new contributors, the known ones, those with errors."""

    rows: list[Row] = field(default_factory=list)

    @property
    def new(self) -> list[Row]:
        return [row for row in self.rows if not row.error and not row.is_known]

    @property
    def known(self) -> list[Row]:
        return [row for row in self.rows if row.is_known and not row.error]

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows if row.error]


def text_of(content: bytes) -> str:
    """The text of an uploaded file. Raises UnableToImport with the byte that is not UTF-8, or the size."""
    if len(content) > BYTES_MAX:
        raise UnableToImport(f"The file has {len(content):,} bytes; at most {BYTES_MAX:,} are read at once.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnableToImport(
            f"Byte {error.start + 1} is not UTF-8. Save the table as “CSV UTF-8”; a file of Excel is no CSV."
        ) from error
    if "\x00" in text:
        raise UnableToImport("There is a NUL character in the file, so it is no CSV.")
    return text


def preview(text: str) -> Preview:
    """Check every line. Raises UnableToImport for a file without the columns, without rows, or with too many."""
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise UnableToImport(f"Line {reader.line_num} is no CSV: {error}.") from error
    if not lines:
        raise UnableToImport(f"The file is empty. Its first line names the columns: {', '.join(COLUMNS)}.")
    header = [cell.strip().lower().replace(" ", "_") for cell in lines[0][1]]
    if lacking := [name for name in COLUMNS if name not in header and name not in OPTIONAL]:
        raise UnableToImport(f"Line 1 lacks the columns {', '.join(lacking)}; there are {', '.join(COLUMNS)}.")
    if unknown := [name for name in header if name not in COLUMNS]:
        raise UnableToImport(f"Line 1 names unknown columns: {', '.join(unknown)}; there are {', '.join(COLUMNS)}.")
    if doubled := sorted({name for name in header if header.count(name) > 1}):
        raise UnableToImport(f"Line 1 names columns twice: {', '.join(doubled)}.")
    if len(lines) == 1:
        raise UnableToImport("The file names columns and no contributor.")
    if len(lines) - 1 > ROWS_MAX:
        raise UnableToImport(f"The file has {len(lines) - 1:,} contributors; at most {ROWS_MAX:,} are read at once.")
    known = _known([cells for _, cells in lines[1:]], header)
    found = Preview()
    seen: dict[tuple[str, str], int] = {}
    for number, cells in lines[1:]:
        row = _checked(number, header, cells, known)
        key = (row.email, row.legal_name.casefold())
        if not row.error and key in seen:
            row = _with_error(row, f"the same contributor as in line {seen[key]}")
        seen.setdefault(key, number)
        found.rows.append(row)
    return found


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _checked(number: int, header: list[str], cells: list[str], known: set[tuple[str, str]]) -> Row:
    if len(cells) != len(header):
        return Row(number, "", "", "", "", "", error=f"{len(cells)} cells, and the header has {len(header)}")
    given = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    row = Row(
        number,
        given["email"].lower(),
        given["kind"].lower(),
        given["legal_name"],
        given.get("display_name", ""),
        given["country"].upper(),
        is_known=(given["email"].lower(), given["legal_name"].casefold()) in known,
    )
    try:
        checked_email(row.email)
        _, _, country = checked_details(
            kind=row.kind, legal_name=row.legal_name, display_name=row.display_name, country=row.country
        )
        require_payable(country)
    except (UnableToInvite, UnableToRegisterContributor) as error:
        return _with_error(row, str(error).rstrip("."))
    return row


def _with_error(row: Row, error: str) -> Row:
    return Row(row.line, row.email, row.kind, row.legal_name, row.display_name, row.country, error=error)


def _known(rows: list[list[str]], header: list[str]) -> set[tuple[str, str]]:
    """Address and legal name of the contributors of these addresses that are invited or registered already."""
    place = header.index("email")
    emails = {cells[place].strip().lower() for cells in rows if len(cells) > place}
    invited = MemberInvitation.objects.filter(
        invitation__email__in=emails, role=Membership.Role.OWNER, invitation__revoked_at=None
    )
    owned = Membership.objects.filter(user__email__in=emails)
    pairs = [*invited.values_list("invitation__email", "contributor__legal_name")]
    pairs += owned.values_list("user__email", "contributor__legal_name")
    return {(email, name.casefold()) for email, name in pairs}


@transaction.atomic
def import_contributors(*, text: str, at: datetime, by: User | None = None, seen: Presence = NOBODY) -> Preview:
    """Register the new contributors of a file and invite each to claim its account. The known ones stay as they are.

    Sent twice, a file does nothing more. Without `by` the operator of the machine imports. Raises UnableToImport where
    any line is wrong: then nothing is stored.
    """
    if by is not None:
        require_role(by, *ROLES)
        require_settled_role(by, at)
    with connection.cursor() as cursor:
        # Two imports of one file at the same time register nobody twice.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('contributors import'))")
    found = preview(text)
    if wrong := found.wrong:
        told = "; ".join(f"line {row.line}: {row.error}" for row in wrong[:10])
        raise UnableToImport(f"{len(wrong)} lines are wrong, so nothing was imported: {told}.")
    shown = programme().shown_name
    for row in found.new:
        contributor = register_contributor(
            user=None,
            kind=row.kind,
            legal_name=row.legal_name,
            display_name=row.display_name,
            country=row.country,
            at=at,
        )
        invite_to_claim(contributor=contributor, email=row.email, by=by, at=at, shown=shown)
    if found.new:
        after = {"contributors": len(found.new), "known": len(found.known)}
        audit(by=by, action="import_contributors", subject="import:contributors", at=at, seen=seen, after=after)
    return found


def invite_to_claim(
    *, contributor: Contributor, email: str, by: User | None, at: datetime, shown: str
) -> MemberInvitation:
    """Invite the owner-to-be of a contributor that has no member yet; the worker mails it. `shown`: the programme."""
    return write_invitation(
        contributor=contributor,
        email=email,
        role=Membership.Role.OWNER,
        by=by,
        at=at,
        subject=f"Claim your account at {shown}",
        words=f"{shown} pays royalties for works that its models learned from. It registered {contributor} "
        f"({contributor.legal_name}, {contributor.country}) as one of their authors.\n"
        "Claim the account to see your works, decide on their uses, and say where you want to be paid.",
    )
