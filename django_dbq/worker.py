"""The loop: claim, execute, finish; and what happens when it is asked to stop."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from django.db import DataError, IntegrityError, connections

from django_dbq import registry
from django_dbq.backends import backend_for
from django_dbq.batch import TARGET_SECONDS, Batch, BatchSize
from django_dbq.claims import JobValues, Outcome
from django_dbq.execution import describe, execute, release
from django_dbq.logs import logfmt
from django_dbq.models import Job
from django_dbq.stopping import StopRequests, leave_at_once

logger = logging.getLogger(__name__)

#: Seconds between two looks of an idle worker at its queues.
POLL_INTERVAL = 0.05
#: Seconds between two searches for jobs that nobody here knows.
UNKNOWN_INTERVAL = 60
#: Seconds that a second request to stop waits for a claim or a finish to end.
PATIENCE = 5


@dataclass(kw_only=True)
class Tally:
    """How many jobs a worker has brought to an end so far."""

    complete: int = 0
    failed: int = 0

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Count the outcomes that ended their job."""
        self.complete += sum(outcome.row.state == Job.STATES.COMPLETE for outcome in outcomes)
        self.failed += sum(outcome.row.state == Job.STATES.FAILED for outcome in outcomes)


class Worker:
    """Runs the jobs of some queues, one task at a time, until it is asked to stop.

    ``queues``: served in this order. ``rate_limit``: the least number of seconds between the
    starts of two tasks; 0 for no limit. ``burst``: end when nothing is due. ``using``: the
    database. ``on_progress``: called after each batch with the tally so far. ``clock``: seconds,
    for durations only; what is due is asked of the database.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str],
        using: str,
        rate_limit: float = 1,
        burst: bool = False,
        on_progress: Callable[[Tally], None] = lambda tally: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = uuid.uuid4()
        self.queues = queues
        self.using = using
        self.rate_limit = rate_limit
        self.burst = burst
        self.on_progress = on_progress
        self.clock = clock
        self.backend = backend_for(using)
        self.stop = StopRequests()
        self.tally = Tally()
        self._batch = Batch()
        #: Held while what the batch says and what the database says are not the same.
        self._writing = threading.Lock()
        self._batch_size = BatchSize()
        self._last_start = float("-inf")
        self._next_unknown_search = float("-inf")
        self._unknown: set[str] = set()
        self._too_new: set[str] = set()

    def run(self) -> Tally:
        """Work until asked to stop, or with ``burst`` until nothing is due; return the tally."""
        with self.stop.watched(self._on_stop_request):
            while not self.stop:
                if self._work():
                    self.on_progress(self.tally)
                elif self.burst:
                    break
                else:
                    self.stop.sleep(POLL_INTERVAL)
        return self.tally

    def _work(self) -> bool:
        """Claim a batch, run it and write what became of it; return whether there was any."""
        self._keep_to_rate_limit()
        limit = 1 if self.rate_limit else self._batch_size.size
        known = registry.names()
        names = [name for name in known if name not in self._too_new]
        with self._writing:
            if self.stop:
                return False
            claimed = self.backend.claim(self.queues, names=names, limit=limit, worker=self.id)
            self._batch.hold(claimed)
        if not claimed:
            self._warn_of_unknown_jobs(known)
            return False
        self._run_batch()
        return True

    def _run_batch(self) -> None:
        """Run what is held; hand back what would keep others waiting, or has been overtaken."""
        begin = self.clock()
        slowest = 0.0
        overtaken = False
        while started := self._batch.start():
            job, claim = started
            now = self.clock()
            # Asked behind start(), so that a request is seen here or finds the job running.
            hand_back = self.stop or overtaken or now - begin > 2 * TARGET_SECONDS
            if hand_back or self._is_too_new(job):
                self._batch.end(release(claim))
                continue
            self._last_start = now
            job.stop_requests = self.stop
            outcome = execute(job, claim)
            self._batch.end(outcome)
            slowest = max(slowest, self.clock() - now)
            overtaken = self._goes_on_first(outcome)
        self._batch_size.adapt(slowest, overtaken=overtaken)
        with self._writing:
            self._finish(self._batch.take_ended())

    def _goes_on_first(self, outcome: Outcome) -> bool:
        """Return whether the job's next task has to run before what is still held."""
        following = self._batch.next_unstarted()
        row = outcome.row
        if following is None or row.state not in Job.WAITING or row.queue_name not in self.queues:
            return False
        return self._rank(row) < self._rank(following.row)

    def _rank(self, row: JobValues) -> tuple[int, int]:
        """Return the job's place among others: by queue, in the order given, then by priority."""
        return self.queues.index(row.queue_name), -row.priority

    def _finish(self, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes; one that the database refuses fails its own job, and no other."""
        try:
            late = self.backend.finish(outcomes)
        except (DataError, IntegrityError, ValueError) as error:
            if len(outcomes) > 1:
                for outcome in outcomes:
                    self._finish([outcome])
                return
            outcomes = [_refused(outcome, error) for outcome in outcomes]
            late = self.backend.finish(outcomes)
        for outcome in late:
            claim = outcome.claim
            logger.warning(
                "%s", logfmt(event="outcome_too_late", name=claim.job_name, id=claim.job_id)
            )
        self.tally.count(outcomes)

    def _on_stop_request(self, count: int) -> None:
        """Hand back what has not started and mark what runs; the second time, leave at once.

        Runs in a thread of its own, with a database connection of its own.
        """
        # Whoever wants to leave at once is not kept for ever by a database that does not answer.
        locked = self._writing.acquire(timeout=PATIENCE)
        try:
            self._let_go(running_too=count > 1)
        except Exception:
            logger.exception("event=stop_request_failed")
        finally:
            connections[self.using].close()
            if count > 1:
                leave_at_once()
            if locked:
                self._writing.release()

    def _let_go(self, *, running_too: bool) -> None:
        """Hand back what has not started; the running job as well, or mark it as STOPPING."""
        # Asked for before the outcomes, among which it may be by then.
        running = self._batch.running
        outcomes = [release(claim) for claim in self._batch.take_unstarted()]
        if running_too:
            ended = self._batch.take_ended()
            outcomes += ended
            if running and running not in [outcome.claim for outcome in ended]:
                outcomes.append(release(running))
        if outcomes:
            self.backend.finish(outcomes)
        if running and not running_too:
            self.backend.stop(running)

    def _keep_to_rate_limit(self) -> None:
        wait = self._last_start + self.rate_limit - self.clock()
        if wait > 0:
            self.stop.sleep(wait)

    def _is_too_new(self, job: Job) -> bool:
        """Return whether newer code made the job's workspace, and if so leave that name alone."""
        known = registry.get(job.name).version
        if job.version <= known:
            return False
        self._too_new.add(job.name)
        found = logfmt(event="job_too_new", name=job.name, version=job.version, known=known)
        logger.warning("%s", found)
        return True

    def _warn_of_unknown_jobs(self, names: Sequence[str]) -> None:
        """Say once which waiting jobs are left alone, since this code does not know them."""
        if self.clock() < self._next_unknown_search:
            return
        self._next_unknown_search = self.clock() + UNKNOWN_INTERVAL
        for name in self.backend.unknown_names(self.queues, names):
            if name not in self._unknown:
                self._unknown.add(name)
                logger.warning("%s", logfmt(event="unknown_job", name=name, known=",".join(names)))


def _refused(outcome: Outcome, error: Exception) -> Outcome:
    """Return the outcome of a job whose values the database would not take."""
    row = replace(outcome.claim.row, state=Job.STATES.FAILED)
    return replace(outcome, row=row, error=describe(error), edited=False)
