"""What a claim has found, on its way into the batch."""

import logging
import math
from collections.abc import Callable, Sequence

from django.db import Error

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

    ``size``: how many jobs to hold ahead. ``on_doubt``: called when there are jobs that were
    claimed and could not be read.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        batch: Batch,
        known: KnownJobs,
        size: BatchSize,
        on_doubt: Callable[[], None],
    ) -> None:
        self.backend = backend
        self.batch = batch
        self.known = known
        self.size = size
        self.on_doubt = on_doubt
        self._claimed: Sequence[Claim] = []
        self._asked = -math.inf

    @property
    def waiting(self) -> int:
        """How many jobs were claimed and are not in the batch yet."""
        return len(self._claimed)

    def bring(self, claimed: Sequence[Claim], *, asked: float) -> bool:
        """Keep claims, to be taken in later; ``asked``: when the database was asked for them.

        If those before them are still here, they ask for more than to be held: what was claimed
        meanwhile goes back, before one of those can start. Returns False then.
        """
        if self._claimed:
            self._take_in(in_place_of=claimed)
            return False
        self._claimed, self._asked = claimed, asked
        return True

    def take_in(self) -> None:
        """Hold what this code can run; the rest goes back, to workers with newer code.

        So does what would have to wait for a suspect to run alone, and what is not to be held
        ahead.
        """
        self._take_in(in_place_of=[])

    def take_in_meanwhile(self) -> None:
        """Do the same while the database is busy, if it takes no more than to hold them all."""
        claimed = self._claimed = self._read(self._claimed)
        if claimed and self._is_all_plain(claimed):
            self._hold(claimed)

    def give_back(self) -> None:
        """Make outcomes of the claims: no more is to be started."""
        self.batch.decline(self._read(self._claimed))
        self._claimed = []

    def _take_in(self, *, in_place_of: Sequence[Claim]) -> None:
        claimed, returned = self._read(self._claimed), self._read(in_place_of)
        self._claimed = []
        if claimed and not self._is_all_plain(claimed):
            count = max(self._held_together(claimed), 1)
            if len(claimed) > count:
                self.size.size = 0
            kept = claimed[:count]
            too_new = self.known.too_new(kept)
            returned = [*claimed[count:], *too_new, *returned]
            claimed = [claim for claim in kept if claim not in too_new] if too_new else kept
        if returned:
            self.backend.finish([release(claim) for claim in returned])
        self._hold(claimed)

    def _read(self, claimed: Sequence[Claim]) -> list[Claim]:
        """Return the claims as they are in their rows; without an answer of the database's."""
        try:
            return list(claimed)
        except (Error, ValueError):
            logger.exception("event=claimed_jobs_unreadable")
            self.on_doubt()
            return []

    def _is_all_plain(self, claimed: Sequence[Claim]) -> bool:
        """Return whether this code can run them all, and they bear each other beside them."""
        kinds = {(claim.job_name, claim.row.version, claim.losses) for claim in claimed}
        holds_ahead = self.known.holds_ahead
        return all(not losses and holds_ahead(name, version) for name, version, losses in kinds)

    def _held_together(self, claimed: Sequence[Claim]) -> int:
        """Return how many of the first claims bear each other beside them."""
        alone = self.known.not_held_ahead(claimed)
        return next(
            (i for i, claim in enumerate(claimed) if claim.losses or claim.job_name in alone),
            len(claimed),
        )

    def _hold(self, claimed: Sequence[Claim]) -> None:
        self._claimed = []
        if claimed:
            self.size.weigh(claimed)
            self.batch.hold(claimed, asked=self._asked)
        if self.batch.isolating:
            self.size.size = 0
