"""The sandbox as a process of its own: the product's database and keys, and nothing else of the product.

Of the settings only those are kept that say where the database is and which keys are known. The apps, the middleware,
the addresses and the templates are the sandbox's own; they are put in place before Django is set up, in a process that
serves nothing else.
"""

import os

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
settings.INSTALLED_APPS = ["stripe_sandbox"]
settings.MIDDLEWARE = []
settings.ROOT_URLCONF = "stripe_sandbox.urls"
settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
django.setup(set_prefix=False)

from stripe_sandbox import background  # noqa: E402  (models load only after the setup)

stopping = background.start()
application = WSGIHandler()
