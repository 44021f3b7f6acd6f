"""What a claim has found, on its way into the batch."""

import logging
import math
from collections.abc import Callable, Sequence

from django.db import DataError

from django_dbq.backends import Backend
from django_dbq.batch import Batch, BatchSize
from django_dbq.claims import Claim
from django_dbq.execution import release
from django_dbq.known import KnownJobs

logger = logging.getLogger(__name__)


class Intake:
    """Brings the jobs of a claim into the batch: at once, or while the database works on the next.

    To read a thousand jobs from the driver takes a third of the time in which the database claims
    a thousand others, so that neither should wait for the other.

    ``size``: how many jobs to hold ahead. ``threads``: how many tasks can run at once.
    ``on_doubt``: called when there are jobs that were claimed and could not be read.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        batch: Batch,
        known: KnownJobs,
        size: BatchSize,
        threads: int,
        on_doubt: Callable[[], None],
    ) -> None:
        self.backend = backend
        self.batch = batch
        self.known = known
        self.size = size
        self.threads = threads
        self.on_doubt = on_doubt
        self._claimed: Sequence[Claim] = []
        self._asked = -math.inf

    @property
    def waiting(self) -> int:
        """How many jobs were claimed and are not in the batch yet."""
        return len(self._claimed)

    def bring(self, claimed: Sequence[Claim], *, asked: float) -> None:
        """Keep claims to be taken in, now that those before them are.

        ``asked``: when the database was asked for them, by the clock.
        """
        self._claimed, self._asked = claimed, asked

    def take_in(self) -> None:
        """Hold what this code can run; the rest goes back, to workers with newer code.

        So does what would have to wait for a suspect to run alone, and what is not to be held
        ahead: before the others are started, which they must not be lost with.
        """
        kept, returned = self._sorted()
        if returned:
            self.backend.finish([release(claim) for claim in returned])
        self._hold(kept)

    def take_in_meanwhile(self) -> None:
        """Do the same while the database is busy, if it takes no more than to hold them all."""
        kept, returned = self._sorted()
        if not returned:
            self._hold(kept)

    def _sorted(self) -> tuple[list[Claim], list[Claim]]:
        """Return the claims to hold, and those to give back."""
        if not self._claimed:
            return [], []
        try:
            claimed = self._claimed = list(self._claimed)
        except (DataError, ValueError):
            logger.exception("event=claimed_jobs_unreadable")
            self._claimed = []
            self.on_doubt()
            return [], []
        fitting = self._fitting(claimed)
        kept, returned = claimed[:fitting], claimed[fitting:]
        if too_new := self.known.too_new(kept):
            kept = [claim for claim in kept if claim not in too_new]
        return kept, [*returned, *too_new]

    def _fitting(self, claimed: Sequence[Claim]) -> int:
        """Return how many of the claims may be held together, and beside what is held already."""
        alone = self.known.not_held_ahead(claimed)
        first = next(
            (i for i, claim in enumerate(claimed) if claim.losses or claim.job_name in alone),
            len(claimed),
        )
        if self.size.size:
            return max(first, 1)
        # Since they were asked for, something may have come in that bears no others beside it.
        unstarted, running, _ = self.batch.size
        room = 0 if self.batch.isolating else self.threads - unstarted - running
        return max(0, min(room, max(first, 1)))

    def _hold(self, kept: Sequence[Claim]) -> None:
        if not self._claimed:
            return
        self.size.weigh(self._claimed)
        if len(kept) < len(self._claimed):
            self.size.size = 0
        self._claimed = []
        self.batch.hold(kept, asked=self._asked)
        if self.batch.isolating:
            self.size.size = 0
