"""Addresses of the staff pages, the proposals, the audit log, one-time addresses and the profile."""

from django.urls import path

from people.console import log, mail, programme, proposals, staff, trial
from people.portal import joining, profile

app_name = "people"
urlpatterns = [
    path("join/<str:token>/", joining.join, name="join"),
    path("profile/", profile.profile, name="profile"),
    path("console/staff/", staff.staff, name="staff"),
    path("console/staff/invite/", staff.invite, name="invite"),
    path("console/staff/invitations/<uuid:public_id>/resend/", staff.resend, name="resend_invitation"),
    path("console/staff/invitations/<uuid:public_id>/revoke/", staff.revoke, name="revoke_invitation"),
    path("console/staff/<int:user_id>/roles/", staff.change_roles, name="change_roles"),
    path("console/staff/<int:user_id>/factors/", staff.confirm_factors, name="confirm_factors"),
    path("console/staff/<int:user_id>/reset/", staff.reset_factors, name="reset_factors"),
    path("console/mail/", mail.mail, name="mail"),
    path("console/programme/", programme.programme, name="programme"),
    path("console/proposals/", proposals.proposals, name="proposals"),
    path("console/proposals/<slug:key>/<int:number>/", proposals.proposal, name="proposal"),
    path("console/trial/", trial.trial, name="trial"),
    path("console/audit/", log.audit, name="audit"),
    path("console/audit.csv", log.audit_csv, name="audit_csv"),
]
