"""Grant the application role its use of tables to come. Runs before every other migration, and is made by hand."""

from django.db import migrations

PRIVILEGES = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'tributary_app') THEN
    RAISE EXCEPTION 'The role tributary_app does not exist.'
      USING HINT = 'Run `python manage.py setup_database`, which creates it, in place of migrate.';
  END IF;
END $$;
GRANT USAGE ON SCHEMA public TO tributary_app;
ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO tributary_app;
ALTER DEFAULT PRIVILEGES GRANT USAGE, SELECT ON SEQUENCES TO tributary_app;
GRANT SELECT ON django_migrations TO tributary_app;
"""


class Migration(migrations.Migration):
    run_before = [("contenttypes", "0001_initial"), ("sessions", "0001_initial")]
    operations = [migrations.RunSQL(PRIVILEGES, migrations.RunSQL.noop)]
