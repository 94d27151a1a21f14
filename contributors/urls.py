"""Addresses of the entrance, the works and the consent of a contributor."""

app_name = "contributors"
urlpatterns: list[object] = []
