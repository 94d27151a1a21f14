"""Authentication of API requests by service key, and the scopes that a key allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from rest_framework import authentication, permissions
from rest_framework.request import Request

from attribution.models import ModelService, ServiceKey
from attribution.operations.keys import prove


@dataclass(frozen=True, slots=True)
class Principal:
    """The service behind a request, in the place where REST framework expects a user."""

    service: ModelService
    scopes: frozenset[str]
    prefix: str
    is_authenticated: bool = True
    is_active: bool = True

    @property
    def pk(self) -> int:
        """Key for throttling: all keys of one service share its allowance."""
        return self.service.pk


class ServiceKeyAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer trib_...`"""

    def authenticate(self, request: Request) -> tuple[Principal, ServiceKey] | None:
        header = authentication.get_authorization_header(request)
        scheme, _, text = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        key = prove(text.strip().decode("ascii", "replace"), at=timezone.now())
        return Principal(key.service, frozenset(key.scopes), key.prefix), key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="Tributary"'


def principal_of(request: Request) -> Principal:
    """Return the service and the scopes behind the key of the request."""
    principal: Any = request.user
    assert isinstance(principal, Principal), "A view that HasScope guards has a principal."
    return principal


def service_of(request: Request) -> ModelService:
    """Return the service that owns the key of the request."""
    return principal_of(request).service


class UnableToAct(Exception):
    """The key was proved, and does not allow this."""

    status = 403
    problem = "missing-scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This needs a key with the scope {scope}.")
        self.members = {"scope": scope}


class HasScope(permissions.BasePermission):
    """The key has the scope that the view names for the method: `scopes = {"POST": "generations:write"}`."""

    def has_permission(self, request: Request, view: Any) -> bool:
        principal: Any = request.user
        if not isinstance(principal, Principal):
            return False
        # A method without a scope is open to any key of the service.
        scope = view.scopes.get("GET" if request.method == "HEAD" else request.method)
        if scope is not None and scope not in principal.scopes:
            raise UnableToAct(scope)
        return True
