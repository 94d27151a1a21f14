"""Works by client and command line: pulled with consent, followed by the feed, registered under a mandate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from tributary import InvalidInput, ProblemError, Tributary
from tributary.backoff import Backoff
from tributary.works import NewWork, works_of

from attribution.models import Mandate, WorkDelivery
from attribution.operations import mandates
from contributors.models import Work
from contributors.operations import consents
from tests.client.conftest import Command, Served

pytestmark = pytest.mark.usefixtures("on_served_data")
SCOPES = ("works:read", "works:write")


@pytest.fixture
def client(served: Served) -> Iterator[Tributary]:
    with Tributary(served.url, served.key_with(*SCOPES), backoff=Backoff(first=0.05, most=0.2)) as client:
        yield client


@pytest.fixture
def mandate(served: Served) -> Mandate:
    programme = served.programme
    return mandates.record_mandate(
        service=programme.service,
        organisation="Collecting Society",
        contributors=programme.contributors[:2],
        uses=["fine_tune", "search"],
        evidence="contract 7, signed 1 October 2026",
        evidence_sha256=hashlib.sha256(b"contract").hexdigest(),
        valid_from=timezone.now() - timedelta(days=1),
        valid_to=timezone.now() + timedelta(days=30),
        by=programme.user,
        at=timezone.now(),
    )


def test_works_with_consent_are_pulled_once_and_checked(served: Served, client: Tributary, tmp_path: Path) -> None:
    folder = tmp_path / "works"
    listed = {work["id"] for work in client.works.list(purpose="train_generative")}
    assert listed >= {str(work.public_id) for work in served.programme.works}
    pulled = client.works.pull(folder, purpose="train_generative")
    assert (pulled.fetched, pulled.kept, pulled.refused) == (len(listed), 0, [])
    rows = [json.loads(line) for line in (folder / "works.jsonl").read_text().splitlines()]
    for row in rows:
        assert hashlib.sha256((folder / row["id"]).read_bytes()).hexdigest() == row["sha256"]
    assert {row["id"] for row in rows} == listed
    (folder / rows[0]["id"]).write_bytes(b"changed")
    deliveries = WorkDelivery.objects.count()
    again = client.works.pull(folder, purpose="train_generative")
    assert (again.fetched, again.kept) == (1, len(listed) - 1)
    assert WorkDelivery.objects.count() == deliveries + 1
    assert list(client.works.list(purpose="train_generative", modality="image")) == []
    with pytest.raises(ProblemError, match="purpose is one of"):
        list(client.works.list(purpose="anything"))


def test_the_feed_of_consents_is_followed(served: Served, client: Tributary) -> None:
    after = None
    seen: list[dict[str, Any]] = []
    while True:
        found, after = client.works.consents(after)
        if not found:
            break
        seen += found
    assert len(seen) >= 4
    now = timezone.now()
    consents.grant_consent(
        contributor=served.programme.contributors[0],
        scope="search",
        valid_from=now,
        by=served.programme.user,
        source="test",
        at=now,
    )
    (new,), _ = client.works.consents(after)
    assert (new["scope"], new["value"]) == ("search", "allow")


def test_works_are_registered_under_a_mandate_and_an_import_goes_on(
    served: Served, client: Tributary, mandate: Mandate, tmp_path: Path
) -> None:
    contributor = str(served.programme.contributors[0].public_id)
    dataset = client.works.open_dataset(
        mandate=str(mandate.public_id), contributor=contributor, name="Poems", licence="CC0-1.0", uses=["search"]
    )
    folder = tmp_path / "poems"
    folder.mkdir()
    for number in range(3):
        (folder / f"poem {number}.txt").write_text(f"A poem with the number {number}. " * 30)
    given = {"mandate": str(mandate.public_id), "dataset": dataset["id"], "registered": tmp_path / "kept.jsonl"}
    made = list(client.works.register(works_of(folder), **given))
    assert [row["title"] for row in made] == ["poem 0", "poem 1", "poem 2"]
    stored = Work.objects.get(public_id=made[0]["id"])
    assert bytes(stored.sha256) == hashlib.sha256((folder / "poem 0.txt").read_bytes()).digest()
    (folder / "poem 3.txt").write_text("Another poem, which came later. " * 30)
    more = list(client.works.register(works_of(folder), **given))
    assert [row["title"] for row in more] == ["poem 3"]
    with pytest.raises(ProblemError, match="outside") as caught:
        client.works.open_dataset(
            mandate=str(mandate.public_id),
            contributor=str(served.programme.contributors[3].public_id),
            name="Others",
            licence="CC0-1.0",
        )
    assert caught.value.field == "contributor"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: it is no JSON"),
        ("[]", "line 2: an object with a path"),
        ('{"path": "none.txt"}', "line 2: path: there is no file"),
        ('{"path": "a.txt", "titel": "A"}', "line 2: titel: nobody reads it"),
        ('{"path": "a.txt", "published_on": "last year"}', "line 2: published_on"),
        ('{"path": "a.xyz"}', "the name tells no modality"),
    ],
)
def test_a_list_of_works_is_refused_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    for name in ("a.txt", "a.xyz"):
        (tmp_path / name).write_text("a")
    path = tmp_path / "works.jsonl"
    path.write_text('{"path": "a.txt", "title": "First", "published_on": "1869-12-06"}\n' + line + "\n")
    with pytest.raises(InvalidInput) as caught:
        works_of(path)
    assert reason in str(caught.value)
    path.write_text('{"path": "a.txt", "title": "First", "published_on": "1869-12-06"}\n')
    assert works_of(path) == [NewWork(tmp_path / "a.txt", "First", "text", "1869-12-06")]


def test_works_are_pulled_and_imported_by_commands(
    served: Served, client: Tributary, mandate: Mandate, command: Command, tmp_path: Path
) -> None:
    login = {"TRIBUTARY_URL": served.url, "TRIBUTARY_KEY": served.key_with(*SCOPES)}
    listed = list(client.works.list(purpose="train_generative"))
    pulled = command("works", "pull", str(tmp_path / "works"), "--purpose", "train_generative", environment=login)
    assert pulled.returncode == 0, pulled.stderr
    assert f"{len(listed)} fetched, 0 there already" in pulled.stdout
    contributor = str(served.programme.contributors[1].public_id)
    dataset = client.works.open_dataset(
        mandate=str(mandate.public_id), contributor=contributor, name="Letters", licence="CC0-1.0"
    )
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "first.txt").write_text("My dear friend, the harvest was good this year. " * 20)
    given = ["works", "import", str(tmp_path / "letters"), "--mandate", str(mandate.public_id)]
    imported = command(*given, "--dataset", dataset["id"], environment=login)
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.startswith("1 registered, 0 registered before")
    again = json.loads(command(*given, "--dataset", dataset["id"], "--json", environment=login).stdout)
    assert (again["registered"], again["before"]) == ([], 1)
