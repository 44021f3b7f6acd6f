"""The database goes away and comes back: that is weather, and not the worker's error."""

import logging
import time
from collections.abc import Callable

from django.db import Error

from django_dbq.logs import logfmt

logger = logging.getLogger(__name__)

#: What the database, or the way to it, raises at such times: a restart, a failover, no connection
#: to be had, a full disk, a lock that does not go, a table that is being altered.
WEATHER = Error

#: Seconds between two tries to reach the database: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
#: Seconds between two log lines about it.
LOG_INTERVAL = 1.0


class Weather:
    """How long to wait until the next try, and what to say meanwhile.

    ``who``: whose connection it is, as the log has it. ``clock``: seconds, for durations only.
    """

    def __init__(self, who: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.who = who
        self.clock = clock
        self._pause = 0.0
        self._since: float | None = None
        self._next_line = float("-inf")
        self._is_said = False

    def worsened(self, error: Exception) -> float:
        """Take note of an error; return how many seconds to wait before the next try."""
        now = self.clock()
        if self._since is None:
            self._since = now
        self._pause = min(self._pause * 2, LONGEST_PAUSE) or FIRST_PAUSE
        if now >= self._next_line:
            self._next_line = now + LOG_INTERVAL
            self._is_said = True
            reason = " ".join(str(error).split()) or type(error).__name__
            line = logfmt(event="database_unavailable", by=self.who, error=reason)
            logger.warning("%s", line)
        return self._pause

    def cleared(self) -> None:
        """Take note that the database has answered."""
        if self._since is None:
            return
        seconds = self.clock() - self._since
        self._since, self._pause = None, 0.0
        if self._is_said:
            self._is_said = False
            line = logfmt(event="database_available", by=self.who, after_seconds=round(seconds, 1))
            logger.warning("%s", line)
