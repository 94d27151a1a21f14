"""The groups of the finance console. They carry no permissions: a page names the roles that it is for."""

from django.db import migrations

ROLES = ("finance_maker", "finance_checker", "compliance", "auditor", "admin")


def make_groups(apps, schema_editor):
    group = apps.get_model("auth", "Group")
    for name in ROLES:
        group.objects.get_or_create(name=name)


class Migration(migrations.Migration):
    dependencies = [("contributors", "0001_initial")]
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
