"""The durable transitions of a job, in the way that is best on each database."""

from django.db import connections

from django_dbq.backends.base import Backend, Wanted
from django_dbq.backends.lost import LostJobs
from django_dbq.backends.mysql import MySQLBackend
from django_dbq.backends.postgresql import PostgreSQLBackend
from django_dbq.backends.sqlite import SQLiteBackend

__all__ = ["Backend", "LostJobs", "Wanted", "backend_for"]

_BY_VENDOR: dict[str, type[Backend]] = {
    "postgresql": PostgreSQLBackend,
    "sqlite": SQLiteBackend,
    "mysql": MySQLBackend,
}


def backend_for(using: str) -> Backend:
    """Return the backend for that database; one that Django calls by another name is portable."""
    return _BY_VENDOR.get(connections[using].vendor, Backend)(using)
