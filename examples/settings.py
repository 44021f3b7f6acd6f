"""Settings of the example project: first the queue, then what every Django project has.

Two environment variables move it elsewhere: ``DEMO_DIRECTORY`` is where the database and the log
are written, and ``DEMO_LIBRARY`` is the tree of Python files that is indexed.
"""

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

import django

DIRECTORY = Path(os.environ.get("DEMO_DIRECTORY") or Path(__file__).resolve().parent)
LIBRARY = Path(os.environ.get("DEMO_LIBRARY") or sysconfig.get_path("stdlib"))
DATABASE = DIRECTORY / "demo.sqlite3"
LOG = DIRECTORY / "demo.log"

# --- The queue

JOBS = {
    "index_file": {
        "tasks": [
            "examples.library_index.tasks.read",
            "examples.library_index.tasks.parse",
            "examples.library_index.tasks.store",
        ],
        "creation_hook": "examples.library_index.tasks.name_module",
        "failure_hook": "examples.library_index.tasks.forget",
    },
}

# The worker writes a line when a task starts and one when it ends, and the traceback of a failure.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {message}", "style": "{"}},
    "handlers": {
        "jobs": {
            "class": "logging.FileHandler",
            "filename": LOG,
            "encoding": "utf-8",
            "delay": True,
            "formatter": "line",
        },
    },
    "loggers": {"django_dbq": {"handlers": ["jobs"], "level": "INFO", "propagate": False}},
}

# --- The database: SQLite, set up for several processes that write

SQLITE: dict[str, Any] = {"timeout": 20}  # seconds to wait for another process's write to end
if django.VERSION >= (5, 1):
    SQLITE |= {
        # Take the write lock when a transaction begins: one that reads first and writes later is
        # refused, without waiting, when somebody else has written in between.
        "transaction_mode": "IMMEDIATE",
        # With the write-ahead log, readers and the writer do not wait for each other; NORMAL then
        # costs one sync of the disk per checkpoint instead of one per transaction.
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;",
    }

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        "OPTIONS": SQLITE,
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- The site, which is the admin

# Only for the development server: with DEBUG, a worker would keep the queries that it sends.
DEBUG = "runserver" in sys.argv
SECRET_KEY = "only for a demo on this machine"  # noqa: S105
ROOT_URLCONF = "examples.urls"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True

INSTALLED_APPS = [
    "examples.library_index",
    "django_dbq",
    "django_dbq_typed",  # finds the typed jobs in library_index.jobs
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
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
