"""The staff's pages about model services."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.forms import ChoiceField
from django.test import Client
from django.utils import timezone

from attribution.forms.model_services import BuildIndexForm
from attribution.models import AttributionIndex, ModelService, ModelVersion, ServiceKey
from attribution.operations import builds, evaluations, faults, indexes, model_services
from attribution.operations.keys import UnableToProve, prove
from people.models import AuditEvent
from tests.worlds import people
from tests.worlds.programme import Programme
from tests.worlds.trained import NOW

SERVICES = "/console/services/"


def staff(role: str) -> Client:
    """Return a browser that has just logged in with a second factor, as a user with this role."""
    cache.clear()
    client = Client(headers={"Host": "127.0.0.1"})
    people.user(f"{role}@example.org", NOW, (role,), second_factor=True)
    assert people.log_in(client, f"{role}@example.org", code=people.totp_code)
    return client


@pytest.fixture
def admin(indexed: Programme) -> Client:
    return staff("admin")


def page(client: Client, address: str, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status, (address, answer.status_code, answer.headers)
    return answer.content.decode()


def address_of(service: ModelService) -> str:
    return f"{SERVICES}{service.public_id}/"


def key_in(answer: Any) -> str:
    """The key that a page shows."""
    text = answer.content.decode()
    return str(text.partition('<code id="key">')[2].partition("</code>")[0])


def test_the_list_shows_every_service_with_its_keys_and_models(admin: Client, indexed: Programme) -> None:
    model_services.register_service(name="Quiet <Co>", at=indexed.at)
    text = page(admin, SERVICES)
    assert "orator" in text
    assert "Quiet &lt;Co&gt;" in text
    assert "No key" in text


def test_an_administrator_registers_a_service_and_gives_it_a_key_that_is_shown_once(
    admin: Client, indexed: Programme
) -> None:
    answer = admin.post(SERVICES, {"name": "scribe"})
    service = ModelService.objects.get(name="scribe")
    assert answer.headers["Location"] == address_of(service)
    answer = admin.post(f"{address_of(service)}keys/", {"scopes": ["generations:write"], "lifetime_days": "30"})
    assert answer.status_code == 200
    assert "no-store" in answer.headers["Cache-Control"]
    text = key_in(answer)
    key = prove(text, at=timezone.now())
    assert (key.service, key.scopes) == (service, ["generations:write"])
    assert key.issued_by is not None
    assert key.issued_by.email == "admin@example.org"
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - timezone.now() <= timedelta(days=30)
    shown = page(admin, address_of(service))
    assert key.prefix in shown
    assert text not in shown


def test_a_name_that_is_taken_is_said_at_the_field(admin: Client, indexed: Programme) -> None:
    answer = admin.post(SERVICES, {"name": "orator"})
    assert answer.status_code == 422
    assert "already named" in answer.content.decode()


def test_a_key_needs_a_scope(admin: Client, indexed: Programme) -> None:
    answer = admin.post(f"{address_of(indexed.service)}keys/", {"lifetime_days": ""})
    assert answer.status_code == 422
    assert ServiceKey.objects.count() == 1


def test_a_key_is_rotated_with_an_overlap_and_revoked(admin: Client, indexed: Programme) -> None:
    old = ServiceKey.objects.get()
    answer = admin.post(f"{address_of(indexed.service)}keys/{old.prefix}/rotate/", {"overlap_days": "1"})
    new_text = key_in(answer)
    later = timezone.now() + timedelta(hours=23)
    assert prove(new_text, at=later).replaces == old
    assert prove(indexed.key, at=later) == old
    assert "Rotated, ending" in page(admin, address_of(indexed.service))
    answer = admin.post(f"{address_of(indexed.service)}keys/{old.prefix}/revoke/")
    acts = AuditEvent.objects.exclude(action="log_in").order_by("sequence").values_list("action", flat=True)
    assert list(acts) == ["rotate_key", "revoke_key"]
    assert answer.headers["Location"] == address_of(indexed.service)
    with pytest.raises(UnableToProve, match="revoked"):
        prove(indexed.key, at=timezone.now())


def test_a_key_that_was_rotated_before_is_not_rotated_again(admin: Client, indexed: Programme) -> None:
    address = f"{address_of(indexed.service)}keys/{ServiceKey.objects.get().prefix}/rotate/"
    admin.post(address, {"overlap_days": "7"})
    answer = admin.post(address, {"overlap_days": "7"})
    assert answer.status_code == 422
    assert "was not rotated" in answer.content.decode()
    assert admin.post(address, {"overlap_days": "4000"}).status_code == 422


def test_a_service_is_suspended_and_resumed(admin: Client, indexed: Programme) -> None:
    admin.post(f"{address_of(indexed.service)}suspend/")
    line = AuditEvent.objects.get(subject=f"service:{indexed.service.public_id}")
    assert (line.action, line.after, line.ip) == ("suspend_service", {"active": False}, "127.0.0.1")
    assert line.actor is not None
    with pytest.raises(UnableToProve, match="suspended"):
        prove(indexed.key, at=timezone.now())
    assert "Suspended" in page(admin, SERVICES)
    admin.post(f"{address_of(indexed.service)}resume/")
    prove(indexed.key, at=timezone.now())


def test_a_model_version_shows_what_it_was_trained_on_and_how_its_audit_went(admin: Client, indexed: Programme) -> None:
    address = f"/console/models/{indexed.model_version.public_id}/"
    assert address in page(admin, address_of(indexed.service))
    assert "Not evaluated" in page(admin, address)
    index = indexed.index
    assert index is not None
    figures = {"specific": {"lds": 0.4321, "low": 0.2, "high": 0.6}, "pro_rata": {"lds": 0.0, "low": -0.1, "high": 0.1}}
    shares = {"lds": 0.5123, "low": 0.4, "high": 0.6, "tv": 0.377, "holders": 18.0, "split": {"lds": 0.2987, "tv": 0.5}}
    paid = {
        "items": 50,
        "items_counted": 1082,
        "net_tails": False,
        "own_generations": {"rule_1": {**shares, "split_gain": 3.914}, "rule_2": {**shares, "split_gain": None}},
    }
    indexes.record_audit(
        index=index,
        at=indexed.at,
        report={
            "index_sha256": bytes(index.sha256 or b"").hex(),
            "passed": True,
            "weight_ppb": 250_000_000,
            "coalitions": 16,
            "own_generations": figures,
            "paid": paid,
        },
    )
    text = page(admin, address)
    assert "Audit passed" in text
    for figure in ("0.512", "0.299", "0.377", "× 3.91", "nobody paid", "pays the 50 items", "of 1082", "no item's pay"):
        assert figure in text
    assert "0.432" in text
    assert "25" in text
    assert indexed.works[0].title in text
    assert bytes(index.model_version.checkpoint_sha256 or b"").hex() in text


# --- builds and audits ----------------------------------------------------------------------------------------------
ASKED = {"attributor": "hybrid", "damping": "0.2", "nodes": "3", "k": "64", "lexical_weight": "0.25"}


def address_of_model(programme: Programme) -> str:
    return f"/console/models/{programme.model_version.public_id}/"


def address_of_index(index: AttributionIndex, act: str) -> str:
    return f"/console/indexes/{index.public_id}/{act}/"


def test_an_administrator_hands_a_build_to_the_workers(admin: Client, indexed: Programme) -> None:
    address = address_of_model(indexed)
    assert "Queue the build" in page(admin, address)
    answer = admin.post(f"{address}indexes/", ASKED)
    assert answer.headers["Location"] == address
    index = AttributionIndex.objects.get(queued_at__isnull=False)
    assert index.attributor == "hybrid"
    assert [index.config[name] for name in ("damping", "k", "lexical_weight")] == [0.2, 64, 0.25]
    assert len(index.config["nodes"]) == 3
    assert "The workers have done 0 of 1 steps" in page(admin, address)
    answer = admin.post(f"{address}indexes/", {**ASKED, "attributor": "lexical"})
    assert answer.status_code == 302
    assert AttributionIndex.objects.get(attributor="lexical").config.keys().isdisjoint({"damping", "lexical_weight"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"damping": "0"}, "greater than or equal to 0.001"),
        ({"nodes": "33"}, "less than or equal to 32"),
        ({"attributor": "encoder"}, "encoder is not one of the available choices"),
        ({"k": "many"}, "“many” is no whole number"),
    ],
)
def test_a_field_that_is_out_of_bounds_is_said_at_the_field(
    admin: Client, indexed: Programme, changed: dict[str, str], said: str
) -> None:
    answer = admin.post(f"{address_of_model(indexed)}indexes/", {**ASKED, **changed})
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert AttributionIndex.objects.get() == indexed.index


def test_a_configuration_that_is_built_already_is_refused_in_words(admin: Client, indexed: Programme) -> None:
    lexical = {**ASKED, "attributor": "lexical"}
    indexes.build_index(model_version=indexed.model_version, config={"attributor": "lexical"}, at=indexed.at)
    answer = admin.post(f"{address_of_model(indexed)}indexes/", lexical)
    assert answer.status_code == 422
    assert "has an index of this configuration already" in answer.content.decode()


@pytest.mark.parametrize(
    ("adapter", "offered", "fields"),
    [
        ("causal_lm", ["midpoint", "hybrid", "lexical"], {"damping", "nodes", "k", "lexical_weight"}),
        ("classifier", ["midpoint"], {"damping", "nodes", "k"}),
        ("encoder", ["encoder"], set()),
        ("pushed", ["pushed"], set()),
    ],
)
def test_what_can_be_chosen_is_what_can_be_computed_of_the_model(
    adapter: str, offered: list[str], fields: set[str]
) -> None:
    form = BuildIndexForm(ModelVersion(adapter=adapter))
    attributor = form.fields["attributor"]
    assert isinstance(attributor, ChoiceField)
    assert [name for name, _ in cast("list[tuple[str, str]]", attributor.choices)] == offered
    assert set(form.fields) == {"attributor", *fields}


def test_a_build_whose_steps_failed_is_queued_again(admin: Client, indexed: Programme) -> None:
    admin.post(f"{address_of_model(indexed)}indexes/", ASKED)
    index = AttributionIndex.objects.get(queued_at__isnull=False)
    assert "Queue the build again" not in page(admin, address_of_model(indexed))
    index.steps.update(failures=3, error="the disk was full")
    assert builds.steps_to_do(index=index) == []
    text = page(admin, address_of_model(indexed))
    assert "A step failed: the disk was full" in text
    assert "Queue the build again" in text
    admin.post(address_of_index(index, "again"))
    assert [step.failures for step in builds.steps_to_do(index=index)] == [0]


def test_a_basis_is_fitted_again(admin: Client, indexed: Programme) -> None:
    assert indexed.index is not None
    answer = admin.post(address_of_index(indexed.index, "refit"))
    assert answer.headers["Location"] == address_of_model(indexed)
    assert AttributionIndex.objects.get(queued_at__isnull=False).config["refit"] == 1


def test_a_model_that_is_set_aside_says_why_and_is_taken_up_by_an_administrator(
    admin: Client, indexed: Programme
) -> None:
    version = indexed.model_version
    indexed.report(indexed.generation())
    address = f"/console/models/{version.public_id}/"
    assert "set aside" not in page(admin, address)
    faults.record_failure(version.pk, "RuntimeError: <no kernel>", at=indexed.at, final=True)
    text = page(admin, address)
    assert "RuntimeError: &lt;no kernel&gt;" in text
    assert "1 waiting" in text
    auditor = staff("auditor")
    assert "Take it up again" not in page(auditor, address)
    assert auditor.post(f"{address}take-up/").status_code == 403
    answer = admin.post(f"{address}take-up/", follow=True)
    assert "is taken up again" in answer.content.decode()
    assert AuditEvent.objects.filter(action="take_up", subject=f"model_version:{version.public_id}").count() == 1
    assert "is not set aside" in admin.post(f"{address}take-up/", follow=True).content.decode()


def test_an_audit_is_handed_to_the_workers_and_made_once(admin: Client, indexed: Programme) -> None:
    assert indexed.index is not None
    admin.post(address_of_index(indexed.index, "audit"))
    text = page(admin, address_of_model(indexed))
    assert "Its evaluation was handed to the workers" in text
    assert "Audit it" not in text
    admin.post(address_of_index(indexed.index, "audit"))
    assert "Its evaluation is queued already" in page(admin, address_of_model(indexed))
    (waiting,) = evaluations.audits_to_do()
    sizes: dict[str, Any] = {"coalitions": 4, "generations": 8, "processes": 1, "controls": False}
    assert evaluations.take_audit(index_id=waiting, at=indexed.at, **sizes)
    assert not evaluations.take_audit(index_id=waiting, at=indexed.at, **sizes)
    index = AttributionIndex.objects.get()
    assert index.state in {"audited", "failed"}
    assert index.audit_queued_at is None
    assert "Audit it again" in page(admin, address_of_model(indexed))


def test_an_audit_that_cannot_be_made_says_why_and_waits_for_nothing(admin: Client, indexed: Programme) -> None:
    assert indexed.index is not None
    evaluations.queue_audit(index=indexed.index, at=indexed.at)
    with pytest.raises(Exception, match="4 holders have 6 different halves"):
        evaluations.take_audit(index_id=indexed.index.pk, at=indexed.at, coalitions=7, generations=8)
    assert evaluations.audits_to_do() == []
    assert "Its evaluation failed: 4 holders have 6 different halves" in page(admin, address_of_model(indexed))


def test_a_queued_audit_of_few_holders_retrains_every_half_of_them(indexed: Programme) -> None:
    assert indexed.index is not None
    evaluations.queue_audit(index=indexed.index, at=indexed.at)
    assert evaluations.take_audit(index_id=indexed.index.pk, at=indexed.at, generations=8, controls=False)
    report = AttributionIndex.objects.get().audit
    assert report is not None
    assert report["coalitions"] == 6


def test_an_index_that_is_not_built_is_not_queued_for_its_audit(programme: Programme) -> None:
    index = builds.queue_build(model_version=programme.model_version, at=programme.at)
    with pytest.raises(indexes.UnableToAuditIndex, match="built and not retired"):
        evaluations.queue_audit(index=index, at=programme.at)
    with pytest.raises(IntegrityError, match="only_a_built_index_is_queued"), transaction.atomic():
        AttributionIndex.objects.filter(pk=index.pk).update(audit_queued_at=programme.at)


def test_building_needs_a_recent_confirmation(admin: Client, indexed: Programme) -> None:
    session = admin.session
    session["account_authentication_methods"] = []
    session.save()
    assert indexed.index is not None
    for address in (f"{address_of_model(indexed)}indexes/", address_of_index(indexed.index, "audit")):
        assert "reauthenticate" in admin.post(address, ASKED).headers["Location"]
    assert AttributionIndex.objects.get().audit_queued_at is None


@pytest.mark.parametrize("role", ["auditor", "finance_maker"])
def test_other_staff_look_and_change_nothing(indexed: Programme, role: str) -> None:
    client = staff(role)
    shown = page(client, SERVICES) + page(client, address_of(indexed.service))
    assert "orator" in shown
    assert "Issue a key" not in shown
    assert "Revoke" not in shown
    assert "Register a service" not in shown
    prefix = ServiceKey.objects.get().prefix
    for address in (
        "",
        f"{indexed.service.public_id}/keys/",
        f"{indexed.service.public_id}/suspend/",
        f"{indexed.service.public_id}/keys/{prefix}/revoke/",
        f"{indexed.service.public_id}/keys/{prefix}/rotate/",
    ):
        assert client.post(f"{SERVICES}{address}", {"name": "x", "overlap_days": "0"}).status_code == 403
    assert indexed.index is not None
    shown = page(client, address_of_model(indexed))
    assert "Queue the build" not in shown
    assert "Audit it" not in shown
    for act in ("again", "refit", "audit"):
        assert client.post(address_of_index(indexed.index, act)).status_code == 403
    assert client.post(f"{address_of_model(indexed)}indexes/", ASKED).status_code == 403
    assert AttributionIndex.objects.get().audit_queued_at is None
    prove(indexed.key, at=timezone.now())


def test_who_is_no_staff_sees_nothing(indexed: Programme) -> None:
    client = Client(headers={"Host": "127.0.0.1"})
    assert client.get(SERVICES).headers["Location"].startswith("/accounts/login/")
    client.force_login(indexed.user, backend="allauth.account.auth_backends.AuthenticationBackend")
    assert client.get(SERVICES).status_code == 403


def test_a_service_that_does_not_exist_is_not_found(admin: Client, indexed: Programme) -> None:
    nobody = "01999999-0000-7000-8000-000000000000"
    assert page(admin, f"{SERVICES}{nobody}/", 404)
    assert page(admin, f"/console/models/{nobody}/", 404)
    assert admin.post(f"{address_of(indexed.service)}keys/nokey/revoke/").status_code == 404


def test_issuing_needs_a_recent_confirmation(admin: Client, indexed: Programme) -> None:
    session = admin.session
    stale = (datetime.now(tz=NOW.tzinfo) - timedelta(minutes=6)).timestamp()
    session["account_authentication_methods"] = [
        {**record, "at": stale} for record in session["account_authentication_methods"]
    ]
    session.save()
    answer = admin.post(f"{address_of(indexed.service)}keys/", {"scopes": ["generations:write"]})
    assert answer.status_code == 302
    assert "reauthenticate" in answer.headers["Location"]
    assert ServiceKey.objects.count() == 1


def test_receipts_show_pictures_only_with_the_consent_of_their_service(admin: Client, indexed: Programme) -> None:
    address = address_of(indexed.service)
    assert "do not show it" in page(admin, address)
    assert "Contributors see a small picture" in admin.post(f"{address}show-outputs/", follow=True).content.decode()
    line = AuditEvent.objects.get(subject=f"service:{indexed.service.public_id}")
    assert (line.action, line.after) == ("show_outputs", {"shows_outputs": True})
    assert "do not show it" in admin.post(f"{address}hide-outputs/", follow=True).content.decode()
