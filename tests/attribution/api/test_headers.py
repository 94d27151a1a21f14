"""Headers of the API: its version by date, the rate limit, and answers that did not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from attribution.operations import model_services
from tests.worlds.programme import Programme

ROOT = Path(__file__).resolve().parents[3]
PATH = "/api/v1/webhook-endpoints"


@pytest.fixture
def key(programme: Programme) -> str:
    return model_services.issue_key(service=programme.service, scopes=["webhooks:write"], at=timezone.now())[1]


def get(programme: Programme, key: str, **headers: str) -> Any:
    return programme.api.get(PATH, headers={"Authorization": f"Bearer {key}", **headers})


def test_every_answer_names_the_version_and_the_changelog_describes_each(programme: Programme, key: str) -> None:
    assert get(programme, key)["Tributary-Version"] == django_settings.API_VERSIONS[-1]
    assert programme.api.get(PATH)["Tributary-Version"] == django_settings.API_VERSIONS[-1]
    changelog = (ROOT / "docs" / "api-changelog.md").read_text(encoding="utf-8")
    for version in django_settings.API_VERSIONS:
        assert f"## {version}" in changelog


def test_a_version_that_nobody_speaks_is_refused_by_name(programme: Programme, key: str) -> None:
    assert get(programme, key, **{"Tributary-Version": django_settings.API_VERSIONS[0]}).status_code == 200
    refused = get(programme, key, **{"Tributary-Version": "2019-01-01"})
    assert refused.status_code == 400
    assert refused["Content-Type"] == "application/problem+json"
    assert django_settings.API_VERSIONS[-1] in refused.json()["detail"]


def test_the_rate_limit_counts_down(programme: Programme, key: str) -> None:
    first, second = get(programme, key), get(programme, key)
    assert first["RateLimit-Policy"] == '"default";q=1200;w=60'
    left = [int(answer["RateLimit"].split(";r=")[1].split(";")[0]) for answer in (first, second)]
    assert left[1] == left[0] - 1
    assert 0 <= int(second["RateLimit"].split(";t=")[1]) <= 60


def test_an_unchanged_answer_is_an_empty_304(programme: Programme, key: str) -> None:
    first = get(programme, key)
    again = get(programme, key, **{"If-None-Match": first["ETag"]})
    assert again.status_code == 304
    assert again.content == b""
    changed = get(programme, key, **{"If-None-Match": '"another"'})
    assert changed.status_code == 200
