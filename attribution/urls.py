from django.urls import path

from attribution import api, console, console_indexes, portal, reference

app_name = "attribution"
urlpatterns = [
    path("api/v1/docs", reference.reference, name="reference"),
    path("api/v1/generations", api.GenerationsView.as_view(), name="generations"),
    path("api/v1/model-versions", api.ModelVersionsView.as_view(), name="model_versions"),
    path("portal/models/", portal.trained_models, name="trained_models"),
    path("portal/models/of/<uuid:public_id>/", portal.work_models, name="work_models"),
    path("console/services/", console.services, name="services"),
    path("console/services/<uuid:public_id>/", console.service, name="service"),
    path("console/services/<uuid:public_id>/keys/", console.issue_key, name="issue_key"),
    path("console/services/<uuid:public_id>/keys/<str:prefix>/rotate/", console.rotate_key, name="rotate_key"),
    path("console/services/<uuid:public_id>/keys/<str:prefix>/revoke/", console.revoke_key, name="revoke_key"),
    path("console/services/<uuid:public_id>/suspend/", console.set_active, {"active": False}, name="suspend_service"),
    path("console/services/<uuid:public_id>/resume/", console.set_active, {"active": True}, name="resume_service"),
    path("console/models/<uuid:public_id>/", console.model_version, name="model_version"),
    path("console/models/<uuid:public_id>/indexes/", console_indexes.queue_build, name="queue_build"),
    path("console/indexes/<uuid:public_id>/again/", console_indexes.queue_again, name="queue_again"),
    path("console/indexes/<uuid:public_id>/refit/", console_indexes.refit, name="refit_index"),
    path("console/indexes/<uuid:public_id>/audit/", console_indexes.queue_audit, name="queue_audit"),
]
