"""Every setting, from the environment, with defaults that are safe in production.

Where DATABASE_URL and BROKER_URL are unset, the embedded engine (config/engine/servers.py) serves both.
"""

from __future__ import annotations

import os
import re
import secrets
import tomllib
import urllib.parse
import warnings
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import environ
import structlog
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from config.engine import servers
from config.engine.roles import APP_ROLE, connection_options

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
# The version stands in pyproject.toml and nowhere else.
VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]

TRIBUTARY_DATA = Path(env.str("TRIBUTARY_DATA", str(BASE_DIR / "var"))).resolve()
# Without a Stripe key the product talks to the project's sandbox: one more address, made once and kept beside the data.
# An installation with a key in the environment is never led there by a file left behind.
if "STRIPE_SECRET_KEY" not in os.environ:
    env.read_env(str(servers.sandbox_environment(TRIBUTARY_DATA)))
DEBUG = env.bool("DEBUG", False)
SITE_URL = env.str("SITE_URL", "http://127.0.0.1:8000").rstrip("/")
SITE_HOST = urllib.parse.urlsplit(SITE_URL).hostname or "127.0.0.1"


def _secret_key() -> str:
    """SECRET_KEY, or one made once and kept beside the data, so that sessions survive a restart."""
    if given := os.environ.get("SECRET_KEY"):
        return given
    return servers.write_once(TRIBUTARY_DATA / "secret_key", secrets.token_urlsafe(64))


SECRET_KEY = _secret_key()
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[SITE_HOST, "127.0.0.1", "localhost", "[::1]"])

INSTALLED_APPS = [
    "config.apps.ConfigApp",
    "people",
    "contributors",
    "attribution",
    "ledger",
    "payouts",
    "stripe_sandbox",
    "config.apps.TablesApp",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "pgtrigger",
    "rest_framework",
    "drf_spectacular",
    "django_htmx",
    "django_structlog",
    "django_prometheus",
]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.RefuseCharsets",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.middleware.StoreNothingPrivate",
    "people.console.presence.RememberPresence",
    "django.contrib.messages.middleware.MessageMiddleware",
    "people.console.guard.AskForFactor",
    "config.middleware.RefuseNul",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.middleware.ExplainForms",
    "config.middleware.DescribeApi",
    "config.middleware.WaitForCache",
    "django_structlog.middlewares.RequestMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "payouts.console.attention.count_in_navigation",
                "people.console.trial.mark",
            ],
        },
    },
]


