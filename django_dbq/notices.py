"""Telling idle workers of new jobs, at commit: on PostgreSQL, where they listen."""

import time
from collections.abc import Collection

from django.db import connections, transaction

CHANNEL = "django_dbq_job"
#: Seconds between two notices of one process for a queue: NOTIFY makes commits wait for each other.
NOTICE_INTERVAL = 0.2

# A notice is worth nothing after a crash, so that its transaction need not wait for the disk.
_NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"

_last: dict[tuple[str, str], float] = {}


def announce(queues: Collection[str], using: str) -> None:
    """Tell the workers that listen, once the transaction commits, that there are jobs for them.

    Nothing depends on it: a worker that was not told looks, a little later.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        return
    # Where somebody else commits, Django does not know when.
    if not connection.in_atomic_block and not connection.get_autocommit():
        return

    def notify_workers() -> None:
        for queue in queues:
            _notify(queue, using)

    # One that fails is logged: the jobs are there all the same.
    transaction.on_commit(notify_workers, using=using, robust=True)


def _notify(queue: str, using: str) -> None:
    now = time.monotonic()
    if now - _last.get((using, queue), float("-inf")) >= NOTICE_INTERVAL:
        _last[using, queue] = now
        with connections[using].cursor() as cursor:
            cursor.execute(_NOTIFY, [CHANNEL, queue])
