"""The sandbox as a process of its own: the same settings as the product, but its own addresses and no middleware.

The product's middleware (sessions, CSRF, log-in, metrics) has nothing to do here; the settings are changed before the
first request, in a process that serves nothing else.
"""

import os

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)
settings.ROOT_URLCONF = "payouts.sandbox.urls"
settings.MIDDLEWARE = []

from payouts.sandbox import background  # noqa: E402  (models load only after the setup)

stopping = background.start()
application = WSGIHandler()
