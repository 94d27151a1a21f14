from django.apps import AppConfig


class PayoutsConfig(AppConfig):
    name = "payouts"

    def ready(self) -> None:
        # Registers the checks of `manage.py check --deploy`.
        from contributors.queries import countries
        from payouts import checks  # noqa: F401
        from payouts.console.subjects import FINDERS
        from payouts.operations import details, factors, links, policies
        from payouts.rails import choice
        from people.console import subjects
        from people.queries import proposals

        subjects.register(FINDERS)
        countries.register(choice.is_payable)

        # Links and resets again, with their effects on accounts.
        proposals.register(policies.KIND, links.KIND, links.END_KIND, details.KIND, factors.KIND)
