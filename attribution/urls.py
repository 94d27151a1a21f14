from django.urls import path

from attribution.api import generations, manifests, model_versions, reference, uploads, webhooks, works
from attribution.api import indexes as index_api
from attribution.api.gateways import cloudevents, litellm, otlp
from attribution.console import gateways, indexes, mandates, model_services
from attribution.console import model_versions as console_versions
from attribution.console import webhooks as console_webhooks
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
    path("api/v1/model-versions/<str:name>", model_versions.ModelVersionView.as_view(), name="model_version_api"),
    path("api/v1/model-versions/<str:name>/manifest", manifests.ManifestView.as_view(), name="manifest"),
    path("api/v1/model-versions/<str:name>/indexes", index_api.IndexesView.as_view(), name="indexes"),
    path("api/v1/model-versions/<str:name>/retire", model_versions.RetireView.as_view(), name="retire_api"),
    path("api/v1/model-versions/<str:name>/supersede", model_versions.SupersedeView.as_view(), name="supersede_api"),
    path("api/v1/indexes/<uuid:id>", index_api.IndexView.as_view(), name="index"),
    path("api/v1/indexes/<uuid:id>/coalitions", index_api.CoalitionsView.as_view(), name="coalitions"),
    path("api/v1/indexes/<uuid:id>/evaluations", index_api.EvaluationsView.as_view(), name="evaluations"),
    path("api/v1/works", works.WorksView.as_view(), name="works"),
    path("api/v1/works/<uuid:id>/content", works.ContentView.as_view(), name="work_content"),
    path("api/v1/datasets", works.DatasetsView.as_view(), name="datasets"),
    path("api/v1/consents", works.ConsentsView.as_view(), name="consents"),
    path("api/v1/uploads", uploads.UploadsView.as_view(), name="uploads"),
    path("api/v1/uploads/<uuid:id>", uploads.UploadView.as_view(), name="upload"),
    path("api/v1/uploads/<uuid:id>/parts", uploads.PartsView.as_view(), name="upload_parts"),
    path("api/v1/uploads/<uuid:id>/complete", uploads.CompleteView.as_view(), name="complete_upload"),
    path("portal/models/", portal.trained_models, name="trained_models"),
    path("portal/models/of/<uuid:public_id>/", portal.work_models, name="work_models"),
    path("console/services/", model_services.services, name="services"),
    path("console/services/<uuid:public_id>/", model_services.service, name="service"),
    path("console/services/<uuid:public_id>/gateways/", gateways.gateways, name="gateways"),
    path("console/services/<uuid:public_id>/names/<uuid:name_id>/end/", gateways.end_name, name="end_name"),
    path("console/services/<uuid:public_id>/webhooks/", console_webhooks.webhooks, name="webhooks"),
    path(
        "console/services/<uuid:public_id>/webhooks/<uuid:endpoint_id>/resume/",
        console_webhooks.resume,
        name="resume_webhooks",
    ),
    path(
        "console/services/<uuid:public_id>/deliveries/<uuid:delivery_id>/replay/",
        console_webhooks.replay,
        name="replay_webhook",
    ),
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
    path("console/services/<uuid:public_id>/texts/", model_services.set_retention, name="set_retention"),
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
    path("console/services/<uuid:public_id>/models/new/", console_versions.register_version, name="register_version"),
    path("console/services/<uuid:public_id>/mandates/", mandates.service_mandates, name="mandates"),
    path("console/mandates/<uuid:public_id>/revoke/", mandates.revoke_mandate, name="revoke_mandate"),
    path("console/models/<uuid:public_id>/manifest/", console_versions.hand_over_manifest, name="hand_over_manifest"),
    path("console/models/<uuid:public_id>/retire/", console_versions.retire_version, name="retire_version"),
    path("console/models/<uuid:public_id>/indexes/", indexes.queue_build, name="queue_build"),
    path("console/indexes/<uuid:public_id>/base-pool/", indexes.propose_base_pool, name="propose_base_pool"),
    path("console/indexes/<uuid:public_id>/again/", indexes.queue_again, name="queue_again"),
    path("console/indexes/<uuid:public_id>/refit/", indexes.refit, name="refit_index"),
    path("console/indexes/<uuid:public_id>/audit/", indexes.queue_audit, name="queue_audit"),
]
