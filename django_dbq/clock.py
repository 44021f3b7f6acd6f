"""The clock that all workers of a database share, its own; and one for durations."""

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import DateTimeField, Func, Value
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

if hasattr(time, "CLOCK_BOOTTIME"):
    #: Seconds, for durations only: it goes on while the machine sleeps, as others' clocks do.
    elapsed: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
else:
    elapsed = time.monotonic


class DatabaseNow(Func):
    """The present, by the database's clock, as its datetime columns store it.

    Django's ``Now`` gives MySQL's session time instead, which is not what the columns hold.
    """

    output_field = DateTimeField()  # pyright: ignore[reportAssignmentType, reportUnknownVariableType]
    arity = 0

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> Any:
        return self.as_sql(compiler, connection, template="STATEMENT_TIMESTAMP()", **extra)

    def as_mysql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template=mysql_now(connection), **extra)

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any
    ) -> Any:
        # SQLite has no clock but the machine's, which is the process's too.
        return compiler.compile(Value(timezone.now(), output_field=self.output_field))


def mysql_now(connection: BaseDatabaseWrapper) -> str:
    """Return the present in MariaDB's and MySQL's SQL."""
    # The columns hold local time where USE_TZ is off or the connection has a TIME_ZONE.
    zone = connection.timezone or timezone.get_default_timezone()
    offset = datetime.now(zone).utcoffset()
    seconds = int(offset.total_seconds()) if offset else 0
    return f"(UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND)" if seconds else "UTC_TIMESTAMP(6)"
