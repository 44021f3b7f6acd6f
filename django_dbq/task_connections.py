"""The database connections that tasks use, as each task ought to find them."""

import math
import threading
from contextlib import suppress
from typing import Any

from django.db import Error, connections
from django.db.backends.signals import connection_created

from django_dbq.errors import OpenTransaction, SpoiledTransaction, TaskTimeout

#: libpq's numbers for a connection without a transaction, with one in which a statement has failed,
#: and for one that is closed.
_IDLE, _IN_ERROR, _UNKNOWN = 0, 3, 4
_IN_TRANSACTION, _BROKEN = "in transaction", "broken"
#: Seconds without a task after which a connection is asked whether it still works.
IDLE_SECONDS = 1.0


class TaskConnections:
    """Keeps what one task, or the network, did to its thread's connections from the next one.

    Made in that thread.
    """

    def __init__(self) -> None:
        self._last_used = -math.inf
        self._weather = 0
        self._thread = threading.get_ident()
        # To ask Django for them behind each task would take longer than many a task.
        self._connections: list[Any] = [*connections.all(initialized_only=True)]
        connection_created.connect(self._note)

    def _note(self, *, connection: Any, **_: object) -> None:
        if threading.get_ident() == self._thread and connection not in self._connections:
            self._connections.append(connection)

    def refresh(self, now: float, *, weather: int = 0, always: bool = False) -> None:
        """Let go of connections that do not work any more, before a task finds out.

        ``now``: seconds, for durations only. ``weather``: how often the database has gone away so
        far. If that is more often than last time, or if that was a while ago, the connections are
        asked; so they are the first time, or ``always``.
        """
        if always or weather != self._weather or now - self._last_used > IDLE_SECONDS:
            for connection in self._connections:
                if connection.connection is not None and not connection.in_atomic_block:
                    connection.errors_occurred = True
                    connection.close_if_unusable_or_obsolete()
        self._last_used, self._weather = now, weather

    def settle(self, raised: BaseException | None, *, sparing: str | None = None) -> None:
        """Take back what a task has left undone; ``raised`` is what it raised, if anything.

        ``sparing``: the database whose transaction is not the task's to end. Raises
        ``OpenTransaction`` if there is one, which takes what the task wrote with it. A connection
        on which there were errors is closed if it does not work any more.
        """
        left_open: list[str] = []
        for connection in self._connections:
            if connection.connection is None or connection.alias == sparing:
                continue
            state = _state(connection)
            if state == _BROKEN:
                _close(connection)
            elif state == _IN_TRANSACTION:
                left_open.append(connection.alias)
                _close(connection)
            elif isinstance(raised, TaskTimeout):
                _close(connection)  # it may have come in the middle of an answer
            elif connection.errors_occurred:
                connection.close_if_unusable_or_obsolete()
        if left_open:
            raise OpenTransaction(
                f"The task left a transaction open in the database {', '.join(left_open)}, which"
                " was rolled back: end what you begin, or use transaction.atomic()."
            )


def _close(connection: Any) -> None:
    connection.in_atomic_block = False  # or it would only pretend to close
    with suppress(Error):  # MySQL's will not be closed twice
        connection.close()


def _state(connection: Any) -> str | None:
    """Return what the driver knows to be amiss: it is broken, or in a transaction; or None."""
    raw = connection.connection
    match connection.vendor:
        case "postgresql":
            status = _transaction_status(raw)
            is_broken, has_begun = status == _UNKNOWN, status != _IDLE
        case "mysql":
            is_broken, has_begun = not raw.open, False
        case "sqlite":
            try:
                is_broken, has_begun = raw.total_changes < 0, raw.in_transaction
            except connection.Database.Error:
                is_broken, has_begun = True, False
        case _:
            is_broken, has_begun = False, getattr(raw, "in_transaction", False)
    if is_broken:
        return _BROKEN
    if has_begun or connection.in_atomic_block or not connection.autocommit:
        return _IN_TRANSACTION
    return None


def _transaction_status(raw: Any) -> int:
    """Return libpq's number for it, past psycopg's objects, which are made for each look."""
    status: int = (getattr(raw, "pgconn", None) or raw.info).transaction_status
    return status


def refuse_if_spoiled(connection: Any, *, depth: int) -> None:
    """Raise ``SpoiledTransaction`` if the transaction would not commit what was written in it.

    ``depth``: of savepoints, as it was when the transaction began.
    """
    raw: Any = connection.connection
    is_gone = raw is None or connection.closed_in_transaction
    if is_gone or len(connection.savepoint_ids) != depth or not connection.in_atomic_block:
        connection.savepoint_ids = connection.savepoint_ids[:depth]
        connection.atomic_blocks = connection.atomic_blocks[: depth + 1]
        connection.needs_rollback = True
        raise SpoiledTransaction(
            "The task closed the connection, or began or ended an atomic() block that it did not"
            " end or begin: leave each block that you enter, and no other."
        )
    if connection.needs_rollback or _is_in_error(connection):
        connection.needs_rollback = True
        raise SpoiledTransaction(
            "The task's transaction is to be rolled back, because of an error that the task caught"
            " or by set_rollback(): put what may fail into an atomic() block of its own."
        )


def _is_in_error(connection: Any) -> bool:
    """Return whether the server waits for nothing but the end of the transaction."""
    if connection.vendor != "postgresql":
        return False
    return _transaction_status(connection.connection) == _IN_ERROR
