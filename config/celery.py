"""The Celery application. A message is only a hint: the database row is the queue, and the beat's sweeps find the rows
of lost messages. A doubled or reordered message is therefore harmless.
"""

from __future__ import annotations

import os
import sys

import django
from celery import Celery
from celery.signals import beat_init, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("tributary")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_init.connect
@beat_init.connect
def refuse_live_key(**_: object) -> None:
    """End a worker or the beat with a live Stripe key while one person tries the programme out."""
    django.setup()
    from config.live_keys import UnableToUseLiveKey, refuse_live_key_on_trial

    try:
        refuse_live_key_on_trial()
    except UnableToUseLiveKey as error:
        # Celery logs an ordinary error and goes on, and its beat keeps the words of an exit to itself.
        print(error, file=sys.__stderr__, flush=True)
        raise SystemExit(1) from error
