"""Django's settings for the peer."""

import os

from psycopg.conninfo import conninfo_to_dict

SCHEMA = "dj_queue"
_parameters = conninfo_to_dict(os.environ["DATABASE_URL"])

SECRET_KEY = "benchmark"
USE_TZ = True
INSTALLED_APPS = ["dj_queue"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _parameters.pop("dbname"),
        "USER": _parameters.pop("user", ""),
        "PASSWORD": _parameters.pop("password", ""),
        "HOST": _parameters.pop("host", ""),
        "PORT": _parameters.pop("port", ""),
        "OPTIONS": {**_parameters, "options": f"-c search_path={SCHEMA}"},
        # Its documentation says that it pays to keep connections.
        "CONN_MAX_AGE": None,
    }
}
THREADS = 8
PREFETCH = 50
TASKS = {
    "default": {
        "BACKEND": "dj_queue.backend.DjQueueBackend",
        "QUEUES": [],
        "OPTIONS": {
            "mode": "async",
            "workers": [
                {
                    "queues": ["default"],
                    "threads": THREADS,
                    "prefetch_multiplier": PREFETCH,
                    "polling_interval": 0.05,
                }
            ],
            # Deleting them is slower.
            "preserve_finished_jobs": True,
        },
    }
}
LOGGING_CONFIG = None
