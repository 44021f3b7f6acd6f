"""How an idle worker learns of a new job: it is told, or it looks.

To look, at intervals, is the truth, and finds every job. To be told makes it quick.
"""

import logging
import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_dbq.backends.arrays import psycopg
from django_dbq.backends.postgresql import leads_to_server
from django_dbq.bell import Bell
from django_dbq.notices import CHANNEL, NOTICE_INTERVAL, queues_of

logger = logging.getLogger(__name__)


class WakeUp:
    """Where nobody tells: looks that come quickly after each other at first, and then less so."""

    #: Seconds between two looks, after a job was found, and when there was none for long.
    shortest_pause = 0.005
    longest_pause = 0.08

    def __init__(self, bell: Bell, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.bell = bell
        self.clock = clock
        self._pause = self.shortest_pause

    @contextmanager
    def listening(self, connection: BaseDatabaseWrapper) -> Generator[None, None, None]:
        """Listen on that connection, which is the calling thread's, while the block lasts."""
        yield

    def wait(self, seconds: float | None) -> bool:
        """Wait for the bell, or that long; return whether there may be new jobs."""
        self.bell.wait(seconds)
        return False

    def pause(self, *, found: bool) -> float:
        """Return the seconds until the next look, after one that found jobs or none."""
        self._pause = self.shortest_pause if found else min(self._pause * 1.3, self.longest_pause)
        return self._pause


class FileWakeUp(WakeUp):
    """SQLite: the file counts the writes of others, which is quick to ask for."""

    INTERVAL = 0.01
    longest_pause = 1.0

    _connection: Any = None
    _version: int | None = None

    @contextmanager
    def listening(self, connection: BaseDatabaseWrapper) -> Generator[None, None, None]:
        connection.ensure_connection()
        self._connection = connection
        self._version = self._data_version()
        yield

    def wait(self, seconds: float | None) -> bool:
        end = math.inf if seconds is None else self.clock() + seconds
        while (left := end - self.clock()) > 0:
            if self._has_changed():
                return True
            if self.bell.wait(min(left, self.INTERVAL)):
                break
        return self._has_changed()

    def _has_changed(self) -> bool:
        before, self._version = self._version, self._data_version()
        return before != self._version

    def _data_version(self) -> int:
        with self._connection.wrap_database_errors:
            asked = self._connection.connection.execute("PRAGMA data_version")
            version: int = asked.fetchone()[0]
            return version


class NotifiedWakeUp(WakeUp):
    """PostgreSQL: LISTEN, where the connection really leads to the server; else looks.

    Whoever creates many jobs does not tell of each, so that a worker looks often for a while after
    it has been told.
    """

    shortest_pause = 0.004
    longest_pause = 1.0

    def __init__(
        self,
        bell: Bell,
        *,
        queues: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(bell, clock=clock)
        self.queues = queues
        self._connection: Any = None
        self._told = -math.inf
        self._heard = False

    @contextmanager
    def listening(self, connection: BaseDatabaseWrapper) -> Generator[None, None, None]:
        if psycopg is None or not leads_to_server(connection):
            self._poll_instead()
            yield
            return
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        self._connection = connection
        # Those that come with the answer to a statement, which psycopg takes from us.
        connection.connection.add_notify_handler(self._hear_notice)
        yield

    def _poll_instead(self) -> None:
        if self.longest_pause != WakeUp.longest_pause:  # said once, and not at each reconnection
            logger.warning(
                'event=polling reason="being told of new jobs takes psycopg 3, and no pooler such'
                ' as PgBouncer in between"'
            )
        self._connection = None
        self.longest_pause = WakeUp.longest_pause

    def wait(self, seconds: float | None) -> bool:
        if self._connection is None:
            return super().wait(seconds)
        with self._connection.wrap_database_errors:
            raw = self._connection.connection
            if not self._heard:
                self.bell.wait(seconds, raw.fileno())
            raw.pgconn.consume_input()
            while notice := raw.pgconn.notifies():
                self._hear(notice.extra.decode())
        heard, self._heard = self._heard, False
        return heard

    def _hear_notice(self, notice: Any) -> None:
        self._hear(notice.payload)

    def _hear(self, notice: str) -> None:
        if not queues_of(notice).isdisjoint(self.queues):
            self._heard = True
            self._told = self.clock()

    def pause(self, *, found: bool) -> float:
        if self._connection is None:
            return super().pause(found=found)
        if found:
            self._told = self.clock()
        is_recent = self.clock() - self._told < 1.5 * NOTICE_INTERVAL
        return self.shortest_pause if is_recent else self.longest_pause


def wakeup_for(
    vendor: str,
    *,
    bell: Bell,
    queues: Sequence[str],
    clock: Callable[[], float] = time.monotonic,
) -> WakeUp:
    """Return the way that the database has."""
    if vendor == "postgresql":
        return NotifiedWakeUp(bell, queues=queues, clock=clock)
    if vendor == "sqlite":
        return FileWakeUp(bell, clock=clock)
    return WakeUp(bell, clock=clock)
