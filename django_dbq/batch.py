"""What one worker holds at a time, and how much that should be."""

import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from django_dbq.bell import Bell
from django_dbq.claims import Claim, JobValues, Outcome
from django_dbq.execution import release
from django_dbq.models import Job

# Here, since to look up an attribute of a model's class takes as long as a call.
_WAITING = Job.WAITING
#: Seconds of work that a worker holds ahead: what others wait for, and lose if it is killed.
TARGET_SECONDS = 0.03
#: Jobs that a worker holds ahead, however quick they are.
LARGEST_BATCH = 2000
#: Characters of workspaces that a worker holds ahead, as text, however quick the jobs are.
LARGEST_WEIGHT = 16 * 1024 * 1024
#: Seconds that a suspect waits for others to end, or others for it, before they run side by side.
ISOLATION_SECONDS = 30


class Batch:
    """The claimed jobs of a worker: those to start, the running ones, and the outcomes to write.

    The dispatcher's thread brings jobs and takes outcomes away; one or more other threads start and
    end jobs. Each method is one step under a lock, so that a job is always in exactly one place:
    it waits to be started, or runs, or has ended, or its outcome is just being written.

    A *suspect* is a job with which a worker was lost before: it runs alone, so that it takes no
    other along if it was the cause.

    ``queues``: the worker's, the first of them first. ``bell``: rung when there is something to do
    for the dispatcher. ``concurrency``: how many jobs may run at once.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str],
        bell: Bell,
        concurrency: int = 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queues = queues
        self.bell = bell
        self.concurrency = concurrency
        self.clock = clock
        #: Rung for more jobs when no more than this are left to start.
        self.low_water = 0
        #: Seconds that tasks took, and how many they were, since somebody last asked.
        self.seconds = 0.0
        self.ended_count = 0
        #: When a job was started for the last time, or the first of those to start came in. To who
        #: has just started one it is the present.
        self.last_progress = float("-inf")
        self.overtaken = False
        #: Whether a suspect is held, beside which nothing else is to be claimed or started.
        self.isolating = False
        #: How often the database went away so far.
        self.weather = 0
        #: Until when, by the clock, other workers believe that this one is there.
        self.lease_until = math.inf
        #: When the lease began after it had run out: what was claimed before may be others' by now.
        self._lease_since = -math.inf
        self._closed = False
        self._unstarted: deque[Claim] = deque()
        #: By the identity of the claim: to hash all that it says would take longer.
        self._running: dict[int, tuple[Claim, float]] = {}
        self._ended: list[Outcome] = []
        self._writing: list[Outcome] = []
        self._settled: list[Outcome] = []
        #: When the last of the jobs were claimed, by the database's clock.
        self.last_claimed: datetime | None = None
        #: What ``held_since`` is not to go beyond, while a claim may still turn up.
        self.frozen_since: datetime | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    # For the threads that run jobs

    def start(self, ended: Outcome | None = None, *, wait: bool = True) -> Claim | None:
        """Take the next job to run, waiting for one; None when no more will come.

        ``ended``: the outcome of the job that ran before it, which is kept as by ``end`` before
        there is anything to wait for.
        """
        with self._lock:
            now = self.clock()
            if ended is not None:
                self._end(ended, now)
            while True:
                while not self._unstarted or (self._running and self._is_full()):
                    self.bell.ring()
                    if not self._unstarted and (self._closed or not wait):
                        return None
                    self._changed.wait(1 if self._unstarted else None)
                    now = self.clock()
                if now <= self.lease_until:
                    break
                # Others may have them by now.
                self._release_unstarted()
            claim = self._unstarted.popleft()
            self.last_progress = now
            self._running[id(claim)] = claim, now
            if len(self._unstarted) <= self.low_water:
                self.bell.ring()
            return claim

    def end(self, outcome: Outcome, *, written: bool = False) -> None:
        """Keep the outcome of a running job until it is written, unless that is done already.

        A job whose next task ranks before what is still held makes that go back.
        """
        with self._lock:
            self._end(outcome, self.clock(), written=written)

    def wait_for_running(self) -> None:
        """Return when nothing runs any more."""
        with self._lock:
            while self._running:
                self._changed.wait()

    # For the dispatcher

    def hold(self, claimed: Sequence[Claim], *, asked: float = math.inf) -> None:
        """Take in jobs that were claimed; those that rank before others are started before them.

        ``claimed``: in the order in which they shall run. ``asked``: when the database was asked
        for them, by the clock: if the lease has run out since, they go back.
        """
        with self._lock:
            last = self._unstarted[-1] if self._unstarted else None
            if last is None:
                self.last_progress = self.clock()
            self._unstarted.extend(claimed)
            if claimed:
                self.last_claimed = min({claim.started for claim in claimed})
                self.isolating |= {claim.losses for claim in claimed} != {0}
            if last and claimed and self._rank(claimed[0].row) < self._rank(last.row):
                ranked = sorted(self._unstarted, key=lambda claim: self._rank(claim.row))
                self._unstarted = deque(ranked)
            # Those that ended after the claim: it did not see that they go on.
            for outcome in (*self._writing, *self._ended):
                if outcome.row.state in _WAITING:
                    self._make_way(outcome.row)
            if asked < self._lease_since:
                self._release_unstarted()
            self._changed.notify_all()

    def renew_lease(self, until: float) -> bool:
        """Take note of a report that has arrived; return whether the lease had run out before it.

        Others may have what was held then and had not started, so that it goes back.
        """
        with self._lock:
            now = self.clock()
            if had_run_out := now > self.lease_until:
                self._lease_since = now
                self._release_unstarted()
            self.lease_until = until
            return had_run_out

    @property
    def is_isolated_for_long(self) -> bool:
        """Whether a suspect has had the worker for itself, or waited for that, long enough."""
        return self.clock() - self.last_progress >= ISOLATION_SECONDS

    def abandon(self) -> None:
        """Start nothing more, because nobody will write what comes of it; others will rescue it."""
        with self._lock:
            self.frozen_since = min(
                [claim.started for claim in self._held()], default=self.last_claimed
            )
            self._unstarted.clear()
            self._closed = True
            self._changed.notify_all()

    def decline(self, claimed: Sequence[Claim]) -> None:
        """Make outcomes of jobs that were claimed and never held."""
        with self._lock:
            self._release(claimed)

    def hand_back(self) -> None:
        """Make outcomes of what has not started, which let others have it."""
        with self._lock:
            self._release_unstarted()

    def hand_back_running(self) -> None:
        """Make outcomes of what runs as well: nobody will wait for its end."""
        with self._lock:
            self._ended += [release(claim) for claim, _ in self._running.values()]
            self._running.clear()

    def take_ended(self) -> list[Outcome]:
        """Take away the outcomes to be written; then comes ``written`` or ``put_back``."""
        with self._lock:
            self._writing, self._ended = self._writing + self._ended, []
            return list(self._writing)

    def take_settled(self) -> list[Outcome]:
        """Take away the outcomes that were written by those who ran the jobs."""
        with self._lock:
            settled, self._settled = self._settled, []
            return settled

    def written(self) -> None:
        """Let go of the outcomes that were taken away: their jobs are held no more."""
        with self._lock:
            self._writing = []

    def put_back(self) -> list[Outcome]:
        """Keep the outcomes that were taken away, and could not be written; return them."""
        with self._lock:
            unwritten = self._writing
            self._writing, self._ended = [], unwritten + self._ended
            return unwritten

    def take_pace(self) -> float | None:
        """Return how many seconds the tasks took that have ended since, on average."""
        with self._lock:
            seconds, count = self.seconds, self.ended_count
            self.seconds, self.ended_count = 0.0, 0
            return seconds / count if count else None

    def close(self) -> None:
        """Let the threads that run jobs end, once nothing is left to start."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether no more jobs are to be started."""
        return self._closed

    @property
    def unstarted(self) -> int:
        """How many jobs wait to be started."""
        return len(self._unstarted)

    @property
    def tokens(self) -> set[uuid.UUID]:
        """The tokens of all that is held."""
        with self._lock:
            return {claim.token for claim in self._held()}

    @property
    def held_since(self) -> datetime | None:
        """The time before which nothing was claimed that is held, by the database's clock.

        A claim that is under way is later than the last one. None for a worker without a row.
        """
        with self._lock:
            times = [self.frozen_since, *(claim.started for claim in self._held())]
            known = [time for time in times if time is not None]
            return min(known, default=self.last_claimed)

    @property
    def running(self) -> list[Claim]:
        """The claims of the jobs that run."""
        with self._lock:
            return [claim for claim, _ in self._running.values()]

    @property
    def size(self) -> tuple[int, int, int]:
        """How many jobs wait to be started, run, and have ended and are not written."""
        with self._lock:
            ended = len(self._ended) + len(self._writing)
            return len(self._unstarted), len(self._running), ended

    def _end(self, outcome: Outcome, now: float, *, written: bool = False) -> None:
        """Keep the outcome of a running job; what else may start by that is told."""
        running = self._running.pop(id(outcome.claim), None)
        if running is None:  # handed back meanwhile, by a worker that leaves at once
            return
        self.seconds += now - running[1]
        self.ended_count += 1
        (self._settled if written else self._ended).append(outcome)
        if outcome.row.state in _WAITING:
            self._make_way(outcome.row)
        if self.isolating:
            self.isolating = bool(self._unstarted or self._running)
        if self.concurrency > 1:
            self.bell.ring()
            self._changed.notify_all()

    def _is_full(self) -> bool:
        """Whether no other job may be started beside those that run."""
        if len(self._running) >= self.concurrency:
            return True
        return self.isolating and bool(self._running) and not self.is_isolated_for_long

    def _held(self) -> list[Claim]:
        running = [claim for claim, _ in self._running.values()]
        ended = [outcome.claim for outcome in (*self._ended, *self._writing)]
        return [*running, *self._unstarted, *ended]

    def _release_unstarted(self) -> None:
        self._release(self._unstarted)
        self._unstarted = deque()

    def _release(self, claims: Iterable[Claim]) -> None:
        self._ended += [release(claim) for claim in claims]
        self.isolating &= bool(self._running)

    def _make_way(self, row: JobValues) -> None:
        """Hand back what the next task of a job that goes on has to run before."""
        if not self._unstarted:
            return
        # They are in order, so that as a rule a look at the last one is enough.
        last = self._unstarted[-1].row
        if row.queue_name == last.queue_name and row.priority <= last.priority:
            return
        if row.queue_name not in self.queues:
            return
        rank = self._rank(row)
        if rank < self._rank(last):
            self.overtaken = True
            self._release(claim for claim in self._unstarted if rank < self._rank(claim.row))
            kept = [claim for claim in self._unstarted if rank >= self._rank(claim.row)]
            self._unstarted = deque(kept)

    def _rank(self, row: JobValues) -> tuple[int, int]:
        """Return the job's place among others: by queue, in the order given, then by priority."""
        # MariaDB takes DEFAULT for the queue "default".
        known = row.queue_name in self.queues
        return self.queues.index(row.queue_name) if known else 0, -row.priority


class BatchSize:
    """How many jobs to hold ahead, from how long their tasks have taken, and how large they are.

    It starts with none, at most doubles, and falls at once: a job that waits behind a slow task
    waits in vain.
    """

    def __init__(self, largest: int = LARGEST_BATCH) -> None:
        self.largest = largest
        self.size = 0
        #: Characters of a workspace, on average, of the jobs that were claimed; it falls slowly.
        self.weight = 0.0

    def adapt(self, pace: float, *, threads: int) -> None:
        """Follow the seconds that a task took on average, of the batch that ended."""
        fitting = int(threads * TARGET_SECONDS / pace) if pace > 0 else self.largest
        affordable = int(LARGEST_WEIGHT / self.weight) if self.weight else self.largest
        self.size = min(fitting, affordable, self.size * 2 + 1, self.largest)

    def weigh(self, claims: Sequence[Claim]) -> None:
        """Take note of how large the jobs are that were claimed; there is at least one.

        It says how many of their like there may be next time: the first large ones come as many as
        small ones would.
        """
        average = sum([len(claim.row.workspace) for claim in claims]) / len(claims)
        self.weight = max(average, 0.9 * self.weight)