# --- database, broker ---------------------------------------------------------------------------------------------
def _database(url: str) -> dict[str, Any]:
    """Django's DATABASES entry for a libpq URI; the host may be a directory of Unix sockets."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(f"DATABASE_URL must begin with postgres://, not {parts.scheme}://")
    query = dict(urllib.parse.parse_qsl(parts.query))
    role = env.str("DATABASE_ROLE", APP_ROLE)
    idle_seconds_max = env.int("DATABASE_IDLE_SECONDS_MAX", 15)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": urllib.parse.unquote(parts.username or ""),
        "PASSWORD": urllib.parse.unquote(parts.password or ""),
        "HOST": query.pop("host", "") or (parts.hostname or ""),
        "PORT": str(parts.port or query.pop("port", "")),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "ROLE": role,
        "IDLE_SECONDS_MAX": idle_seconds_max,
        "OPTIONS": {
            "connect_timeout": 5,
            "options": connection_options(role, idle_seconds_max=idle_seconds_max),
            **query,
        },
    }


DATABASE_URL = env.str("DATABASE_URL", servers.database_url(TRIBUTARY_DATA))
DATABASES = {"default": _database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

BROKER_URL = env.str("BROKER_URL", servers.broker_url(TRIBUTARY_DATA))
# Shared by all web processes: rate limits, and which second-factor code was used already, must not be counted apart.
CACHE_URL = env.str("CACHE_URL", servers.cache_url(BROKER_URL))
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": CACHE_URL,
        "OPTIONS": {"socket_timeout": 5, "socket_connect_timeout": 5},
    }
}
CELERY_BROKER_URL = BROKER_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# kombu's defaults leave an unacknowledged message of a killed worker invisible for minutes.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 900,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    # A hint is worth one more try and no waiting: with kombu's defaults each report would hang for six seconds while
    # the broker is down. Workers and beat go on trying by settings of their own.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 840
CELERY_TASK_SOFT_TIME_LIMIT = 780
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_ROUTES = {
    "attribution.tasks.take_build_step": {"queue": "builds"},
    "attribution.tasks.take_audit": {"queue": "builds"},
    # The takers of the steps and evaluations also sweep: else each sweep would send a message for every open step of a
    # long build.
    "attribution.tasks.sweep_builds": {"queue": "builds"},
    "attribution.tasks.sweep_audits": {"queue": "builds"},
    "attribution.tasks.*": {"queue": "attribution"},
    "payouts.tasks.*": {"queue": "payouts"},
    # It measures generations, and so needs the workers that have torch.
    "ledger.tasks.continue_restatements": {"queue": "attribution"},
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
SWEEP_SECONDS = env.float("SWEEP_SECONDS", 10.0)
# A sweep that waited longer than its interval has a successor: its worker drops it.
CELERY_BEAT_SCHEDULE = {
    name: {"task": task, "schedule": seconds, "options": {"expires": seconds}}
    for name, task, seconds in [
        ("attribute received generations", "attribution.tasks.sweep_received", SWEEP_SECONDS),
        ("release reports that waited for a name", "attribution.tasks.sweep_waiting", SWEEP_SECONDS),
        ("build queued indexes", "attribution.tasks.sweep_builds", SWEEP_SECONDS),
        ("make queued audits", "attribution.tasks.sweep_audits", 60.0),
        ("remove unfinished uploads", "attribution.tasks.sweep_uploads", 3600.0),
        ("delete texts past their period", "attribution.tasks.purge_texts", 3600.0),
        ("let indexes follow removed works", "attribution.tasks.sweep_removals", 60.0),
        ("accrue attributed generations", "ledger.tasks.sweep_attributed", SWEEP_SECONDS),
        ("check the limits of services", "ledger.tasks.check_spend_limits", 60.0),
        ("add new entries to the sums of earnings", "ledger.tasks.sum_earnings", SWEEP_SECONDS),
        ("open the next period", "ledger.tasks.open_next_period", 3600.0),
        ("hold the income of contested shares", "ledger.tasks.hold_contested_shares", 3600.0),
        ("release reserves that are due", "ledger.tasks.release_due_reserves", 3600.0),
        ("estimate the pools of open months", "ledger.tasks.estimate_pools", 3600.0),
        ("compute previews of plans", "ledger.tasks.compute_previews", SWEEP_SECONDS),
        ("go on with restatements", "ledger.tasks.continue_restatements", SWEEP_SECONDS),
        ("export the credits of closed periods", "ledger.tasks.export_closed_periods", 600.0),
        ("claim payouts with an ended lease", "payouts.tasks.sweep_payouts", SWEEP_SECONDS),
        ("mail notices", "payouts.tasks.send_notices", 30.0),
        ("mail invitations", "people.tasks.send_invitations", 20.0),
        ("read payout accounts again", "payouts.tasks.refresh_accounts", 600.0),
        ("apply stored webhooks", "payouts.tasks.sweep_webhooks", SWEEP_SECONDS),
        ("reconcile the last day", "payouts.tasks.reconcile_last_day", 3600.0),
        ("deliver webhooks", "people.tasks.deliver_webhooks", SWEEP_SECONDS),
        ("forget old webhooks", "people.tasks.forget_webhooks", 3600.0),
        ("check the books", "config.tasks.check_books", 3600.0),
    ]
}

# --- people -------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "people.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
ACCOUNT_ADAPTER = "people.portal.accounts.AccountAdapter"
MFA_ADAPTER = "people.portal.accounts.FactorAdapter"
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/after-login/"
ACCOUNT_LOGOUT_REDIRECT_URL = "/"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
# Money screens know a person by the address that they proved to hold.
ACCOUNT_EMAIL_VERIFICATION = env.str("ACCOUNT_EMAIL_VERIFICATION", "mandatory")
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_PREVENT_ENUMERATION = True
# Mails about password, address and second factor. No person and no operator switches them off.
ACCOUNT_EMAIL_NOTIFICATIONS = True
# A member of staff uses their second factor again after so many idle minutes, and after so many hours in any case.
STAFF_IDLE_MINUTES = env.float("STAFF_IDLE_MINUTES", 60.0)
STAFF_SESSION_HOURS = env.float("STAFF_SESSION_HOURS", 12.0)
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
# A phone's clock may be half a minute wrong, and people are slow. Each code counts once all the same.
MFA_TOTP_TOLERANCE = 1
MFA_FORMS = {
    "authenticate": "people.forms.factors.OnceForm",
    "reauthenticate": "people.forms.factors.OnceAgainForm",
}
# Browsers offer passkeys without TLS on this machine's own name only; a site with TLS insists on it.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not SITE_URL.startswith("https://")
# Without a mail server each mail becomes a file, so that an installation can be tried out.
EMAIL_FILE_PATH = str(TRIBUTARY_DATA / "mail")
EMAIL_CONFIG = env.email_url("EMAIL_URL", default=f"filemail:///{urllib.parse.quote(EMAIL_FILE_PATH)}")
globals().update(EMAIL_CONFIG)
if EMAIL_CONFIG["EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend":
    # It also trusts OUTBOUND_CA_FILE.
    EMAIL_BACKEND = "people.smtp.EmailBackend"
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", f"Tributary <no-reply@{SITE_HOST}>")

# A role that is given while the books are empty and no live key is set moves money at once. The ground floor asks this.
BOOKS_ARE_EMPTY = "ledger.queries.books.are_empty"

# --- requests -----------------------------------------------------------------------------------------------------
SECURE = SITE_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", SECURE)
# Probes and the sandbox reach the web on this machine, past the proxy; a message to a webhook is signed, and a
# redirected one would be lost.
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$", r"^webhooks/"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("BEHIND_PROXY", False) else None
# The number of proxies in front that append to X-Forwarded-For. 0: the address of the connection counts.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", 0)
# Every client that leaves this machine: Stripe and webhooks go through the proxy, as http://user:password@host:port;
# they and mail trust the authorities of the PEM file beside the public ones.
OUTBOUND_PROXY = env.str("OUTBOUND_PROXY", "")
OUTBOUND_CA_FILE = env.str("OUTBOUND_CA_FILE", "")
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_TRUSTED_ORIGINS = [SITE_URL]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "frame-ancestors": [NONE],
        "form-action": [SELF],
    }
}
# A batch of 1,000 generations with their texts and token ids.
DATA_UPLOAD_MAX_MEMORY_SIZE = env.int("REQUEST_BYTES_MAX", 32 * 1024 * 1024)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000
DATA_UPLOAD_MAX_NUMBER_FILES = 200

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["attribution.api.authentication.ServiceKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "config.problems.problem_response",
    "DEFAULT_THROTTLE_CLASSES": ["config.throttling.ServiceRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "report": env.str("REPORT_RATE", "600/min"),
        "read": env.str("READ_RATE", "1200/min"),
        "models": env.str("MODELS_RATE", "1200/min"),
    },
    "UNAUTHENTICATED_USER": None,
    # The header Accept alone chooses the form of an answer.
    "URL_FORMAT_OVERRIDE": None,
}
# The versions of the API that this installation speaks, by date, the newest last; docs/api-changelog.md describes them.
API_VERSIONS = ["2026-11-30"]
SPECTACULAR_SETTINGS = {
    "TITLE": "Tributary",
    "DESCRIPTION": "Report generations; read the credited contributors, the amounts and the reasons.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    # One name for one set of choices, in every field.
    "ENUM_NAME_OVERRIDES": {
        "PurposeEnum": "contributors.models.Consent.Scope",
        "WorkModalityEnum": "contributors.models.Work.Modality",
        "OutputModalityEnum": "attribution.models.Generation.Modality",
        "VoidReasonEnum": "ledger.models.Void.Reason",
        "RefusedReasonEnum": "attribution.api.manifests.REFUSED_REASONS",
    },
}

# --- static files -------------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Files are found where they lie, so that neither a test nor the demo needs collectstatic.
WHITENOISE_USE_FINDERS = True
warnings.filterwarnings("ignore", "No directory at", module="django.core.handlers.base")
LANGUAGE_CODE = "en-gb"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
# The zone of days and times that people read and type. Months of the books and other boundaries stay UTC.
PROGRAMME_TIME_ZONE = env.str("PROGRAMME_TIME_ZONE", "UTC")
if PROGRAMME_TIME_ZONE not in available_timezones():
    raise ImproperlyConfigured(f"PROGRAMME_TIME_ZONE {PROGRAMME_TIME_ZONE!r} is no zone such as Europe/Berlin.")

# --- attribution --------------------------------------------------------------------------------------------------
# A model version names its factory. These are added to the built-in factories and to those of installed packages
# (attribution/operations/factories.py), and never take any away. No API takes a path.
TRIBUTARY_MODEL_FACTORIES = {
    "demo": "config.demo.model.load",
    "demo-drawing": "config.demo.drawing.load",
    **env.dict("TRIBUTARY_MODEL_FACTORIES", default={}),
}
# The currencies in which services may report a gross. The ledger knows them, and attribution does not know the ledger.
PLAN_CURRENCIES = "ledger.queries.plans.currencies"
# The device that computes gradients in this process: cpu, cuda or cuda:N. A worker with a GPU is given it by its
# environment.
ATTRIBUTION_DEVICE = env.str("ATTRIBUTION_DEVICE", "cpu")
# How many models an audit that was queued in the console retrains at the same time, one thread each.
AUDIT_PROCESSES = env.int("AUDIT_PROCESSES", 1)
# The effect of a withdrawn consent on models that are trained already. By default they go on crediting the works that
# they learned from, as the consent pages say; where the programme's terms say otherwise the works leave the indexes.
WITHDRAWN_WORKS_LEAVE_INDEXES = env.bool("WITHDRAWN_WORKS_LEAVE_INDEXES", False)

# Reports of gateways under names that lead to no model version wait, for 30 days at most. A service may have so many of
# them, and so many bytes.
WAITING_REPORTS_MAX = env.int("WAITING_REPORTS_MAX", 50_000)
WAITING_BYTES_MAX = env.int("WAITING_BYTES_MAX", 256 * 1024 * 1024)

# --- payouts ------------------------------------------------------------------------------------------------------
STRIPE_SECRET_KEY = env.str("STRIPE_SECRET_KEY", "")
STRIPE_READ_KEY = env.str("STRIPE_READ_KEY", STRIPE_SECRET_KEY)
STRIPE_API_BASE = env.str("STRIPE_API_BASE", "") or None
STRIPE_WEBHOOK_SECRETS = env.list("STRIPE_WEBHOOK_SECRETS", default=[])
STRIPE_CONNECT_WEBHOOK_SECRETS = env.list("STRIPE_CONNECT_WEBHOOK_SECRETS", default=[])
# Stripe takes 100 a second in live mode and 25 in test mode; all workers share this one limit.
STRIPE_REQUESTS_PER_SECOND = env.float("STRIPE_REQUESTS_PER_SECOND", 80.0)
# The country of the programme's own account at Stripe, and the file of the countries that Stripe pays from there.
# Empty: payouts/rails/countries.toml.
STRIPE_PLATFORM_COUNTRY = env.str("STRIPE_PLATFORM_COUNTRY", "US")
STRIPE_COUNTRIES_FILE = env.str("STRIPE_COUNTRIES_FILE", "")
PAYOUTS_FROZEN = env.bool("PAYOUTS_FROZEN", False)
# The first run with real money is a small one, and roles that were just changed move no money for a while.
FIRST_LIVE_RUN_PAYOUTS_MAX = env.int("FIRST_LIVE_RUN_PAYOUTS_MAX", 10)
FIRST_LIVE_RUN_MINOR_MAX = env.int("FIRST_LIVE_RUN_MINOR_MAX", 50_000)
ROLE_COOL_DOWN_HOURS = env.float("ROLE_COOL_DOWN_HOURS", 24.0)
# The manual rail. The accounts that bank files are paid from, by currency: EUR=IBAN or EUR=IBAN/BIC, commas between.
PROGRAMME_NAME = env.str("PROGRAMME_NAME", "Tributary")
PROGRAMME_ACCOUNTS = env.dict("PROGRAMME_ACCOUNTS", default={})
# The keys of contributors' bank details: the first key seals, all of them open. Unset: derived from SECRET_KEY.
BANK_DETAILS_KEYS = env.list("BANK_DETAILS_KEYS", default=[])
WEBHOOK_BYTES_MAX = 256 * 1024

# --- webhooks out -------------------------------------------------------------------------------------------------
# Whether a webhook may go to a private network, and without TLS: on one machine, and where the services stand beside.
WEBHOOKS_TO_PRIVATE = env.bool("WEBHOOKS_TO_PRIVATE", SITE_HOST in ("127.0.0.1", "localhost"))

# --- attention ----------------------------------------------------------------------------------------------------
# A row that waits longer than this in a queue of the workers is shown to staff as stalled.
STALLED_MINUTES = env.float("STALLED_MINUTES", 30.0)
# For so long the count in the console's navigation may be old.
ATTENTION_COUNT_SECONDS = env.int("ATTENTION_COUNT_SECONDS", 15)

# --- operations ---------------------------------------------------------------------------------------------------
METRICS_TOKEN = env.str("METRICS_TOKEN", "")

# --- logs ---------------------------------------------------------------------------------------------------------
LOG_LEVEL = env.str("LOG_LEVEL", "INFO")


def _one_line_a_request(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop the line of a request's begin; the line of its end tells all. Raises DropEvent."""
    if event.get("event") == "request_started":
        raise structlog.DropEvent
    return event


# One-time addresses: a reader of the part after them may act as the person that they were sent to.
SECRET_ADDRESSES = ("join", "claim", "onboarding", "accounts/confirm-email", "accounts/password/reset/key")
_SLASH = "(?:/|%2[Ff])"
_SECRETS = re.compile(
    rf"({_SLASH}(?:{'|'.join(name.replace('/', _SLASH) for name in SECRET_ADDRESSES)}){_SLASH})[^/\s\"'?&%]+"
)


def _without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cut one-time tokens out of addresses, in every line."""
    for name, value in event.items():
        if isinstance(value, str) and ("/" in value or "%2" in value):
            event[name] = _SECRETS.sub(r"\1[secret]", value)
    return event


_SHARED_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    _without_secrets,
]
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        _one_line_a_request,
        *_SHARED_PROCESSORS,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": structlog.stdlib.ProcessorFormatter,
            "processor": structlog.processors.JSONRenderer(),
            "foreign_pre_chain": _SHARED_PROCESSORS,
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    # The SDK tells of every request; the web server of every request that waits for a thread.
    "loggers": {
        "stripe": {"level": "WARNING"},
        "waitress.queue": {"level": "ERROR"},
        "django.request": {"level": "ERROR"},
    },
}
