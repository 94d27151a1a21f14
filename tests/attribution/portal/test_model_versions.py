"""A withdrawal reaches the models that were trained before it: their status is shown, to its contributor alone."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.test import Client

from attribution.queries import model_versions
from contributors.operations import consents, people
from people.models import User
from people.operations import users
from tests.worlds.programme import Programme

pytestmark = pytest.mark.django_db


def browser_of(user: User) -> Client:
    client = Client(headers={"Host": "127.0.0.1"})
    client.force_login(user, backend="allauth.account.auth_backends.AuthenticationBackend")
    return client


def test_a_model_trained_with_permission_is_shown_as_allowed(programme: Programme) -> None:
    page = browser_of(programme.user).get("/portal/models/")
    assert page.status_code == 200
    assert programme.model_version.name in page.content.decode()
    assert "Allowed" in page.content.decode()


def test_a_withdrawal_changes_the_status_of_a_model_that_is_trained_already(programme: Programme) -> None:
    contributor = programme.contributors[0]
    before = model_versions.trained_models(contributor=contributor, at=programme.at)
    assert [(model.works, model.withdrawn) for model in before] == [(1, 0)]
    consents.withdraw_consent(
        contributor=contributor, scope="train_generative", valid_from=programme.at, by=programme.user, at=programme.at
    )
    after = model_versions.trained_models(contributor=contributor, at=programme.at)
    assert [(model.works, model.withdrawn) for model in after] == [(1, 1)]
    others = model_versions.trained_models(contributor=programme.contributors[1], at=programme.at)
    assert [model.withdrawn for model in others] == [0]


@pytest.mark.parametrize("leaves", [False, True])
def test_the_card_says_what_the_withdrawal_means_here(
    programme: Programme, monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    monkeypatch.setattr(settings, "WITHDRAWN_WORKS_LEAVE_INDEXES", leaves)
    consents.withdraw_consent(
        contributor=programme.contributors[0],
        scope="train_generative",
        valid_from=programme.at,
        by=programme.user,
        at=programme.at,
    )
    page = browser_of(programme.user).get("/portal/models/").content.decode()
    public = re.sub(r"\s+", " ", Client(headers={"Host": "127.0.0.1"}).get("/how-it-works/").content.decode())
    assert ("as long as they serve, you go on earning from them" in public) is not leaves
    assert ("it earns nothing from their output after the withdrawal" in public) is leaves
    assert ("goes on crediting you as long as it serves" in page) is not leaves
    assert ("The works that you withdrew leave its attribution" in page) is leaves


def test_the_card_of_somebody_elses_work_is_not_found(programme: Programme) -> None:
    stranger = users.register_user(email="stranger@example.org", password="a long enough phrase", at=programme.at)
    people.register_contributor(
        user=stranger, kind="person", legal_name="A Stranger", display_name="Stranger", country="US", at=programme.at
    )
    work = programme.works[0]
    assert browser_of(programme.user).get(f"/portal/models/of/{work.public_id}/").status_code == 200
    assert browser_of(stranger).get(f"/portal/models/of/{work.public_id}/").status_code == 404
    assert programme.model_version.name not in browser_of(stranger).get("/portal/models/").content.decode()
