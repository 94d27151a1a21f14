"""The staff's page of a service's gateways."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from attribution.models import ModelName
from attribution.operations import gateways
from attribution.operations.dialects.calls import Call, Item, Skip
from people.models import AuditEvent
from tests.attribution.console.test_model_services import page, staff
from tests.worlds.programme import Programme


@pytest.fixture
def waiting(indexed: Programme) -> Programme:
    call = Call("c1", "openai/<gpt>", indexed.at - timedelta(hours=1), "peace")
    items: list[Item] = [call, Skip("embeddings", "e1")]
    gateways.take_records(service=indexed.service, door="litellm", items=items, at=indexed.at)
    return indexed


def address(programme: Programme) -> str:
    return f"/console/services/{programme.service.public_id}/gateways/"


def form(programme: Programme, **changes: Any) -> dict[str, Any]:
    return {"pattern": "openai/<gpt>", "kind": "exact", "model_version": programme.model_version.pk, **changes}


def test_an_administrator_sees_names_that_wait_and_leads_one_to_a_model_version(waiting: Programme) -> None:
    admin = staff("admin")
    text = page(admin, address(waiting))
    assert "openai/&lt;gpt&gt;" in text
    assert "?name=openai%2F%3Cgpt%3E#add" in text
    assert "embeddings" in text
    assert 'value="openai/&lt;gpt&gt;"' in page(admin, f"{address(waiting)}?name=openai%2F%3Cgpt%3E")

    answer = admin.post(address(waiting), form(waiting), follow=True)
    assert "leads to orator-1" in answer.content.decode()
    entry = ModelName.objects.get()
    assert entry.recorded_by is not None
    line = AuditEvent.objects.get(action="name_model")
    assert (line.actor, line.after["pattern"]) == (entry.recorded_by, "openai/<gpt>")
    assert gateways.release_waiting(at=waiting.at) == 1


def test_an_entry_is_ended_once(waiting: Programme) -> None:
    admin = staff("admin")
    admin.post(address(waiting), form(waiting))
    entry = ModelName.objects.get()
    end = f"/console/services/{waiting.service.public_id}/names/{entry.public_id}/end/"
    assert "has ended. Earlier generations keep orator-1." in admin.post(end, follow=True).content.decode()
    assert "has ended already" in admin.post(end, follow=True).content.decode()
    assert AuditEvent.objects.filter(action="end_name").count() == 1


def test_a_refused_pattern_says_why_beside_its_field(waiting: Programme) -> None:
    admin = staff("admin")
    admin.post(address(waiting), form(waiting))
    answer = admin.post(address(waiting), form(waiting))
    assert answer.status_code == 422
    assert "leads to orator-1 already" in answer.content.decode()
    assert admin.post(address(waiting), form(waiting, begins_at="soon")).status_code == 422


def test_a_reader_sees_the_page_and_changes_nothing(waiting: Programme) -> None:
    reader = staff("auditor")
    text = page(reader, address(waiting))
    assert "openai/&lt;gpt&gt;" in text
    assert "Add a name" not in text
    assert reader.post(address(waiting), form(waiting)).status_code == 403
    assert not ModelName.objects.exists()
    assert Client(headers={"Host": "127.0.0.1"}).get(address(waiting)).status_code == 302


def test_the_page_of_a_service_leads_there(waiting: Programme) -> None:
    assert address(waiting) in page(staff("auditor"), f"/console/services/{waiting.service.public_id}/")
