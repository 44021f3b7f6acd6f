"""The databases that are measured: as the tests have them, and with what they are set to."""

from collections.abc import Iterator
from contextlib import contextmanager

import django
from django.conf import settings
from django.db.utils import ConnectionHandler

from tests.databases import DATABASES, describe, settings_for

#: What decides how soon a commit returns.
_SETTINGS = {
    "postgresql": "SELECT 'fsync ' || current_setting('fsync') || ', synchronous_commit '"
    " || current_setting('synchronous_commit') || ', shared_buffers '"
    " || current_setting('shared_buffers')",
    "sqlite": "SELECT 'journal_mode WAL, synchronous NORMAL'",
    "mariadb": "SELECT concat('innodb_flush_log_at_trx_commit ',"
    " @@innodb_flush_log_at_trx_commit, ', innodb_buffer_pool_size ',"
    " @@innodb_buffer_pool_size DIV 1048576, 'MB')",
}


@contextmanager
def serve(name: str) -> Iterator[tuple[str, str]]:
    """Give the URL of that database, and what it is and is set to.

    Raises ``tests.databases.Unavailable`` where there is none.
    """
    if not settings.configured:  # which a connection asks for its time zone
        settings.configure()
        django.setup()
    with DATABASES[name]() as url:
        if name == "mariadb":
            _ask(url, "CREATE DATABASE IF NOT EXISTS dbq", is_made=False)
        yield url, f"{describe(url)}: {_ask(url, _SETTINGS[name])}"


def _ask(url: str, statement: str, *, is_made: bool = True) -> str:
    config = settings_for(url)
    if not is_made:
        config["NAME"] = None
    connection = ConnectionHandler({"default": config})["default"]
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return str(row[0]) if row else ""
    finally:
        connection.close()
