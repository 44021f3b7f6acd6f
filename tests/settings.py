"""Settings of the tests, and of the worker processes that tests start.

From the environment come:

- ``DATABASE_URL``: where the databases are (default: SQLite, in a temporary file);
- ``DBQ_TEST_DATABASES``: for processes that a test starts, the names of the test databases as a
  JSON object, by alias: those that exist while the tests run, and not the ones of ``DATABASE_URL``;
- ``DBQ_TEST_USE_TZ``: 0 for a process that runs without time zones;
- ``DBQ_TEST_TIME_ZONE``: the TIME_ZONE of such a process (default: UTC);
- ``DBQ_TEST_LOG_LEVEL``: the least that is logged, to standard error (default: WARNING).
"""

import json
import os
import tempfile
from pathlib import Path

from tests.databases import settings_for
from tests.jobs import JOBS as JOBS

# Of this process alone, so that several can run their tests at the same time.
_FILE = Path(tempfile.gettempdir(), f"dbq-{os.getpid()}.sqlite3")
_URL = os.environ.get("DATABASE_URL") or f"sqlite:///{_FILE}"

DATABASES = {alias: settings_for(_URL, alias=alias) for alias in ("default", "other")}
for _alias, _name in json.loads(os.environ.get("DBQ_TEST_DATABASES", "{}")).items():
    DATABASES[_alias]["NAME"] = _name
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django_dbq",
    "django_dbq_typed",
    "tests",
    "tests.typed_app",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname} {name} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {
        "handlers": ["console"],
        "level": os.environ.get("DBQ_TEST_LOG_LEVEL", "WARNING"),
    },
}

if seconds := os.environ.get("DBQ_TEST_HEARTBEAT"):
    DBQ = {"HEARTBEAT_SECONDS": float(seconds)}

ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
SECRET_KEY = "only for tests"
# The real ones are slow on purpose.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = os.environ.get("DBQ_TEST_USE_TZ", "1") != "0"
TIME_ZONE = os.environ.get("DBQ_TEST_TIME_ZONE", "UTC")
