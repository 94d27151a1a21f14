"""People with a login, their invitations, the programme's own data, webhooks, and the audit log of acts."""

from people.models.audit import AuditEvent
from people.models.invitations import Invitation
from people.models.programme import Programme
from people.models.users import FINANCE_ROLES, STAFF_ROLES, User, UserManager, uuid7
from people.models.webhooks import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookMessage

__all__ = [
    "FINANCE_ROLES",
    "STAFF_ROLES",
    "AuditEvent",
    "Invitation",
    "Programme",
    "User",
    "UserManager",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookMessage",
    "uuid7",
]
