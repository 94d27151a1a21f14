from django.apps import AppConfig


class PeopleConfig(AppConfig):
    name = "people"

    def ready(self) -> None:
        from people.operations import resets, staff
        from people.queries import proposals

        proposals.register(staff.KIND, resets.KIND)
