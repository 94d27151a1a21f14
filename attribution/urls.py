from django.urls import path

from attribution.api import generations, model_versions, reference
from attribution.console import indexes, model_services
from attribution.portal import model_versions as portal

app_name = "attribution"
urlpatterns = [
    path("api/v1/docs", reference.reference, name="reference"),
    path("api/v1/generations", generations.GenerationsView.as_view(), name="generations"),
    path("api/v1/model-versions", model_versions.ModelVersionsView.as_view(), name="model_versions"),
    path("portal/models/", portal.trained_models, name="trained_models"),
    path("portal/models/of/<uuid:public_id>/", portal.work_models, name="work_models"),
    path("console/services/", model_services.services, name="services"),
    path("console/services/<uuid:public_id>/", model_services.service, name="service"),
    path("console/services/<uuid:public_id>/keys/", model_services.issue_key, name="issue_key"),
    path("console/services/<uuid:public_id>/keys/<str:prefix>/rotate/", model_services.rotate_key, name="rotate_key"),
    path("console/services/<uuid:public_id>/keys/<str:prefix>/revoke/", model_services.revoke_key, name="revoke_key"),
    path(
        "console/services/<uuid:public_id>/suspend/",
        model_services.set_active,
        {"active": False},
        name="suspend_service",
    ),
    path(
        "console/services/<uuid:public_id>/resume/", model_services.set_active, {"active": True}, name="resume_service"
    ),
    path(
        "console/services/<uuid:public_id>/show-outputs/",
        model_services.set_shows_outputs,
        {"shown": True},
        name="show_outputs",
    ),
    path(
        "console/services/<uuid:public_id>/hide-outputs/",
        model_services.set_shows_outputs,
        {"shown": False},
        name="hide_outputs",
    ),
    path("console/models/<uuid:public_id>/", model_services.model_version, name="model_version"),
    path("console/models/<uuid:public_id>/take-up/", model_services.take_up, name="take_up_model"),
    path("console/models/<uuid:public_id>/indexes/", indexes.queue_build, name="queue_build"),
    path("console/indexes/<uuid:public_id>/again/", indexes.queue_again, name="queue_again"),
    path("console/indexes/<uuid:public_id>/refit/", indexes.refit, name="refit_index"),
    path("console/indexes/<uuid:public_id>/audit/", indexes.queue_audit, name="queue_audit"),
]
