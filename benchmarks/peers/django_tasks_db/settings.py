"""Django's settings for the peer."""

import os

from psycopg.conninfo import conninfo_to_dict

SCHEMA = "django_tasks_db"
_parameters = conninfo_to_dict(os.environ["DATABASE_URL"])

SECRET_KEY = "benchmark"
USE_TZ = True
INSTALLED_APPS = ["django_tasks_db"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _parameters.pop("dbname"),
        "USER": _parameters.pop("user", ""),
        "PASSWORD": _parameters.pop("password", ""),
        "HOST": _parameters.pop("host", ""),
        "PORT": _parameters.pop("port", ""),
        "OPTIONS": {**_parameters, "options": f"-c search_path={SCHEMA}"},
        # The worker closes old connections before and after every job.
        "CONN_MAX_AGE": None,
    }
}
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
LOGGING_CONFIG = None
