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
#: Seconds for which jobs of a name are left to workers with newer code, after one was seen that
#: needs those. Others of that name may be of an older version.
TOO_NEW_SECONDS = 5


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
        #: By name, until when its jobs are left to others.
        self._too_new: dict[str, float] = {}

    def names(self) -> list[str]:
        """Return the names of the jobs to claim."""
        if not self._too_new:
            return registry.names()
        now = self.clock()
        return [name for name in registry.names() if self._too_new.get(name, now) <= now]

    def holds_ahead(self, name: str, version: int) -> bool:
        """Return whether jobs of that name and version are held ahead: as most are."""
        return not (_is_failed_by_a_loss(name) or _is_too_new(name, version))

    def not_held_ahead(self, claims: Iterable[Claim]) -> set[str]:
        """Return the names of jobs that are claimed only to be started: a loss would fail them."""
        return {name for name in {claim.job_name for claim in claims} if _is_failed_by_a_loss(name)}

    def too_new(self, claims: Iterable[Claim]) -> list[Claim]:
        """Return those of jobs whose workspace newer code made; leave their names for a while."""
        found: list[Claim] = []
        for claim in claims:
            name, version = claim.job_name, claim.row.version
            if not _is_too_new(name, version):
                continue
            found.append(claim)
            is_new = name not in self._too_new
            self._too_new[name] = self.clock() + TOO_NEW_SECONDS
            if is_new:
                known = registry.get(name).version
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


def _is_failed_by_a_loss(name: str) -> bool:
    return registry.get(name).on_lost == "fail"


def _is_too_new(name: str, version: int) -> bool:
    return version > registry.get(name).version
