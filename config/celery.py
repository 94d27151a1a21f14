"""The Celery application. A message is only a hint: the database row is the queue, and the beat's sweeps find the rows
of lost messages. A doubled or reordered message is therefore harmless.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("tributary")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
