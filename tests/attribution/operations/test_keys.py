"""Service keys: shown once, stored as a digest, rotated with an overlap, revoked for good."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from attribution.models import ModelService, ServiceKey
from attribution.operations import model_services
from attribution.operations.keys import UnableToProve, prove
from attribution.operations.model_services import KEYS_IN_FORCE_MAX

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def service(at: datetime) -> ModelService:
    return model_services.register_service(name="orator", at=at)


def issued(
    service: ModelService, at: datetime, *scopes: str, expires_at: datetime | None = None
) -> tuple[ServiceKey, str]:
    return model_services.issue_key(
        service=service, scopes=scopes or ["generations:write"], at=at, expires_at=expires_at
    )


def test_a_key_proves_its_service_and_scopes(service: ModelService, at: datetime) -> None:
    key, text = issued(service, at, "generations:write", "generations:read")
    proven = prove(text, at=at)
    assert proven == key
    assert proven.service == service
    assert proven.scopes == ["generations:read", "generations:write"]


def test_the_text_of_a_key_is_stored_nowhere(service: ModelService, at: datetime) -> None:
    key, text = issued(service, at)
    secret = text.removeprefix(f"trib_{key.prefix}_")
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(k::text, ' ') FROM attribution_servicekey k")
        stored = cursor.fetchone()[0]
    assert key.prefix in stored
    assert secret not in stored
    assert len(secret) == 43, "256 bits"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1] + ("a" if text[-1] != "a" else "b"),
        lambda text: text.replace("trib_", "turb_"),
        lambda text: text.split("_", 2)[2],
        lambda text: text + "a" * 500,
        lambda text: "trib_%_" + text.split("_", 2)[2],
        lambda _: "",
        lambda _: "trib_nobodyhere_" + "x" * 43,
        lambda _: "ключ",
    ],
)
def test_what_is_not_the_whole_key_proves_nothing(service: ModelService, at: datetime, damage: object) -> None:
    _, text = issued(service, at)
    with pytest.raises(UnableToProve, match="not known"):
        prove(damage(text), at=at)  # type: ignore[operator]


def test_a_key_ends_when_it_expires(service: ModelService, at: datetime) -> None:
    _, text = issued(service, at, expires_at=at + DAY)
    prove(text, at=at + DAY - timedelta(seconds=1))
    with pytest.raises(UnableToProve, match="expired"):
        prove(text, at=at + DAY)


def test_a_rotated_key_goes_on_through_the_overlap_and_not_beyond(service: ModelService, at: datetime) -> None:
    old, old_text = issued(service, at, "generations:read")
    new, new_text = model_services.rotate_key(key=old, at=at + DAY, overlap=DAY)
    assert new.scopes == old.scopes
    assert new.replaces == old
    assert prove(old_text, at=at + DAY * 1.9) == old
    assert prove(new_text, at=at + DAY * 1.9) == new
    with pytest.raises(UnableToProve, match="expired"):
        prove(old_text, at=at + DAY * 2)


def test_rotating_does_not_prolong_the_old_key(service: ModelService, at: datetime) -> None:
    old, old_text = issued(service, at, expires_at=at + DAY)
    new, _ = model_services.rotate_key(key=old, at=at, overlap=DAY * 30)
    assert new.expires_at == at + DAY
    with pytest.raises(UnableToProve, match="expired"):
        prove(old_text, at=at + DAY)


def test_a_key_is_rotated_once_and_only_while_in_force(service: ModelService, at: datetime) -> None:
    old, _ = issued(service, at)
    model_services.rotate_key(key=old, at=at)
    with pytest.raises(model_services.UnableToRotateKey, match="before"):
        model_services.rotate_key(key=old, at=at)
    ended, _ = issued(service, at, expires_at=at + DAY)
    with pytest.raises(model_services.UnableToRotateKey, match="in force"):
        model_services.rotate_key(key=ended, at=at + DAY)
    with pytest.raises(model_services.UnableToRotateKey, match="up to 90 days"):
        model_services.rotate_key(key=issued(service, at)[0], at=at, overlap=DAY * 91)


def test_a_revoked_key_is_refused_at_once_and_for_good(service: ModelService, at: datetime) -> None:
    key, text = issued(service, at)
    model_services.revoke_key(key=key, at=at)
    with pytest.raises(UnableToProve, match="revoked"):
        prove(text, at=at)
    with pytest.raises(model_services.UnableToRevokeKey):
        model_services.revoke_key(key=key, at=at + DAY)
    with pytest.raises(DatabaseError, match="stays revoked"), transaction.atomic():
        ServiceKey.objects.filter(pk=key.pk).update(revoked_at=None)


def test_a_suspended_service_proves_nothing_until_it_is_resumed(service: ModelService, at: datetime) -> None:
    _, text = issued(service, at)
    model_services.suspend_service(service=service, at=at)
    with pytest.raises(UnableToProve, match="suspended"):
        prove(text, at=at)
    with pytest.raises(model_services.UnableToSuspendService):
        model_services.suspend_service(service=service, at=at)
    model_services.resume_service(service=service, at=at)
    prove(text, at=at)


def test_the_last_use_is_written_at_most_once_a_minute(service: ModelService, at: datetime) -> None:
    key, text = issued(service, at)
    for seconds, noted in [(0, 0), (30, 0), (59, 0), (60, 60), (61, 60)]:
        prove(text, at=at + timedelta(seconds=seconds))
        key.refresh_from_db()
        assert key.last_used_at == at + timedelta(seconds=noted)


def test_a_second_use_in_the_same_minute_writes_nothing(
    service: ModelService, at: datetime, django_assert_num_queries: object
) -> None:
    _, text = issued(service, at)
    prove(text, at=at)
    with django_assert_num_queries(1):  # type: ignore[operator]
        prove(text, at=at)


@pytest.mark.parametrize("scopes", [[], ["generations:delete"], ["generations:read", ""]])
def test_a_key_has_known_scopes(service: ModelService, at: datetime, scopes: list[str]) -> None:
    with pytest.raises(model_services.UnableToIssueKey, match="some of"):
        model_services.issue_key(service=service, scopes=scopes, at=at)


def test_a_key_cannot_end_before_it_begins(service: ModelService, at: datetime) -> None:
    with pytest.raises(model_services.UnableToIssueKey, match="begins"):
        issued(service, at, expires_at=at)


def test_a_service_has_a_limited_number_of_keys_in_force(service: ModelService, at: datetime) -> None:
    keys = [issued(service, at)[0] for _ in range(KEYS_IN_FORCE_MAX)]
    with pytest.raises(model_services.UnableToIssueKey, match="revoke one"):
        issued(service, at)
    model_services.revoke_key(key=keys[0], at=at)
    issued(service, at)


@pytest.mark.parametrize("change", [{"digest": b"x" * 32}, {"scopes": ["models:write"]}, {"prefix": "other"}])
def test_a_credential_stays_what_was_issued(service: ModelService, at: datetime, change: dict[str, object]) -> None:
    key, _ = issued(service, at)
    with pytest.raises(DatabaseError, match="issue another"), transaction.atomic():
        ServiceKey.objects.filter(pk=key.pk).update(**change)
    with pytest.raises(DatabaseError), transaction.atomic():
        ServiceKey.objects.filter(pk=key.pk).delete()


def test_the_database_does_not_prolong_a_key(service: ModelService, at: datetime) -> None:
    key, _ = issued(service, at, expires_at=at + DAY)
    for later in (None, at + DAY * 2):
        with pytest.raises(DatabaseError, match="not prolonged"), transaction.atomic():
            ServiceKey.objects.filter(pk=key.pk).update(expires_at=later)


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\x00b"])
def test_a_service_has_a_printable_name(at: datetime, name: str) -> None:
    with pytest.raises(model_services.UnableToRegisterService):
        model_services.register_service(name=name, at=at)


def test_a_service_is_registered_once(service: ModelService, at: datetime) -> None:
    with pytest.raises(model_services.UnableToRegisterService, match="already"):
        model_services.register_service(name="orator", at=at)
