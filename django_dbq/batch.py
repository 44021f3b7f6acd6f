"""What one worker holds at a time, and how much that should be."""

from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from django_dbq.claims import Claim, Outcome
from django_dbq.models import Job

T = TypeVar("T")

#: Seconds of work that a worker claims at once: what others wait for, and lose if it is killed.
TARGET_SECONDS = 0.03
LARGEST_BATCH = 100


class Batch:
    """The claimed jobs of a worker: those to start, the running one, and the outcomes to write.

    The loop's thread starts and ends jobs. When the worker is asked to stop, another thread takes
    away what has not started; each step is one atomic operation of a deque, so that a job is either
    started or taken.
    """

    def __init__(self) -> None:
        self.running: Claim | None = None
        self._unstarted: deque[tuple[Job, Claim]] = deque()
        self._ended: deque[Outcome] = deque()

    def hold(self, claimed: Iterable[tuple[Job, Claim]]) -> None:
        """Take in jobs that were claimed."""
        self._unstarted.extend(claimed)

    def start(self) -> tuple[Job, Claim] | None:
        """Take the next job to run, or None if there is none left."""
        try:
            job, claim = self._unstarted.popleft()
        except IndexError:
            return None
        self.running = claim
        return job, claim

    def next_unstarted(self) -> Claim | None:
        """Return the claim of the job that would be started next, without taking it."""
        try:
            return self._unstarted[0][1]
        except IndexError:
            return None

    def end(self, outcome: Outcome) -> None:
        """Keep the outcome of the running job until it is written."""
        self._ended.append(outcome)
        self.running = None

    def take_unstarted(self) -> list[Claim]:
        """Take away what has not started."""
        return [claim for _, claim in _drain(self._unstarted)]

    def take_ended(self) -> list[Outcome]:
        """Take away the outcomes that are still to be written."""
        return _drain(self._ended)


def _drain(items: deque[T]) -> list[T]:
    taken: list[T] = []
    while True:
        try:
            taken.append(items.popleft())
        except IndexError:
            return taken


class BatchSize:
    """How many jobs to claim at once, from how long their tasks have taken.

    It starts with one, at most doubles, and falls at once: the slowest task of a batch counts,
    since a claimed job that waits behind a slow task waits in vain.
    """

    def __init__(self) -> None:
        self.size = 1

    def adapt(self, slowest: float, *, overtaken: bool = False) -> None:
        """Follow the slowest task of the batch that ended, in seconds.

        ``overtaken``: the batch held jobs that had to make way for the next task of another one.
        """
        if overtaken:
            self.size = 1
            return
        fitting = int(TARGET_SECONDS / slowest) if slowest > 0 else LARGEST_BATCH
        self.size = max(1, min(fitting, self.size * 2, LARGEST_BATCH))
