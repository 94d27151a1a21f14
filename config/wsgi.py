"""The web process. It never loads torch: numerical work belongs to the workers."""

import os

from django.core.wsgi import get_wsgi_application

from config.chunks import ReadChunks

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = ReadChunks(get_wsgi_application())
