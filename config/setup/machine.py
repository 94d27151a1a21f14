"""Checks of the machine and its servers: database, roles, broker, workers, mail, Stripe, disk, time."""

from __future__ import annotations

import shutil
import socket
from datetime import datetime
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.utils import timezone
from kombu import Connection

from config.celery import app
from config.engine.installation import site_url
from config.engine.roles import APP_ROLE
from config.scripts import waiting
from config.setup.steps import Finding
from people import outbound
from people.queries.mail import destination
from people.queries.programme import has_live_key, programme

DISK_BYTES_MIN = 2 * 2**30
CLOCK_SECONDS_MAX = 5.0
POSTGRES_MIN = 150_000
QUEUES = {"default", "payouts", "attribution", "builds"}


def database(at: datetime) -> Finding:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int, current_setting('server_version')")
        number, name = cursor.fetchone()
    if number < POSTGRES_MIN:
        return Finding("broken", f"PostgreSQL {name} is too old; 15 or later is needed.")
    if faults := waiting():
        return Finding("broken", "; ".join(faults))
    return Finding("done", f"PostgreSQL {name}; tables and functions are up to date.")


def roles(at: datetime) -> Finding:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, has_table_privilege('ledger_entry', 'TRUNCATE'),"
            " has_schema_privilege('public', 'CREATE')"
        )
        user, may_truncate, may_create = cursor.fetchone()
    if user != APP_ROLE or may_truncate or may_create:
        return Finding("broken", f"This process acts as {user}, which may do more than use the tables.")
    return Finding("done", f"Web and workers act as {user}: they use the tables and cannot change the schema.")


def broker(at: datetime) -> Finding:
    with Connection(settings.BROKER_URL, connect_timeout=3, transport_options={"socket_timeout": 3}) as link:
        link.ensure_connection(max_retries=1, timeout=3)
    return Finding("done", "The broker answers.")


def workers(at: datetime) -> Finding:
    served = app.control.inspect(timeout=1.5).active_queues() or {}
    found = {queue["name"] for queues in served.values() for queue in queues}
    if missing := sorted(QUEUES - found):
        return Finding("broken", f"No worker reads these queues: {', '.join(missing)}.")
    return Finding("done", f"{len(served)} workers answer; every queue is read.")


def mail(at: datetime) -> Finding:
    found = destination()
    return Finding("done" if found.leaves else "to do", f"Mails go to {found.words}.")


def stripe(at: datetime) -> Finding:
    key = str(settings.STRIPE_SECRET_KEY)
    if has_live_key() and programme().on_trial:
        return Finding("broken", "One person tries this out, and a live key is set: no call to Stripe is made.")
    if not key:
        return Finding("to do", "No key is set; nothing can be paid through Stripe.")
    if has_live_key():
        hooks = settings.STRIPE_WEBHOOK_SECRETS and settings.STRIPE_CONNECT_WEBHOOK_SECRETS
        words = "A live key is set: money moves."
        return Finding("done", words) if hooks else Finding("broken", f"{words} A webhook secret lacks.")
    if settings.STRIPE_API_BASE:
        return Finding("note", "The project's sandbox stands in for Stripe: no money moves.")
    return Finding("note", "A test key is set: no money moves.")


def disk(at: datetime) -> Finding:
    free = shutil.disk_usage(settings.TRIBUTARY_DATA).free
    words = f"{free / 2**30:.1f} GiB are free in {settings.TRIBUTARY_DATA}."
    return Finding("done" if free >= DISK_BYTES_MIN else "broken", words)


def clock(at: datetime) -> Finding:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        there = cursor.fetchone()[0]
    apart = abs((timezone.now() - there).total_seconds())
    words = f"The clocks of this machine and of the database differ by {apart:.1f} s."
    return Finding("done" if apart <= CLOCK_SECONDS_MAX else "broken", words)


def outbound_traffic(at: datetime) -> Finding:
    try:
        outbound.tls()
        proxy = outbound.proxy_in_words()
    except ImproperlyConfigured as error:
        return Finding("broken", str(error))
    trusted = f"the public authorities and {settings.OUTBOUND_CA_FILE}" if settings.OUTBOUND_CA_FILE else ""
    words = f"Certificates are checked by {trusted or 'the public authorities'}."
    if not proxy:
        return Finding("done", f"Stripe and webhooks are reached directly. {words}")
    parts = urlsplit(proxy)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((str(parts.hostname), port), timeout=3):
            return Finding("done", f"Stripe and webhooks are reached through the proxy {proxy}. {words}")
    except OSError as error:
        return Finding("broken", f"The proxy {proxy} does not answer: {error.strerror or error}.")


def secrets(at: datetime) -> Finding:
    if settings.DEBUG:
        return Finding("broken", "DEBUG is on: pages show the code and its values.")
    site = site_url()
    if not site.startswith("https://"):
        return Finding("note", f"{site} has no TLS; a public installation needs https.")
    return Finding("done", f"The site is {site}.")
