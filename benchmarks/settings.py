"""A project with the plain jobs of ``plain.py``, and the typed one of ``jobs.py``."""

import os

from tests.databases import settings_for

SECRET_KEY = "only for benchmarks"
USE_TZ = True
DATABASES = {"default": settings_for(os.environ["DATABASE_URL"], alias="default")}
INSTALLED_APPS = ["django_dbq", "django_dbq_typed", "benchmarks"]
JOBS = {
    "plain": ["benchmarks.plain.noop"],
    "like_typed": ["benchmarks.plain.noop"],
    "stamp": ["benchmarks.plain.stamp"],
    "wait": ["benchmarks.plain.wait"],
    "changing": ["benchmarks.plain.change"],
    "three": ["benchmarks.plain.first", "benchmarks.plain.second", "benchmarks.plain.third"],
}
