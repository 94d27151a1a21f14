"""The roots of sealed months are published with their chain, for anybody."""

from __future__ import annotations

import hashlib

import pytest
from django.test import Client

from ledger import proof
from ledger.models import Period
from tests.worlds.pages import text_of
from tests.worlds.programme import Programme

pytestmark = pytest.mark.django_db


def test_anybody_can_fetch_every_root_and_follow_the_chain(accrued: Programme) -> None:
    accrued.close(seal=True)
    stranger = Client(headers={"Host": "127.0.0.1"})
    answer = stranger.get("/roots.json")
    assert answer.status_code == 200
    published = answer.json()["periods"]
    assert [row["period"] for row in published] == [
        p.code for p in Period.objects.filter(state="sealed").order_by("id")
    ]
    previous = proof.NO_ROOT
    for row in published:
        assert row["previous"] == previous
        chained = hashlib.sha256(bytes.fromhex(row["previous"]) + bytes.fromhex(row["tree"])).hexdigest()
        assert row["root"] == chained
        previous = row["root"]
    page = text_of(stranger.get("/roots/").content)
    assert all(row["root"] in page for row in published)


def test_before_the_first_seal_the_page_says_so(accrued: Programme) -> None:
    stranger = Client(headers={"Host": "127.0.0.1"})
    assert "No month is sealed yet" in text_of(stranger.get("/roots/").content)
    assert stranger.get("/roots.json").json()["periods"] == []
    assert "salt" not in stranger.get("/roots.json").content.decode()


def test_the_verifier_says_where_the_roots_are() -> None:
    assert "/roots.json" in (proof.__doc__ or "")
