"""Model services and their keys: which callers may report, and with which credential."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from attribution.models import ModelService, ServiceKey
from attribution.operations.keys import NewKey, new_key
from people.actor import logged
from people.models import User

KEYS_IN_FORCE_MAX = 20
OVERLAP = timedelta(days=7)
OVERLAP_MAX = timedelta(days=90)


class UnableToRegisterService(Exception):
    """The name is empty, too long or taken."""

    status = 409
    problem = "unable-to-register-service"


@logged("service", "name", key="public_id")
def register_service(*, name: str, at: datetime, by: User | None = None) -> ModelService:
    """Register a model service under a name of its own. `by` is the acting member of staff.

    Raises UnableToRegisterService.
    """
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise UnableToRegisterService("A service's name has 1 to 100 printable characters.")
    try:
        with transaction.atomic():
            return ModelService.objects.create(name=name, created_at=at)
    except IntegrityError:
        raise UnableToRegisterService(f"A service is already named {name!r}.") from None


class UnableToSuspendService(Exception):
    """The service is in that state already."""

    status = 409
    problem = "unable-to-suspend-service"


@logged("service", "active", key="public_id")
def suspend_service(*, service: ModelService, at: datetime, by: User | None = None) -> ModelService:
    """Refuse every key of the service until it is resumed. Its reports stay."""
    return _set_active(service, active=False)


@logged("service", "active", key="public_id")
def resume_service(*, service: ModelService, at: datetime, by: User | None = None) -> ModelService:
    """Accept the keys of a suspended service again."""
    return _set_active(service, active=True)


def _set_active(service: ModelService, *, active: bool) -> ModelService:
    changed = ModelService.objects.filter(pk=service.pk).exclude(active=active).update(active=active)
    if not changed:
        raise UnableToSuspendService(f"{service.name} is {'active' if active else 'suspended'} already.")
    service.active = active
    return service


class UnableToIssueKey(Exception):
    """The scopes are unknown, the end lies in the past, or the service has too many keys in force."""

    status = 409
    problem = "unable-to-issue-key"


@logged("service", "prefix", "scopes", "expires_at", key="service.public_id")
def issue_key(
    *,
    service: ModelService,
    scopes: Collection[str],
    at: datetime,
    expires_at: datetime | None = None,
    by: User | None = None,
) -> tuple[ServiceKey, str]:
    """Issue a new key and return its text, which is shown here and never again. `by` is the user that asked for it.

    Raises UnableToIssueKey for unknown or no scopes, an end before the start, or too many keys in force.
    """
    wanted = sorted(set(scopes))
    unknown = set(wanted) - set(ServiceKey.Scope.values)
    if unknown or not wanted:
        raise UnableToIssueKey(f"A key's scopes are some of {', '.join(ServiceKey.Scope.values)}.")
    if expires_at is not None and expires_at <= at:
        raise UnableToIssueKey("A key cannot end before it begins.")
    with transaction.atomic():
        # The service's row is the lock under which its keys are counted.
        ModelService.objects.select_for_update(no_key=True).get(pk=service.pk)
        if ServiceKey.objects.filter(service=service).in_force(at).count() >= KEYS_IN_FORCE_MAX:
            raise UnableToIssueKey(f"{service.name} has {KEYS_IN_FORCE_MAX} keys in force; revoke one first.")
        made = new_key()
        return _create_key(service, made, wanted, at=at, expires_at=expires_at, by=by), made.text


class UnableToRotateKey(Exception):
    """The key is not in force, or was rotated before."""

    status = 409
    problem = "unable-to-rotate-key"


@logged("service", "prefix", "scopes", "expires_at", "replaces.prefix", key="service.public_id")
def rotate_key(
    *, key: ServiceKey, at: datetime, overlap: timedelta = OVERLAP, by: User | None = None
) -> tuple[ServiceKey, str]:
    """Issue a new key with the same scopes. The old one goes on for `overlap`, so that callers can change over.

    Raises UnableToRotateKey for too long an overlap, a key not in force, or one that was rotated before.
    """
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise UnableToRotateKey(f"Both keys may be in force for up to {OVERLAP_MAX.days} days.")
    with transaction.atomic():
        old = ServiceKey.objects.select_for_update(of=("self",), no_key=True).select_related("service").get(pk=key.pk)
        if not old.in_force(at):
            raise UnableToRotateKey("Only a key in force can be rotated.")
        if ServiceKey.objects.filter(replaces=old).exists():
            raise UnableToRotateKey("The key was rotated before.")
        made = new_key()
        # The new key lives as long as the old one was given, from today; without an end, without an end.
        lifetime = None if old.expires_at is None else at + (old.expires_at - old.created_at)
        new = _create_key(old.service, made, old.scopes, at=at, expires_at=lifetime, by=by, replaces=old)
        old.expires_at = at + overlap if old.expires_at is None else min(old.expires_at, at + overlap)
        old.save(update_fields=["expires_at"])
        return new, made.text


@logged("service", "shows_outputs", key="public_id")
def show_outputs(*, service: ModelService, shown: bool, at: datetime, by: User | None = None) -> ModelService:
    """Let receipts show the service's pictures, small, to the contributors of their works; or end that."""
    ModelService.objects.filter(pk=service.pk).update(shows_outputs=shown)
    service.shows_outputs = shown
    return service


class UnableToRevokeKey(Exception):
    """The key was revoked before."""

    status = 409
    problem = "unable-to-revoke-key"


@logged("service", "prefix", "revoked_at", key="service.public_id")
def revoke_key(*, key: ServiceKey, at: datetime, by: User | None = None) -> ServiceKey:
    """End a key now and for good. Raises UnableToRevokeKey if it was revoked before."""
    if not ServiceKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=at):
        raise UnableToRevokeKey("The key was revoked before.")
    key.revoked_at = at
    return key


def _create_key(
    service: ModelService,
    made: NewKey,
    scopes: Collection[str],
    *,
    at: datetime,
    expires_at: datetime | None,
    by: User | None,
    replaces: ServiceKey | None = None,
) -> ServiceKey:
    return ServiceKey.objects.create(
        service=service,
        prefix=made.prefix,
        digest=made.digest,
        scopes=list(scopes),
        created_at=at,
        expires_at=expires_at,
        issued_by=by,
        replaces=replaces,
    )
