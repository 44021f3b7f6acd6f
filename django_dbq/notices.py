"""Telling idle workers of new jobs, at commit: on PostgreSQL, where they listen."""

import json
import math
import threading
import time
from collections import defaultdict
from collections.abc import Collection
from typing import cast

from django.db import connections, transaction

CHANNEL = "django_dbq_job"
#: Seconds from one notice of a process to its next, as a rule: NOTIFY makes commits wait for each
#: other. Who was told of a queue looks often for that long, and need not be told again.
NOTICE_INTERVAL = 0.2
#: How many notices may come at once, where there were none for as many intervals.
NOTICES_AT_ONCE = 5
#: Seconds for which a queue that had new jobs counts as one that may have more of them.
RECENT = 2.0
#: Bytes of a notice, of which PostgreSQL takes 8000.
LARGEST_NOTICE = 6000

# A notice is worth nothing after a crash, so that its transaction need not wait for the disk.
_NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s)"


class Notices:
    """What a process tells the workers of one database, and when.

    All its queues share one allowance, whatever their number. The notice that uses it up names
    those of late as well, whose workers then look until there may be another; a queue that is not
    among them, and has to wait, is named by that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: When workers were told of a queue.
        self._told: dict[str, float] = {}
        #: The queues with new jobs of which nobody was told: as a dictionary, for their order.
        self._untold: dict[str, None] = {}
        #: Until when the allowance is used up.
        self._used_until = -math.inf

    def due(self, queues: Collection[str], now: float) -> list[str]:
        """Return the queues that a notice shall name now, if any, since these have new jobs."""
        with self._lock:
            untold = [queue for queue in queues if not self._is_told(queue, now, NOTICE_INTERVAL)]
            # In front, for the others have waited already, and their workers have looked.
            self._untold = dict.fromkeys(untold) | self._untold
            # In notices. A tenth of one is for what is lost in rounding.
            used = max(self._used_until - now, 0) / NOTICE_INTERVAL
            if not self._untold or used > NOTICES_AT_ONCE - 0.9:
                return []
            self._used_until = max(self._used_until, now) + NOTICE_INTERVAL
            recent = [queue for queue in self._told if self._is_told(queue, now, RECENT)]
            candidates = [*self._untold]
            if used + 1 > NOTICES_AT_ONCE - 0.9:
                candidates += [queue for queue in recent if queue not in self._untold]
            named = _those_that_fit(candidates)
            self._told = {queue: self._told[queue] for queue in recent} | dict.fromkeys(named, now)
            for queue in named:
                self._untold.pop(queue, None)
            return named

    def _is_told(self, queue: str, now: float, seconds: float) -> bool:
        return now - self._told.get(queue, -math.inf) < seconds


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
    """Return the queues that a notice names; a text that is no list is the name of one."""
    try:
        named = json.loads(notice)
    except (ValueError, RecursionError):
        named = notice
    names = cast("list[object]", named) if isinstance(named, list) else [notice]
    return frozenset(name for name in names if isinstance(name, str))


def _those_that_fit(queues: Collection[str]) -> list[str]:
    """Return the first of the queues, as many as a notice can name: one of them at least."""
    fitting: list[str] = []
    left = LARGEST_NOTICE
    for queue in queues:
        left -= len(notice_of([queue]).encode())
        if left < 0 and fitting:
            break
        fitting.append(queue)
    return fitting
