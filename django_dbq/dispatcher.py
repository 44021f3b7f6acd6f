"""A worker's traffic with the database: what it claims, what it writes, what it hands back."""

import logging
import math
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

from django.db import Error, connections

from django_dbq.backends import Backend, LostJobs, Wanted
from django_dbq.batch import LARGEST_BATCH, TARGET_SECONDS, Batch, BatchSize
from django_dbq.bell import Bell
from django_dbq.intake import Intake
from django_dbq.known import KnownJobs
from django_dbq.limits import Limits, Tally
from django_dbq.logs import logfmt
from django_dbq.stopping import StopRequests, leave_at_once
from django_dbq.wakeup import WakeUp
from django_dbq.weather import WEATHER, Weather
from django_dbq.writing import OutcomeWriter

logger = logging.getLogger(__name__)

#: Seconds between two looks at the parked jobs, while there is other work.
PROMOTE_INTERVAL = 0.04
#: Share of a batch at which more is claimed: early enough for the answer to come before the last
#: job is started, and late enough for a claim to be worth its transaction.
REFILL_SHARE = 0.75
#: Seconds after an error in which a statement that was sent before it may still take effect.
UNCERTAIN_SECONDS = 300
#: Seconds between two looks at what a claim whose answer never came may have left, meanwhile.
SWEEP_INTERVAL = 5
#: Seconds that a worker which is to stop waits for the database to take its last outcomes.
PATIENCE = 30


