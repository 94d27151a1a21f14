"""People with a login, invitations, the programme's own data, proposals, webhooks, and the audit log of acts."""

from people.models.audit import AuditEvent
from people.models.invitations import Invitation
from people.models.programme import Programme
from people.models.proposals import TWO_PEOPLE, Proposal, ProposalState
from people.models.staff import FactorReset, RoleChange
from people.models.users import FINANCE_ROLES, STAFF_ROLES, ConfirmedFactor, User, UserManager, uuid7
from people.models.webhooks import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookMessage

__all__ = [
    "FINANCE_ROLES",
    "STAFF_ROLES",
    "TWO_PEOPLE",
    "AuditEvent",
    "ConfirmedFactor",
    "FactorReset",
    "Invitation",
    "Programme",
    "Proposal",
    "ProposalState",
    "RoleChange",
    "User",
    "UserManager",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookMessage",
    "uuid7",
]
