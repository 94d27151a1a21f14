from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class ConfigApp(AppConfig):
    name = "config"
    label = "config"


class TablesApp(AdminConfig):
    default_site = "config.tables.TablesSite"
