"""What a worker's code can run, and the jobs that it leaves to others."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from django_dbq import registry
from django_dbq.backends import Backend
from django_dbq.claims import Claim
from django_dbq.logs import logfmt

logger = logging.getLogger(__name__)

#: Seconds between two searches for jobs that nobody here knows.
SEARCH_INTERVAL = 60


class KnownJobs:
    """The names that a worker claims, and a warning, once each, of those that it does not."""

    def __init__(
        self,
        *,
        queues: Sequence[str],
        backend: Backend,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queues = queues
        self.backend = backend
        self.clock = clock
        self._next_search = float("-inf")
        self._unknown: set[str] = set()
        self._too_new: set[str] = set()

    def names(self) -> list[str]:
        """Return the names of the jobs to claim."""
        return [name for name in registry.names() if name not in self._too_new]

    def too_new(self, claims: Iterable[Claim]) -> list[Claim]:
        """Return those of jobs whose workspace newer code made, and leave their names alone."""
        found: list[Claim] = []
        versions: dict[str, int] = {}
        for claim in claims:
            name, version = claim.job_name, claim.row.version
            if (known := versions.get(name)) is None:
                known = versions[name] = registry.get(name).version
            if version <= known:
                continue
            found.append(claim)
            if name not in self._too_new:
                self._too_new.add(name)
                line = logfmt(event="job_too_new", name=name, version=version, known=known)
                logger.warning("%s", line)
        return found

    def warn_of_others(self) -> None:
        """Say which waiting jobs are left alone, since this code does not know them."""
        if self.clock() < self._next_search:
            return
        self._next_search = self.clock() + SEARCH_INTERVAL
        names = registry.names()
        for name in self.backend.unknown_names(self.queues, names):
            if name not in self._unknown:
                self._unknown.add(name)
                logger.warning("%s", logfmt(event="unknown_job", name=name, known=",".join(names)))
