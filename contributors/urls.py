"""Addresses of the entrance, the works and the consent of a contributor."""

from django.urls import path

from contributors.console import imports
from contributors.portal import consent, entrance, members, splits, webhooks, works

app_name = "contributors"
urlpatterns = [
    path("after-login/", entrance.after_login, name="after_login"),
    path("portal/register/", entrance.register, name="register"),
    path("portal/choose/", entrance.choose, name="choose"),
    path("claim/<str:token>/", members.claim, name="claim"),
    path("portal/people/", members.people, name="people"),
    path("portal/people/<int:membership_id>/role/", members.change, name="change_member"),
    path("portal/people/<int:membership_id>/end/", members.end, name="end_member"),
    path("portal/people/invitations/<uuid:public_id>/revoke/", members.revoke, name="revoke_member"),
    path("console/contributors/import/", imports.import_contributors, name="import"),
    path("portal/works/", works.works, name="works"),
    path("portal/works/upload/", works.upload, name="upload"),
    path("portal/works/<uuid:public_id>/", works.work, name="work"),
    path("portal/works/<uuid:public_id>/content", works.content, name="content"),
    path("portal/works/<uuid:public_id>/thumbnail", works.thumbnail, name="thumbnail"),
    path("portal/works/<uuid:public_id>/split/", splits.propose_for_work, name="split_work"),
    path("portal/splits/", splits.splits, name="splits"),
    path("portal/splits/<uuid:public_id>/propose/", splits.propose, name="split_propose"),
    path("portal/splits/<uuid:public_id>/contest/", splits.contest, name="split_contest"),
    path("portal/splits/proposals/<uuid:public_id>/answer/", splits.answer, name="split_answer"),
    path("portal/webhooks/", webhooks.webhooks, name="webhooks"),
    path("portal/webhooks/<uuid:public_id>/remove/", webhooks.change, {"what": "remove"}, name="remove_webhooks"),
    path("portal/webhooks/<uuid:public_id>/resume/", webhooks.change, {"what": "resume"}, name="resume_webhooks"),
    path("portal/webhooks/messages/<uuid:delivery_id>/replay/", webhooks.replay, name="replay_webhook"),
    path("portal/datasets/", works.datasets, name="datasets"),
    path("portal/datasets/new/", works.dataset_new, name="dataset_new"),
    path("portal/consent/", consent.consent, name="consent"),
    path("portal/consent/grant/", consent.grant, name="consent_grant"),
    path("portal/consent/withdraw/", consent.withdraw, name="consent_withdraw"),
    path("portal/consent/history/", consent.history, name="consent_history"),
]
