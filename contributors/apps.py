from django.apps import AppConfig


class ContributorsConfig(AppConfig):
    name = "contributors"

    def ready(self) -> None:
        from contributors.operations import links
        from people.queries import proposals

        proposals.register(links.KIND, links.END_KIND)
