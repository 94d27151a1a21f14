from django.urls import path

from attribution.api import generations, model_versions, reference, webhooks
from attribution.api.gateways import cloudevents, litellm, otlp
from attribution.console import gateways, indexes, model_services
from attribution.portal import model_versions as portal

app_name = "attribution"
urlpatterns = [
    path("api/v1/docs", reference.reference, name="reference"),
    path("api/v1/generations", generations.GenerationsView.as_view(), name="generations"),
    path("api/v1/model-versions", model_versions.ModelVersionsView.as_view(), name="model_versions"),
    path("api/v1/ingest/litellm", litellm.LiteLLMView.as_view(), name="ingest_litellm"),
    path("api/v1/ingest/cloudevents", cloudevents.CloudEventsView.as_view(), name="ingest_cloudevents"),
    path("api/v1/otlp/v1/traces", otlp.TracesView.as_view(), name="ingest_otlp_traces"),
    path("api/v1/webhook-endpoints", webhooks.WebhookEndpointsView.as_view(), name="webhook_endpoints"),
    path("api/v1/webhook-endpoints/<uuid:public_id>", webhooks.WebhookEndpointView.as_view(), name="webhook_endpoint"),
    path(
        "api/v1/webhook-endpoints/<uuid:public_id>/secret",
        webhooks.WebhookSecretView.as_view(),
        name="webhook_secret",
    ),
    path(
        "api/v1/webhook-endpoints/<uuid:public_id>/resume",
        webhooks.WebhookResumeView.as_view(),
        name="webhook_resume",
    ),
    path(
        "api/v1/webhook-endpoints/<uuid:public_id>/deliveries",
        webhooks.WebhookDeliveriesView.as_view(),
        name="webhook_deliveries",
    ),
    path(
        "api/v1/webhook-endpoints/<uuid:public_id>/deliveries/<uuid:delivery_id>/replay",
        webhooks.WebhookReplayView.as_view(),
        name="webhook_replay",
    ),
    path("portal/models/", portal.trained_models, name="trained_models"),
    path("portal/models/of/<uuid:public_id>/", portal.work_models, name="work_models"),
    path("console/services/", model_services.services, name="services"),
    path("console/services/<uuid:public_id>/", model_services.service, name="service"),
    path("console/services/<uuid:public_id>/gateways/", gateways.gateways, name="gateways"),
    path("console/services/<uuid:public_id>/names/<uuid:name_id>/end/", gateways.end_name, name="end_name"),
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
