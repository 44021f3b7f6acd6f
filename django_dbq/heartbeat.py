"""A worker reports that it is there, and looks for others that are not."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from django_dbq import __version__
from django_dbq.backends import Backend, LostJobs
from django_dbq.batch import Batch
from django_dbq.bell import Bell
from django_dbq.clock import DatabaseNow
from django_dbq.conf import conf
from django_dbq.logs import logfmt
from django_dbq.models import Worker
from django_dbq.weather import LOG_INTERVAL, WEATHER, Weather

logger = logging.getLogger(__name__)

#: For how long the row of a lost worker is kept, since a statement that it had sent may still be
#: carried out, and then its jobs have to be rescued again. By the database's clock, which may have
#: been set meanwhile: so by far longer than any statement takes.
REMEMBERED = timedelta(hours=3)

#: Seconds from one search of all jobs for those whose worker has no row to the next.
SEARCH_SECONDS = 60
#: Seconds that a worker without a row has for a report.
ORPHAN_LEASE = 300

#: Seconds that a worker waits at its end for its row to be removed.
FAREWELL_SECONDS = 5


@dataclass
class Sighting:
    """What another worker's row said, since when it has, and when next to rescue from it."""

    last_seen: datetime
    since: float
    next_rescue: float = float("-inf")


class Heartbeat:
    """Keeps the worker's row, and rescues what lost workers held; in a thread of its own.

    It has a connection of its own as well, so that no task and no claim keeps it waiting. A report
    gives the worker a *lease*: while that lasts no other worker takes its jobs; once it has run out
    the worker starts nothing until it has reported again. The worker measures it from before the
    report was sent, and others from after they saw it: each by a clock of its own that only goes
    on. The times in the rows are the database's, which may be local ones that leap.
    """

    def __init__(
        self,
        *,
        worker: uuid.UUID,
        queues: Sequence[str],
        backend: Backend,
        batch: Batch,
        bell: Bell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker = worker
        self.queues = queues
        self.backend = backend
        self.lost = LostJobs(backend)
        self.batch = batch
        self.bell = bell
        self.clock = clock
        self.interval = conf().HEARTBEAT_SECONDS
        self.lease = conf().lease
        self._weather = Weather("heartbeat", clock=clock)
        self._next_line = float("-inf")
        self._steady_since: float | None = None
        self._sightings: dict[uuid.UUID, Sighting] = {}
        self._last_beat = float("-inf")
        #: When to look for jobs whose worker has no row, and how far that has come.
        self._next_search = float("-inf")
        self._searched: uuid.UUID | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self.run, name="dbq-heartbeat", daemon=True)
        batch.lease_until = float("-inf")

    def start(self) -> None:
        """Report from now on."""
        self._thread.start()

    def end(self) -> None:
        """Stop reporting, and remove the row, unless jobs may still turn up as held."""
        self._ended.set()
        # The database may not answer, and the row of a worker that is gone is no harm.
        self._thread.join(timeout=FAREWELL_SECONDS)

    def run(self) -> None:
        """Beat until ``end``."""
        pause = 0.0
        while not self._ended.wait(pause):
            try:
                self.beat()
                self._weather.cleared()
                pause = self.interval
            # Whatever it is: without reports the worker would start nothing any more.
            except Exception as error:  # noqa: BLE001 - see above
                self._steady_since = None
                with suppress(Exception):
                    connections[self.backend.using].close()
                pause = min(self.interval, self._worsened(error))
        # Jobs that could not be handed back, or turn up late from a claim whose answer never came,
        # are for others to rescue: then the row is needed, as is that of a lost worker.
        if self.batch.frozen_since is None and not self.batch.tokens:
            with suppress(Exception):
                self._rows().filter(pk=self.worker).delete()
        with suppress(Exception):
            connections[self.backend.using].close()

    def _worsened(self, error: Exception) -> float:
        """Take note of an error; return how many seconds to wait before the next try."""
        if isinstance(error, WEATHER):
            return self._weather.worsened(error)
        now = self.clock()
        if now >= self._next_line:
            self._next_line = now + LOG_INTERVAL
            logger.error("%s", logfmt(event="heartbeat_failed"), exc_info=error)
        return LOG_INTERVAL

    def beat(self) -> None:
        """Report, and rescue the jobs of those who have not reported for long."""
        begin = self.clock()
        self._report()
        if begin - self._last_beat > 2 * self.interval or self._steady_since is None:
            self._steady_since = begin
            self._sightings.clear()
        self._last_beat = begin
        if self.batch.renew_lease(begin + self.lease):
            self.bell.ring()
        rows = self._look_at_others()
        # While the database was away nobody could report. Who has reported all along knows that
        # others could have.
        if begin - self._steady_since >= self.lease:
            for row in rows:
                self._rescue_from(row, begin)
            self._look_for_orphans(begin)

    def _report(self) -> None:
        now: Any = DatabaseNow()
        since = self.batch.held_since
        values: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": [*self.queues],
            "version": __version__,
            "last_seen": now,
            "lease": self.lease,
        }
        known = {} if since is None else {"held_since": since}
        # All of them, for the row may be one that others made when there was none.
        if not self._rows().filter(pk=self.worker).update(**values, **known):
            row = Worker(id=self.worker, started=now, held_since=since or now, **values)
            self._rows().bulk_create([row])
        if since is None:
            self.batch.last_claimed = self._rows().get(pk=self.worker).held_since

    def _look_at_others(self) -> Sequence[Worker]:
        """Take note of what the others have reported; return their rows."""
        rows = [*self._rows().exclude(pk=self.worker).annotate(now=DatabaseNow())]
        before, now = self._sightings, self.clock()
        self._sightings = {}
        for row in rows:
            known = before.get(row.pk)
            if known is None or known.last_seen != row.last_seen:
                known = Sighting(row.last_seen, now)
            self._sightings[row.pk] = known
        return rows

    def _rescue_from(self, row: Worker, now: float) -> None:
        """Rescue the jobs of a worker, if it is lost."""
        sighting = self._sightings[row.pk]
        silent = now - sighting.since
        if silent < row.lease or now < sighting.next_rescue:
            return
        sighting.next_rescue = now + row.lease
        if count := self.lost.rescue(row):
            line = logfmt(event="jobs_rescued", count=count, worker=row, silent=f"{silent:.1f}")
            logger.warning("%s", line)
        elif vars(row)["now"] - row.last_seen > REMEMBERED:
            self._rows().filter(pk=row.pk, last_seen=row.last_seen).delete()

    def _look_for_orphans(self, now: float) -> None:
        """Make a row for a worker that has jobs and none: if it does not report, it is lost.

        One that lives makes the row its own with its next report.
        """
        if now < self._next_search:
            return
        found, self._searched = self.lost.find_orphans(self._searched)
        if self._searched is None:
            self._next_search = now + SEARCH_SECONDS
        then: Any = DatabaseNow()
        for worker, since in found.items():
            logger.warning("%s", logfmt(event="worker_without_row", worker=worker))
            row = Worker(
                id=worker, host="unknown", pid=0, queues=[], version="", started=then,
                last_seen=then, held_since=since, lease=max(self.lease, ORPHAN_LEASE),
            )  # fmt: skip
            self._rows().bulk_create([row], ignore_conflicts=True)

    def _rows(self) -> QuerySet[Worker]:
        return Worker.objects.using(self.backend.using)
