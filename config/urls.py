"""Where everything answers. Each app names its own addresses; the root includes them."""

from django.urls import include, path

urlpatterns = [
    path("accounts/", include("allauth.urls")),
]
