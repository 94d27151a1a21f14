"""The contributor's pages: their content, their changes, and that nobody sees another contributor's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from contributors.models import Consent, Contributor, Dataset, Work
from contributors.operations.consents import grant_consent
from contributors.operations.people import add_member
from contributors.operations.works import NewWork, register_works
from people.models import User
from tests.worlds import people
from tests.worlds.sounds import tone

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.people.console.guarded_urls")]

CHANGING = (
    "/portal/works/upload/",
    "/portal/datasets/new/",
    "/portal/consent/grant/",
    "/portal/consent/withdraw/",
)


@pytest.fixture
def as_ada(client: Client, ada: Contributor) -> Client:
    client.force_login(User.objects.get(email="ada@example.org"))
    return client


@pytest.fixture
def essay(essays: Dataset, at: datetime) -> Work:
    return register_works(dataset=essays, works=[people.text_work(1, "On rivers")], at=at)[0]


def shown(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, (address, response.status_code)
    return re.sub(r"\s+", " ", response.content.decode())


def files(*contents: tuple[str, bytes]) -> Sequence[SimpleUploadedFile]:
    return [SimpleUploadedFile(name, content) for name, content in contents]


def test_every_page_opens_for_a_contributor_with_nothing(as_ada: Client) -> None:
    assert "No works yet" in shown(as_ada, "/portal/works/")
    assert "Nothing is allowed yet" in shown(as_ada, "/portal/consent/")
    assert "Nothing said yet" in shown(as_ada, "/portal/consent/history/")
    assert "No datasets yet" in shown(as_ada, "/portal/datasets/")
    assert as_ada.get("/portal/works/upload/").headers["Location"] == "/portal/datasets/new/"
    for page in ("/portal/datasets/new/", "/portal/consent/grant/", "/portal/consent/withdraw/", "/portal/register/"):
        shown(as_ada, page)


def test_several_files_become_works_named_after_them(as_ada: Client, essays: Dataset) -> None:
    sent = {
        "dataset": str(essays.public_id),
        "uploads": files(
            ("my_first essay.txt", people.text(1).encode()), ("discs.png", people.picture(1)), ("tone.wav", tone(440))
        ),
        "published_on": "2024-05-01",
    }
    assert as_ada.post("/portal/works/upload/", sent).headers["Location"] == "/portal/works/"
    works = {work.title: work.modality for work in Work.objects.all()}
    assert works == {"my first essay": "text", "discs": "image", "tone": "audio"}
    page = shown(as_ada, "/portal/works/")
    assert "3 works registered." in page
    recording = Work.objects.get(modality="audio")
    assert "<audio controls" in as_ada.get(f"/portal/works/{recording.public_id}/").content.decode()
    assert as_ada.get(f"/portal/works/{recording.public_id}/content")["Content-Type"] == "audio/wav"
    assert "my first essay" in page


def test_a_single_file_may_be_given_a_title(as_ada: Client, essays: Dataset) -> None:
    sent = {"dataset": str(essays.public_id), "uploads": files(("a.txt", b"words")), "title": "Named"}
    as_ada.post("/portal/works/upload/", sent)
    assert Work.objects.get().title == "Named"


def test_an_upload_with_a_bad_file_names_it_and_registers_nothing(as_ada: Client, essays: Dataset) -> None:
    sent = {
        "dataset": str(essays.public_id),
        "uploads": files(("good.txt", b"fine words"), ("bad.txt", b"\xff\xfe\x00"), ("big.txt", b"x" * 5_242_881)),
    }
    response = as_ada.post("/portal/works/upload/", sent)
    page = response.content.decode()
    assert response.status_code == 422
    assert "2 files cannot be registered" in page
    assert "not UTF-8" in page
    assert "5,242,881 bytes" in page
    assert not Work.objects.exists()


def test_a_file_of_another_kind_is_refused_by_its_name_and_kind(as_ada: Client, essays: Dataset) -> None:
    sent = {
        "dataset": str(essays.public_id),
        "uploads": files(
            ("tone.aiff", b"FORM\x00\x00\x00\xffAIFF"),
            ("drawn.txt", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'),
            ("letter.txt", b"{\\rtf1\\ansi Dear reader}"),
            ("paper.pdf", b"%PDF-1.7\x00\xff"),
            ("good.txt", "Żółć".encode() * 4000),
        ),
    }
    response = as_ada.post("/portal/works/upload/", sent)
    page = response.content.decode()
    assert response.status_code == 422
    assert "tone.aiff is audio in another format." in page
    assert "drawn.txt is an SVG drawing." in page
    assert "letter.txt is a Rich Text document." in page
    assert "paper.pdf is a PDF. We accept text, PNG, JPEG, WebP and GIF, recordings (WAV," in page
    assert "good.txt" not in page
    assert not Work.objects.exists()


def test_a_permission_form_opens_with_nothing_chosen(as_ada: Client, essays: Dataset) -> None:
    page = shown(as_ada, "/portal/consent/grant/")
    assert " checked" not in page
    assert re.search(r'<option value="" selected>\s*Choose which works', page)
    assert as_ada.post("/portal/consent/grant/", {"target": "", "scopes": ["search"]}).status_code == 422
    assert "Choose which works" not in shown(as_ada, f"/portal/consent/grant/?target={essays.public_id}")


def test_a_message_is_an_item_of_a_list_inside_the_status(as_ada: Client, essays: Dataset) -> None:
    as_ada.post("/portal/works/upload/", {"dataset": str(essays.public_id), "uploads": files(("a.txt", b"words"))})
    page = shown(as_ada, "/portal/works/")
    assert re.search(r'<div role="status"> <ul class="messages"> <li class="alert alert-good">', page)
    assert '<ul class="messages" role' not in page


def test_no_cache_keeps_a_page_of_a_person_who_is_logged_in(as_ada: Client) -> None:
    assert as_ada.get("/portal/works/").headers["Cache-Control"] == "private, no-store"
    assert "Cache-Control" not in Client(headers={"Host": "127.0.0.1"}).get("/portal/works/").headers


def test_an_upload_without_or_with_too_many_files_is_refused(as_ada: Client, essays: Dataset) -> None:
    many = files(*((f"{i}.txt", b"x") for i in range(101)))
    for uploads, said in (([], "required"), (many, "At most 100 files"), (files(("e.txt", b"")), "empty")):
        response = as_ada.post("/portal/works/upload/", {"dataset": str(essays.public_id), "uploads": uploads})
        assert response.status_code == 422
        assert said in response.content.decode()


def test_nobody_uploads_into_anothers_dataset(as_ada: Client, essays: Dataset, reprints: Dataset) -> None:
    sent = {"dataset": str(reprints.public_id), "uploads": files(("a.txt", b"words"))}
    assert as_ada.post("/portal/works/upload/", sent).status_code == 422
    assert not Work.objects.exists()


def test_works_are_searched_filtered_and_paged(as_ada: Client, ada: Contributor, essays: Dataset, at: datetime) -> None:
    register_works(dataset=essays, works=[people.text_work(i, f"Essay number {i:02}") for i in range(55)], at=at)
    poems = people.dataset(ada, at, "Poems")
    register_works(dataset=poems, works=[people.text_work(99, "Ode <to> 100 %")], at=at)
    page = shown(as_ada, "/portal/works/")
    assert "1 to 50 of 56, page 1 of 2" in page
    assert "?page=2" in page
    assert "Essay number 00" in shown(as_ada, "/portal/works/?page=2")
    found = shown(as_ada, "/portal/works/?q=100+%25")
    assert "Ode &lt;to&gt; 100 %" in found
    assert "Essay number" not in found
    assert "Essay number" not in shown(as_ada, f"/portal/works/?dataset={poems.public_id}")
    assert "Nothing found" in shown(as_ada, "/portal/works/?q=nowhere")


def test_the_page_of_a_work_shows_its_record_and_its_consent(
    as_ada: Client, ada: Contributor, essay: Work, at: datetime
) -> None:
    page = shown(as_ada, f"/portal/works/{essay.public_id}/")
    assert people.text(1)[:40] in page
    assert bytes(essay.sha256).hex() in page
    assert "100.00 %" in page
    assert page.count("Not allowed") == len(Consent.Scope)
    grant_consent(
        contributor=ada,
        scope="train_generative",
        valid_from=at - timedelta(days=1),
        by=None,
        source="test",
        at=at - timedelta(days=1),
    )
    assert shown(as_ada, f"/portal/works/{essay.public_id}/").count("Not allowed") == len(Consent.Scope) - 1


def test_a_copy_shows_who_was_first_but_not_who_a_private_contributor_is(
    as_ada: Client, ben: Contributor, essay: Work, reprints: Dataset, at: datetime
) -> None:
    register_works(dataset=reprints, works=[NewWork("Secret title", "text", people.text(1).encode())], at=at)
    page = shown(as_ada, f"/portal/works/{essay.public_id}/")
    assert "Identical" in page
    assert "after yours" in page
    assert "Secret title" not in page
    assert "Ben" not in page
    Contributor.objects.filter(pk=ben.pk).update(public_profile=True)
    page = shown(as_ada, f"/portal/works/{essay.public_id}/")
    assert "Secret title" in page
    assert "Ben" in page


def test_a_damaged_content_is_said_to_be_so(as_ada: Client, essay: Work, data_directory: Path) -> None:
    (data_directory / essay.content_path).write_text("forged")
    assert "The stored content is damaged" in shown(as_ada, f"/portal/works/{essay.public_id}/")


def test_the_content_is_served_as_what_it_is(as_ada: Client, essays: Dataset, essay: Work, at: datetime) -> None:
    response = as_ada.get(f"/portal/works/{essay.public_id}/content")
    assert response.content.decode() == people.text(1)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    (picture,) = register_works(dataset=essays, works=[NewWork("P", "image", people.picture(1))], at=at)
    assert as_ada.get(f"/portal/works/{picture.public_id}/content").headers["Content-Type"] == "image/png"
    # The list and the page show it, drawn anew: nothing but its pixels is left of the upload.
    address = f"/portal/works/{picture.public_id}/thumbnail"
    assert address in as_ada.get("/portal/works/").content.decode()
    assert address in as_ada.get(f"/portal/works/{picture.public_id}/").content.decode()
    drawn = as_ada.get(address)
    assert (drawn.status_code, drawn.headers["Content-Type"]) == (200, "image/webp")
    assert "sandbox" in drawn.headers["Content-Security-Policy"]
    assert drawn.content == as_ada.get(address).content
    assert as_ada.get(f"/portal/works/{essay.public_id}/thumbnail").status_code == 404


def test_one_contributor_sees_nothing_of_another(as_ada: Client, reprints: Dataset, at: datetime) -> None:
    (work,) = register_works(dataset=reprints, works=[people.text_work(5, "Bens secret")], at=at)
    for page in (
        f"/portal/works/{work.public_id}/",
        f"/portal/works/{work.public_id}/content",
        f"/portal/works/{work.public_id}/thumbnail",
    ):
        assert as_ada.get(page).status_code == 404
    for page in (
        "/portal/works/",
        f"/portal/works/?dataset={reprints.public_id}",
        "/portal/consent/",
        "/portal/datasets/",
    ):
        text = shown(as_ada, page)
        assert "Bens secret" not in text
        assert "Reprints" not in text


def test_one_contributor_says_nothing_for_another(as_ada: Client, reprints: Dataset, at: datetime) -> None:
    (work,) = register_works(dataset=reprints, works=[people.text_work(5)], at=at)
    for target in (str(reprints.public_id), f"work:{work.public_id}", "work:nonsense", "nonsense", ""):
        sent = {"target": target, "scopes": ["train_generative"], "step": "confirm"}
        assert as_ada.post("/portal/consent/grant/", sent).status_code == 422
        assert as_ada.post("/portal/consent/withdraw/", sent).status_code == 422
    assert not Consent.objects.exists()


def test_a_viewer_looks_but_changes_nothing(client: Client, ada: Contributor, essay: Work, at: datetime) -> None:
    viewer = people.user("vic@example.org", at)
    add_member(contributor=ada, user=viewer, role="viewer", at=at)
    client.force_login(viewer)
    assert "On rivers" in shown(client, "/portal/works/")
    assert "Upload works" not in shown(client, "/portal/works/")
    for page in CHANGING:
        assert client.get(page).status_code == 403, page
        assert client.post(page, {"target": "all", "scopes": ["search"], "step": "confirm"}).status_code == 403
    assert not Consent.objects.exists()


def test_a_permission_is_granted_with_its_dates(as_ada: Client, essays: Dataset) -> None:
    sent = {
        "target": str(essays.public_id),
        "scopes": ["train_generative", "search"],
        "valid_from": "2024-01-01",
        "valid_to": "2030-01-01",
    }
    assert as_ada.post("/portal/consent/grant/", sent).headers["Location"] == "/portal/consent/"
    for said in Consent.objects.all():
        assert (said.value, said.dataset, said.recorded_by_id) == ("allow", essays, User.objects.get().pk)
        assert said.valid_from == datetime(2024, 1, 1, tzinfo=UTC)
        assert said.valid_to == datetime(2030, 1, 1, tzinfo=UTC)
    page = shown(as_ada, "/portal/consent/")
    assert "until <time" in page
    assert "1 Jan 2030" in page
    assert shown(as_ada, "/portal/consent/history/").count("Essays") == 2


def test_a_permission_that_ends_before_it_begins_is_sent_back(as_ada: Client) -> None:
    wrong: list[dict[str, Any]] = [
        {"valid_from": "2026-01-01", "valid_to": "2026-01-01"},
        {"valid_to": "2020-01-01"},
        {"scopes": []},
    ]
    for sent in wrong:
        response = as_ada.post("/portal/consent/grant/", {"target": "all", "scopes": ["search"], **sent})
        assert response.status_code == 422
    assert not Consent.objects.exists()


def test_a_withdrawal_shows_what_changes_before_it_is_recorded(as_ada: Client, essay: Work) -> None:
    chosen = {"target": "all", "scopes": ["train_generative"]}
    response = as_ada.post("/portal/consent/withdraw/", chosen)
    page = re.sub(r"\s+", " ", response.content.decode())
    assert "This covers your one work, from" in page
    assert "No training run that starts after this date" in page
    assert "keep their training until they are retrained or retired" in page
    assert 'name="scopes" value="train_generative"' in page
    assert not Consent.objects.exists()
    response = as_ada.post("/portal/consent/withdraw/", chosen | {"step": "confirm"})
    assert response.headers["Location"] == "/portal/consent/"
    assert Consent.objects.get().value == "deny"
    again = as_ada.post("/portal/consent/withdraw/", chosen | {"step": "confirm"})
    assert again.status_code == 422
    assert "already refused" in again.content.decode()


def test_a_withdrawal_names_the_permissions_that_begin_after_it(as_ada: Client, essay: Work) -> None:
    day = datetime.now(UTC).date()
    later, end = day + timedelta(days=30), day + timedelta(days=60)
    given = {"target": "all", "scopes": ["train_generative", "search"], "valid_from": f"{later}", "valid_to": f"{end}"}
    assert as_ada.post("/portal/consent/grant/", given).status_code == 302
    chosen = {"target": "all", "scopes": ["train_generative"]}
    page = shown_after(as_ada.post("/portal/consent/withdraw/", chosen))
    assert page.count("allowed again from") == 1
    assert "A permission that you gave for later still begins" in page
    for elsewhere in (
        chosen | {"target": f"work:{essay.public_id}"},
        chosen | {"scopes": ["fine_tune"]},
        chosen | {"valid_from": f"{later}"},
    ):
        assert "still begins" not in shown_after(as_ada.post("/portal/consent/withdraw/", elsewhere))
    # Once that day is refused, too, there is nothing left to come.
    as_ada.post("/portal/consent/withdraw/", chosen | {"valid_from": f"{later}", "step": "confirm"})
    assert "still begins" not in shown_after(as_ada.post("/portal/consent/withdraw/", chosen))


@pytest.mark.parametrize(
    ("leaves", "scope", "earns"),
    [
        (False, "train_generative", True),
        (True, "train_generative", False),
        (True, "fine_tune", True),
    ],
)
def test_the_pages_say_what_a_withdrawal_means_for_models_that_are_trained_already(
    as_ada: Client, essay: Work, monkeypatch: pytest.MonkeyPatch, leaves: bool, scope: str, earns: bool
) -> None:
    monkeypatch.setattr(settings, "WITHDRAWN_WORKS_LEAVE_INDEXES", leaves)
    page = shown_after(as_ada.post("/portal/consent/withdraw/", {"target": "all", "scopes": [scope]}))
    assert ("you go on earning from its output" in page) is earns
    assert ("These works leave the attribution of the models that were trained on them" in page) is not earns
    assert "Your earnings so far stay yours" in page


def shown_after(response: Any) -> str:
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def test_a_single_work_may_be_withdrawn(as_ada: Client, essay: Work) -> None:
    target = f"work:{essay.public_id}"
    assert "Only “On rivers”" in shown(as_ada, f"/portal/consent/withdraw/?target={target}")
    as_ada.post("/portal/consent/withdraw/", {"target": target, "scopes": ["search"], "step": "confirm"})
    assert Consent.objects.get().work == essay


def test_a_withdrawal_is_not_dated_back(as_ada: Client) -> None:
    sent = {"target": "all", "scopes": ["search"], "valid_from": "2020-01-01", "step": "confirm"}
    response = as_ada.post("/portal/consent/withdraw/", sent)
    assert response.status_code == 422
    assert "cannot be dated back" in response.content.decode()


def test_public_and_account_pages_open_for_everybody(client: Client) -> None:
    for page in ("/", "/how-it-works/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"):
        text = shown(client, page)
        assert '<html lang="en">' in text
        assert 'class="skip-link"' in text
    assert client.get("/nowhere/").status_code == 404


def test_password_fields_say_what_they_are_and_allow_pasting(client: Client) -> None:
    page = shown(client, "/accounts/login/")
    assert 'autocomplete="current-password"' in page
    assert 'autocomplete="email"' in page
    assert "onpaste" not in page
    assert 'autocomplete="new-password"' in shown(client, "/accounts/signup/")


@pytest.mark.parametrize(
    "page",
    ["/accounts/email/", "/accounts/password/change/", "/accounts/2fa/", "/accounts/2fa/totp/activate/",
     "/accounts/2fa/webauthn/", "/accounts/2fa/webauthn/add/", "/accounts/logout/", "/accounts/reauthenticate/"],
)  # fmt: skip
def test_the_accounts_own_pages_open(page: str, client: Client, ada: Contributor) -> None:
    people.log_in(client, "ada@example.org")
    client.post("/accounts/reauthenticate/", {"password": people.PASSWORD})
    shown(client, page)


def test_no_page_carries_inline_style_or_script(as_ada: Client, essay: Work) -> None:
    pages = ["/", "/how-it-works/", "/portal/works/", f"/portal/works/{essay.public_id}/", "/portal/consent/",
             "/portal/consent/grant/", "/portal/works/upload/", "/accounts/2fa/", "/accounts/email/"]  # fmt: skip
    for page in pages:
        text = shown(as_ada, page)
        assert not re.search(r"<[^>]+\s(style|on\w+)=", text), page
        for attributes in re.findall(r"<script([^>]*)>", text):
            assert "src=" in attributes or "application/json" in attributes, page
    assert "script-src 'self'" in as_ada.get("/").headers["Content-Security-Policy"]
