"""Addresses of the staff pages and the audit log."""

from django.urls import path

from people.console import log, staff

app_name = "people"
urlpatterns = [
    path("console/staff/", staff.staff, name="staff"),
    path("console/staff/<int:user_id>/roles/", staff.change_roles, name="change_roles"),
    path("console/audit/", log.audit, name="audit"),
    path("console/audit.csv", log.audit_csv, name="audit_csv"),
]
