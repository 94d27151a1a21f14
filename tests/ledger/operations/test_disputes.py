"""A receipt that looks wrong: disputed where it is read, answered in words by somebody else, never rewritten."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from ledger.models import Line, ReceiptDispute
from ledger.operations import disputes as operation
from ledger.operations.disputes import (
    UnableToAnswerDispute,
    UnableToDispute,
    answer_dispute,
    dispute_receipt,
    withdraw_dispute,
)
from people.models import User
from people.operations.users import register_user
from tests.worlds.programme import AT, Programme

pytestmark = pytest.mark.django_db


@pytest.fixture
def one(programme: Programme) -> Programme:
    programme.attribute(programme.generate(1), scores=[0.5, 0.3125, 0.1875])
    programme.accrue()
    return programme


def raised(programme: Programme, place: int = 0, words: str = "My second address is missing.") -> ReceiptDispute:
    contributor = programme.contributors[place]
    by = contributor.memberships.get().user
    generation = programme.generations[0].pk
    return dispute_receipt(contributor=contributor, generation_id=generation, words=words, by=by, at=AT)


def somebody() -> User:
    return register_user(email="reader@finance.example", password="a long enough phrase", roles=["compliance"], at=AT)


def test_a_contributor_disputes_a_receipt_and_reads_the_answer_on_it(one: Programme) -> None:
    client, address = one.client(0), f"/portal/receipts/{one.generations[0].pk}/"
    lines = Line.objects.count()
    client.post(f"{address}dispute/", {"words": "The <b>third</b> address\nis not mine."})
    page = client.get(address).content.decode()
    assert "The &lt;b&gt;third&lt;/b&gt; address" in page
    assert "Waits for an answer" in page
    assert "Dispute this receipt" not in page
    assert "Your disputes" in client.get("/portal/receipts/").content.decode()
    checker = one.staff_client("finance_checker")
    assert "is not mine" in checker.get("/console/disputes/").content.decode()
    dispute = ReceiptDispute.objects.get()
    answered = checker.post(f"/console/disputes/{dispute.pk}/", {"decision": "upheld", "words": "It is another's."})
    assert answered.status_code == 302
    page = client.get(address).content.decode()
    assert "It is another&#x27;s." in page
    assert "Upheld" in page
    assert "Dispute this receipt" in page
    assert Line.objects.count() == lines


def test_another_contributors_receipt_cannot_be_disputed_nor_its_dispute_seen_or_withdrawn(one: Programme) -> None:
    dispute = raised(one)
    stranger = one.client(1)
    address = f"/portal/receipts/{one.generations[0].pk}/"
    assert "second address is missing" not in stranger.get(address).content.decode()
    assert stranger.post(f"{address}disputes/{dispute.pk}/withdraw/").status_code == 404
    unknown = "00000000-0000-7000-8000-000000000000"
    assert stranger.post(f"/portal/receipts/{unknown}/dispute/", {"words": "x"}).status_code == 404
    assert ReceiptDispute.objects.get().state == "open"


def test_a_receipt_is_disputed_once_at_a_time(one: Programme) -> None:
    first = raised(one)
    with pytest.raises(UnableToDispute, match="open already"):
        raised(one)
    withdraw_dispute(dispute=first, at=AT)
    assert raised(one).pk != first.pk


@pytest.mark.parametrize("words", ["", "  \n", "x" * 2001])
def test_a_dispute_says_what_is_wrong_within_its_length(one: Programme, words: str) -> None:
    with pytest.raises(UnableToDispute, match="1 to 2000 characters"):
        raised(one, words=words)
    assert not ReceiptDispute.objects.exists()


def test_a_contributor_may_have_so_many_open_and_no_more(one: Programme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation, "OPEN_MAX", 1)
    one.attribute(one.generate(1), scores=[0.5, 0.3125, 0.1875])
    one.accrue()
    raised(one)
    contributor = one.contributors[0]
    with pytest.raises(UnableToDispute, match="wait for an answer"):
        dispute_receipt(
            contributor=contributor,
            generation_id=one.generations[1].pk,
            words="also",
            by=contributor.memberships.get().user,
            at=AT,
        )


def test_a_dispute_is_answered_once_with_words_and_by_somebody_else(one: Programme) -> None:
    dispute = raised(one)
    with pytest.raises(UnableToAnswerDispute, match="somebody other than its claimant"):
        answer_dispute(dispute=dispute, upheld=True, words="Mine.", by=dispute.raised_by, at=AT)
    clerk = somebody()
    with pytest.raises(UnableToAnswerDispute, match="the contributor reads it"):
        answer_dispute(dispute=dispute, upheld=True, words=" ", by=clerk, at=AT)
    answer_dispute(dispute=dispute, upheld=False, words="The arithmetic holds.", by=clerk, at=AT)
    with pytest.raises(UnableToAnswerDispute, match="declined already"):
        answer_dispute(dispute=dispute, upheld=True, words="Yet it does not.", by=clerk, at=AT)
    with pytest.raises(UnableToDispute, match="declined already"):
        withdraw_dispute(dispute=dispute, at=AT)


@pytest.mark.parametrize(
    "change", ["words = 'other'", "state = 'upheld'", "state = 'open'", "state = 'declined', answer = 'no'"]
)
def test_the_database_keeps_what_was_said(one: Programme, change: str) -> None:
    dispute = raised(one)
    with pytest.raises((DatabaseError, IntegrityError)), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE ledger_receiptdispute SET {change} WHERE id = %s", [dispute.pk])
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM ledger_receiptdispute")


@pytest.mark.parametrize(("role", "status"), [("auditor", 403), ("finance_maker", 403), ("compliance", 302)])
def test_only_checkers_and_compliance_answer(one: Programme, role: str, status: int) -> None:
    dispute = raised(one)
    client = one.staff_client(role)
    assert client.get(f"/console/disputes/{dispute.pk}/").status_code == 200
    answer = client.post(f"/console/disputes/{dispute.pk}/", {"decision": "declined", "words": "It holds."})
    assert answer.status_code == status


def test_words_with_a_nul_are_refused_in_words_and_not_by_a_crash(one: Programme) -> None:
    client, address = one.client(0), f"/portal/receipts/{one.generations[0].pk}/"
    answer = client.post(f"{address}dispute/", {"words": "not\x00mine"})
    assert answer.status_code == 400
    assert "In “words” there is a NUL character" in " ".join(answer.content.decode().split())
    assert not ReceiptDispute.objects.exists()
    assert client.get(f"{address}?q=a%00b").status_code == 400
