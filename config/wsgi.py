"""The web process. It never loads torch: numerical work belongs to the workers."""

import os

from django.core.wsgi import get_wsgi_application
from django.utils.module_loading import import_string

from config.chunks import ReadChunks

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = ReadChunks(get_wsgi_application())
# After the set-up of Django. An error here ends gunicorn with its words.
import_string("config.live_keys.refuse_live_key_on_trial")()