class Dispatcher:
    """Keeps a batch filled and its outcomes written, until the worker ends.

    It has a thread of its own, and so a database connection of its own: waiting for the database
    keeps no task waiting, and what a task does to its connection is no concern here. ``threads``:
    how many tasks can run at once. ``largest``: how many jobs to hold ahead at most.
    """

    def __init__(
        self,
        *,
        worker: uuid.UUID,
        queues: Sequence[str],
        backend: Backend,
        batch: Batch,
        bell: Bell,
        stop: StopRequests,
        wakeup: WakeUp,
        limits: Limits,
        threads: int = 1,
        largest: int = LARGEST_BATCH,
        clock: Callable[[], float] = time.monotonic,
        on_progress: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        self.worker = worker
        self.queues = queues
        self.backend = backend
        self.batch = batch
        self.bell = bell
        self.stop = stop
        self.wakeup = wakeup
        self.limits = limits
        self.threads = threads
        self.clock = clock
        self.outcomes = OutcomeWriter(
            backend=backend, batch=batch, on_progress=on_progress, on_doubt=self._doubt
        )
        self.known = KnownJobs(queues=queues, backend=backend, clock=clock)
        self._size = BatchSize(largest)
        self.intake = Intake(
            backend=backend,
            batch=batch,
            known=self.known,
            size=self._size,
            on_doubt=self._doubt,
        )
        self.error: BaseException | None = None
        self._begin = clock()
        self._last_claim = -math.inf
        self._last_write = -math.inf
        #: Whether a claim may find something: the last one left some, or something happened since.
        self._promising = True
        self._next_look = -math.inf
        self._next_promotion = -math.inf
        self._marked = False
        self._ended = False
        self._weather = Weather("dispatcher", clock=clock)
        self._lost = LostJobs(backend)
        self._uncertain_until = -math.inf

    def run(self) -> None:
        """Take turns until ``end``; what goes wrong here ends the worker, and is its error.

        That the database goes away is not the worker's error: it keeps the outcomes that it could
        not write, and goes on when the database is back.
        """
        try:
            while not self._has_taken_turns():
                pass
        except BaseException as error:  # noqa: BLE001 - raised again by the worker
            self.error = error
            self.batch.abandon()
        finally:
            self.batch.close()
            connections[self.backend.using].close()

    def _has_taken_turns(self) -> bool:
        """Take turns until ``end``; return False if the database went away before."""
        try:
            with self.listening():
                while not self._ended:
                    goes_on = self.turn()
                    self._weather.cleared()
                    if not goes_on:
                        self.wait()
                self.intake.give_back()
                self._write()
        except WEATHER as error:
            self._shelter(error)
            return False
        return True

    def _shelter(self, error: Exception) -> None:
        """Keep what could not be written, and wait before the database is asked again."""
        now = self.clock()
        # It is here already, and can be run without the database.
        self.intake.take_in_meanwhile()
        self.outcomes.put_back()
        self._doubt(UNCERTAIN_SECONDS)
        self.batch.weather += 1
        self._promising = True
        with suppress(Error):
            connections[self.backend.using].close()
        if self.stop:
            self.intake.give_back()
            self.batch.hand_back()
            self.batch.close()
        until = now + self._weather.worsened(error)
        while (left := until - self.clock()) > 0 and self.stop.count < 2:
            self.bell.wait(left)
        if self.stop.seconds > PATIENCE and not self.batch.running:
            raise error

    def _doubt(self, seconds: float = 0) -> None:
        """Look for jobs that the last statement has claimed, or still claims within that time."""
        self._next_sweep = self.clock()
        self._uncertain_until = max(self._uncertain_until, self._next_sweep + seconds)
        self.batch.frozen_since = self.batch.held_since

    def end(self) -> None:
        """Let ``run`` write the last outcomes and return: no task will be run any more."""
        self._ended = True
        self.bell.ring()

    @contextmanager
    def listening(self) -> Generator[None, None, None]:
        """Prepare the connection of this thread, and listen for new jobs on it."""
        self.backend.open()
        with self.wakeup.listening(self.backend.connection):
            yield

    def turn(self) -> bool:
        """Write what has ended, and claim what there is room for; return whether to go on at once.

        A turn is short, whatever the tasks do: it waits for the database alone.
        """
        self._sweep()
        if self.stop:
            self._stop()
            return False
        self._adapt()
        if self.batch.closed or self._has_worked_enough():
            self.intake.give_back()
            self.batch.hand_back()
            self._write()
            self.batch.close()
            return False
        # Asked before the claim: what still runs then may make its job go on.
        unstarted, running, _ = self.batch.size
        waiting = self.intake.waiting
        claimed = self._exchange()
        if self._has_worked_enough():
            return True
        busy = waiting or unstarted or running or claimed
        if self.limits.burst and not busy and not self._promising and not self._is_sweep_due():
            self.batch.close()
        return self._promising and self._room() > 0

    def wait(self) -> None:
        """Wait until a task ends, a job is created or due, or a limit or a stop has its time."""
        self.intake.take_in()
        now = self.clock()
        until = math.inf
        if self.limits.seconds is not None and not self.batch.closed:
            until = self._begin + self.limits.seconds
        if self.batch.unstarted:
            until = min(until, now + TARGET_SECONDS)
        if self.batch.frozen_since is not None:
            until = min(until, max(now, self._next_sweep))
        has_room = not self.batch.closed and self._room() > 0
        if has_room:
            until = min(until, self._next_look if not self._promising else now)
        elif self.limits.rate:
            until = min(until, max(now, self._last_claim + self.limits.rate))
        seconds = None if until == math.inf else max(0, until - now)
        if has_room:
            if self.wakeup.wait(seconds):
                self._promising = True
                # What we were told of is new. Whether others have become due is seen behind it.
                soon = min(self._next_look, self.clock() + PROMOTE_INTERVAL)
                self._next_promotion = max(self._next_promotion, soon)
        else:
            self.bell.wait(seconds)

    def _adapt(self) -> None:
        """Follow the pace of the tasks; hand back what would wait for one that turned out slow."""
        if self.batch.isolating and self.batch.is_isolated_for_long:
            self.batch.isolating = False
        stuck = self.clock() - self.batch.last_progress > 2 * TARGET_SECONDS
        if stuck and self.batch.unstarted and not self.batch.isolating:
            self.intake.give_back()
            self.batch.hand_back()
            self._size.size = 0
        pace = self.batch.take_pace()
        if self.batch.overtaken:
            self.batch.overtaken = False
            self._size.size = 0
        elif pace is not None:
            self._size.adapt(pace, threads=self.threads)
        self.batch.low_water = int(self._size.size * REFILL_SHARE)

    def _room(self) -> int:
        """Return how many jobs there is room for now."""
        if self.batch.isolating or self.clock() > self.batch.lease_until:
            return 0
        unstarted, running, ended = self.batch.size
        unstarted += self.intake.waiting
        room = self.threads + self._size.size - unstarted - running
        if self.limits.rate:
            is_time = self.clock() >= self._last_claim + self.limits.rate
            room = min(self.threads - unstarted - running, 1) if is_time else 0
        elif unstarted > self.batch.low_water:
            room = 0
        if self.limits.jobs is not None:
            held = unstarted + running + ended
            room = min(room, self.limits.jobs - self.outcomes.tally.ended - held)
        return room

    def _exchange(self) -> bool:
        """Write what has ended and claim what there is room for; return whether that was any."""
        now = self.clock()
        self._promising |= now >= self._next_look
        room = self._room()
        if room < 1 and self._may_write_later(now):
            return False
        self._last_write = now
        self._promising |= self.outcomes.collect()
        if not self._promising or room < 1:
            self.outcomes.write()
            return False
        # After the look at the lease, without which there is no room.
        asked = self.clock()
        if promoting := now >= self._next_promotion:
            self._next_promotion = now + PROMOTE_INTERVAL
        wanted = Wanted(self.queues, self.known.names(), room, self.worker, promoting)
        claimed = self.outcomes.exchange(wanted, meanwhile=self.intake.take_in_meanwhile)
        is_kept = self.intake.bring(claimed, asked=asked)
        self._promising = len(claimed) == room or not is_kept
        if claimed:
            self._last_claim = self.clock()
            if not self._promising or self._room() < 1:
                self.intake.take_in()
        else:
            self.known.warn_of_others()
        if not self._promising:
            # Nothing else is due: when will it be?
            following = self._promote(now)
            pause = self.wakeup.pause(found=bool(claimed))
            self._next_look = self.clock() + min(pause, following)
        return bool(claimed)

    def _may_write_later(self, now: float) -> bool:
        """Return whether the outcomes can wait for the next claim, which takes them along."""
        is_soon = self.batch.unstarted > self.batch.low_water
        return is_soon and now - self._last_write < TARGET_SECONDS

    def _promote(self, now: float) -> float:
        """Let claims see the parked jobs that are due; return the seconds until the next one is."""
        following = self.backend.promote()
        self._promising |= following == 0
        # The claim that looks for what is due by then has to promote it as well.
        self._next_promotion = now + min(following or PROMOTE_INTERVAL, PROMOTE_INTERVAL)
        return math.inf if following is None else following

    def _write(self) -> None:
        self.outcomes.collect()
        self.outcomes.write()

    def _is_sweep_due(self) -> bool:
        return self.batch.frozen_since is not None and self.clock() >= self._next_sweep

    def _sweep(self) -> None:
        """Hand back the jobs that are ours by the table, and that we know nothing of."""
        if not self._is_sweep_due() or (since := self.batch.held_since) is None:
            return
        now = self.clock()
        self.intake.take_in()
        self._next_sweep = now + SWEEP_INTERVAL
        tokens = self.batch.tokens
        if count := self._lost.hand_back_unknown(self.worker, since=since, tokens=tokens):
            self._promising = True
            logger.warning("%s", logfmt(event="jobs_handed_back", count=count))
        if now >= self._uncertain_until:
            self.batch.frozen_since = None
            self.outcomes.are_sure()

    def _stop(self) -> None:
        """Hand back what has not started, mark what runs; the second time, hand that back too."""
        self.intake.give_back()
        self.batch.hand_back()
        self.batch.close()
        if self.stop.count > 1:
            self.batch.hand_back_running()
            self._write()
            leave_at_once()
        self._write()
        if not self._marked:
            self.backend.stop(self.batch.running)
            self._marked = True

    def _has_worked_enough(self) -> bool:
        limits = self.limits
        if limits.jobs is not None and self.outcomes.tally.ended >= limits.jobs:
            return True
        return limits.seconds is not None and self.clock() - self._begin >= limits.seconds
