from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate


class ConfigApp(AppConfig):
    name = "config"
    label = "config"

    def ready(self) -> None:
        from config.scripts import apply_after_migrations

        post_migrate.connect(apply_after_migrations, sender=self, dispatch_uid="config.scripts")


# Names of tables that are no plain nouns.
PLURALS = {"left out": "skipped payees", "unaccrued": "unaccrued generations", "programme": "programme"}


def plural(name: str) -> str:
    """The plural of a table's name: Django only adds an s."""
    if name in PLURALS:
        return PLURALS[name]
    if name.endswith("y") and name[-2:-1] not in "aeiou":
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith(("s", "x", "ch", "sh")) else f"{name}s"


class TablesApp(AdminConfig):
    default_site = "config.tables.TablesSite"

    def ready(self) -> None:
        super().ready()
        from django.contrib import admin

        from people.admin import ReadOnlyAdmin

        # Other packages register pages of their own on the way, which a superuser could write through: roles, proven
        # addresses, second factors with their secrets.
        for model, page in list(admin.site._registry.items()):
            if not isinstance(page, ReadOnlyAdmin):
                admin.site.unregister(model)
                continue
            options = model._meta
            if "verbose_name_plural" not in options.original_attrs:
                options.verbose_name_plural = plural(str(options.verbose_name))
