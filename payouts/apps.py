from django.apps import AppConfig


class PayoutsConfig(AppConfig):
    name = "payouts"

    def ready(self) -> None:
        # Registers the checks of `manage.py check --deploy`.
        from payouts import checks  # noqa: F401
