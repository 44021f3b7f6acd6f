"""Settings of the fault suite and of the workers that it starts.

From the environment come:

- ``DATABASE_URL``: the database;
- ``FAULTS_HEARTBEAT``: DBQ["HEARTBEAT_SECONDS"], if not the default;
- ``FAULTS_CODE``: ``old`` or ``new``, the deployment whose jobs are known (default: both);
- ``FAULTS_LOCK_TIMEOUT``: seconds that SQLite waits for a lock;
- what ``tests.faults.tasks`` and ``tests.faults.injection`` read.
"""

import os

from tests.databases import settings_for

DATABASES = {"default": settings_for(os.environ["DATABASE_URL"])}
if timeout := os.environ.get("FAULTS_LOCK_TIMEOUT"):
    DATABASES["default"]["OPTIONS"]["timeout"] = float(timeout)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django_dbq", "tests.faults.apps.FaultsConfig"]
SECRET_KEY = "only for tests"
USE_TZ = True

DBQ: dict[str, object] = {}
if heartbeat := os.environ.get("FAULTS_HEARTBEAT"):
    DBQ["HEARTBEAT_SECONDS"] = float(heartbeat)

_TASKS = "tests.faults.tasks"
JOBS: dict[str, object] = {
    "quick": [f"{_TASKS}.quick"],
    "count": [f"{_TASKS}.count"],
    "work": [f"{_TASKS}.work"],
    "three": [f"{_TASKS}.first", f"{_TASKS}.second", f"{_TASKS}.third"],
    "effect": [f"{_TASKS}.effect"],
    "atomic_effect": {"tasks": [f"{_TASKS}.effect"], "atomic": True},
    "linger": [f"{_TASKS}.linger"],
    "handover": [f"{_TASKS}.hold", f"{_TASKS}.hold_on", f"{_TASKS}.quick"],
    "swell": [f"{_TASKS}.swell"],
    "killer": {"tasks": [f"{_TASKS}.kill_worker"], "failure_hook": f"{_TASKS}.note_failure"},
    "segfault": {"tasks": [f"{_TASKS}.segfault"], "failure_hook": f"{_TASKS}.note_failure"},
    "sleep": [f"{_TASKS}.sleep"],
    "query": [f"{_TASKS}.query"],
    "c_call": [f"{_TASKS}.c_call"],
    "deaf": [f"{_TASKS}.hold_interpreter"],
}
_CODE = os.environ.get("FAULTS_CODE", "old and new")
if "old" in _CODE:
    JOBS["old_name"] = [f"{_TASKS}.quick"]
    JOBS["journey"] = [f"{_TASKS}.first", f"{_TASKS}.removed", f"{_TASKS}.third"]
if "new" in _CODE:
    JOBS["new_name"] = [f"{_TASKS}.quick"]
    JOBS["journey"] = [f"{_TASKS}.first", f"{_TASKS}.third"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
