"""Telling idle workers of new jobs, at commit: on PostgreSQL, where they listen."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Collection

from django.db import connections, transaction

CHANNEL = "django_dbq_job"
#: Seconds from one notice of a process to its next, as a rule: NOTIFY makes commits wait for each
#: other. Who was told of a queue looks often for that long, and need not be told again.
NOTICE_INTERVAL = 0.2
#: How many notices may come at once, where there were none for as many intervals.
NOTICES_AT_ONCE = 3
#: Bytes of a notice; PostgreSQL takes 8000, and the longest name of a queue has 1024.
LARGEST_NOTICE = 6000

# A notice is worth nothing after a crash, so that its transaction need not wait for the disk.
_NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"


class Notices:
    """What a process tells the workers of one database, and when.

    All its queues share one allowance, whatever their number. One that has to wait is named by the
    next notice, of whichever queue; until then its workers look.
    """

    def __init__(self) -> None:
        self._told: dict[str, float] = {}
        #: The queues with new jobs of which nobody was told: as a dictionary, for their order.
        self._untold: dict[str, None] = {}
        #: Until when the allowance is used up.
        self._used_until = -math.inf

    def due(self, queues: Collection[str], now: float) -> list[str]:
        """Return the queues that a notice shall name now, if any, since these have new jobs."""
        for queue in queues:
            if now - self._told.get(queue, -math.inf) >= NOTICE_INTERVAL:
                self._untold[queue] = None
        # A tenth of a notice is for what is lost in rounding.
        in_advance = (self._used_until - now) / NOTICE_INTERVAL
        if not self._untold or in_advance > NOTICES_AT_ONCE - 0.9:
            return []
        self._used_until = max(self._used_until, now) + NOTICE_INTERVAL
        named: list[str] = []
        for queue in list(self._untold):
            if len(notice_of([*named, queue]).encode()) > LARGEST_NOTICE:
                break
            named.append(queue)
            self._untold.pop(queue, None)  # another thread may have told of it
            self._told[queue] = now
        return named


_notices: defaultdict[str, Notices] = defaultdict(Notices)


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
        if named := _notices[using].due(queues, time.monotonic()):
            with connections[using].cursor() as cursor:
                cursor.execute(_NOTIFY, [CHANNEL, notice_of(named)])

    # One that fails is logged: the jobs are there all the same.
    transaction.on_commit(notify_workers, using=using, robust=True)


def notice_of(queues: Collection[str]) -> str:
    """Return the text of a notice that names these queues."""
    return json.dumps([*queues], ensure_ascii=False)


def queues_of(notice: str) -> frozenset[str]:
    """Return the queues that a notice names; none for what is no notice of ours."""
    try:
        return frozenset(json.loads(notice))
    except (TypeError, ValueError):
        return frozenset()
