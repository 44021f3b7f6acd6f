"""Telling idle workers of new jobs, at commit: on PostgreSQL, where they listen."""

import time
from collections.abc import Iterable
from functools import partial

from django.db import connections, transaction

CHANNEL = "django_dbq_job"
#: Seconds between two notices of one process for a queue: NOTIFY makes commits wait for each other.
NOTICE_INTERVAL = 0.2

_last: dict[tuple[str, str], float] = {}


def announce(queues: Iterable[str], using: str) -> None:
    """Tell the workers that listen, once the transaction commits, that there are jobs for them.

    Nothing depends on it: a worker that was not told looks, a little later.
    """
    if connections[using].vendor == "postgresql":
        for queue in queues:
            transaction.on_commit(partial(_notify, queue, using), using=using, robust=True)


def _notify(queue: str, using: str) -> None:
    now = time.monotonic()
    if now - _last.get((using, queue), float("-inf")) >= NOTICE_INTERVAL:
        _last[using, queue] = now
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, queue])
