"""Contributors from a CSV: every line is checked, nothing is imported twice, each claims the account."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.core import mail as outbox
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone

from contributors.models import Contributor, Split
from contributors.operations import imports
from contributors.operations.imports import UnableToImport, import_contributors, preview, text_of
from people.actor import UnableToAct
from people.models import AuditEvent
from tests.worlds import people

pytestmark = pytest.mark.django_db
GOOD = """email,kind,legal_name,display_name,country
cara@example.org,person,Cara Müller,Cara Lyric,DE
label@example.org,organisation,"Label, Ltd",,gb
"""


def test_a_file_is_imported_once_however_often_it_is_sent() -> None:
    at = timezone.now()
    assert len(import_contributors(text=GOOD, at=at).new) == 2
    again = import_contributors(text=GOOD, at=at)
    assert (len(again.new), len(again.known)) == (0, 2)
    cara = Contributor.objects.get(legal_name="Cara Müller")
    assert (cara.display_name, cara.country, cara.kind, cara.memberships.count()) == ("Cara Lyric", "DE", "person", 0)
    assert Split.objects.get(contributor=cara).ppb == 1_000_000_000
    assert AuditEvent.objects.filter(action="import_contributors").count() == 1


def test_a_spreadsheet_s_semicolons_and_byte_order_mark_are_read() -> None:
    text = text_of(b"\xef\xbb\xbf" + GOOD.replace('"Label, Ltd"', "Label").replace(",", ";").encode())
    assert [row.legal_name for row in preview(text).new] == ["Cara Müller", "Label"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cara,person,Cara,,DE", "line 2: “cara” is not an e-mail address"),
        ("c@example.org,robot,Cara,,DE", "not “robot”"),
        ("c@example.org,person,,,DE", "Give the legal name"),
        ("c@example.org,person,Cara,,XX", "not an ISO 3166 code"),
        ("c@example.org,person,Cara", "line 2: 3 cells, and the header has 5"),
        ("c@example.org,person,Cara,,DE\nc@example.org,person,cara,,DE", "same contributor as in line 2"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_imported(line: str, words: str) -> None:
    text = f"email,kind,legal_name,display_name,country\n{line}\nok@example.org,person,Ok,,DE\n"
    with pytest.raises(UnableToImport, match=words):
        import_contributors(text=text, at=timezone.now())
    assert not Contributor.objects.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty"),
        (b"email,kind\n", "lacks the columns legal_name, country"),
        (b"email,kind,legal_name,country,iban\nx", "unknown columns: iban"),
        (b"email,kind,legal_name,country\n", "names columns and no contributor"),
        (b"email,kind,legal_name,country\nc@x.org,person,M\xfcller,DE\n", "is not UTF-8"),
        (b"email,kind\x00", "NUL"),
        (b'email,kind,legal_name,country\n"open', "is no CSV"),
        (b"x" * (imports.BYTES_MAX + 1), "at most"),
    ],
)
def test_a_file_that_is_no_table_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(UnableToImport, match=words):
        preview(text_of(content))


def test_the_console_shows_a_preview_first_and_then_imports(client: Client) -> None:
    people.user("cora@example.org", timezone.now(), ("compliance",), second_factor=True)
    people.log_in(client, "cora@example.org", code=people.totp_code)
    bad = GOOD.replace("gb", "XX")
    page = client.post("/console/contributors/import/", {"file": SimpleUploadedFile("c.csv", bad.encode())})
    assert "Mend these lines" in page.content.decode()
    page = client.post("/console/contributors/import/", {"file": SimpleUploadedFile("c.csv", GOOD.encode())})
    assert "2 new, 0 known, 0 wrong" in page.content.decode()
    assert not Contributor.objects.exists()
    done = client.post("/console/contributors/import/", {"text": page.context["text"]}, follow=True)
    assert "2 contributors are registered and invited" in done.content.decode()
    assert "2 not claimed yet" in done.content.decode()
    empty = client.post("/console/contributors/import/", {"file": SimpleUploadedFile("c.csv", b"x")})
    assert empty.status_code == 422


def test_an_import_takes_compliance_or_an_administrator() -> None:
    maker = people.user("mara@example.org", timezone.now(), ("finance_maker",))
    with pytest.raises(UnableToAct):
        import_contributors(text=GOOD, by=maker, at=timezone.now())


def test_the_command_imports_and_the_contributor_claims_the_account(tmp_path: Path, client: Client) -> None:
    file, out = tmp_path / "contributors.csv", io.StringIO()
    file.write_text(GOOD)
    call_command("import_contributors", str(file), "--check", stdout=out)
    assert "2 are new" in out.getvalue()
    call_command("import_contributors", str(file), stdout=out)
    assert "2 contributors are registered, 0 were known. 2 mails were handed over." in out.getvalue()
    body = next(str(one.body) for one in outbox.outbox if one.to == ["cara@example.org"])
    path = "/claim/" + body.split("/claim/")[1].split("\n")[0]
    assert "Claim Cara Lyric" in client.get(path).content.decode()
    right = {"name": "Cara", "password": people.PASSWORD, "password_again": people.PASSWORD}
    assert client.post(path, right)["Location"] == "/portal/works/"
    assert Contributor.objects.get(legal_name="Cara Müller").memberships.get().role == "owner"
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("import_contributors", str(tmp_path / "none.csv"))
    file.write_text("x")
    with pytest.raises(CommandError, match="lacks the columns"):
        call_command("import_contributors", str(file))
