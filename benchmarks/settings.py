"""A project with one plain no-op job, and the typed one of ``benchmarks.jobs``."""

import os

from tests.databases import settings_for

SECRET_KEY = "only for benchmarks"
USE_TZ = True
DATABASES = {"default": settings_for(os.environ["DATABASE_URL"], alias="default")}
INSTALLED_APPS = ["django_dbq", "django_dbq_typed", "benchmarks"]
JOBS = {"plain": ["benchmarks.plain.noop"]}
