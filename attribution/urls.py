from django.urls import path

from attribution import api, reference

app_name = "attribution"
urlpatterns = [
    path("api/v1/docs", reference.reference, name="reference"),
    path("api/v1/generations", api.GenerationsView.as_view(), name="generations"),
    path("api/v1/model-versions", api.ModelVersionsView.as_view(), name="model_versions"),
]
