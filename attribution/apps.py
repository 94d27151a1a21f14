from django.apps import AppConfig


class AttributionConfig(AppConfig):
    name = "attribution"

    def ready(self) -> None:
        from attribution.operations import base_pool
        from people.queries import proposals

        proposals.register(base_pool.KIND)
