"""People with a login, and the audit log of their acts."""

from people.models.audit import AuditEvent
from people.models.users import STAFF_ROLES, User, UserManager, uuid7

__all__ = ["STAFF_ROLES", "AuditEvent", "User", "UserManager", "uuid7"]
