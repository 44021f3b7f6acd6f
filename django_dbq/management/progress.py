"""What a worker shows on a terminal while it works off a queue."""

import time
from collections.abc import Callable, Sequence

from django.core.management.base import OutputWrapper

from django_dbq.limits import Tally
from django_dbq.models import Job

#: Seconds between two counts of what is left, which cost a query each.
INTERVAL = 0.5
BAR_WIDTH = 24


class Progress:
    """A line that is drawn over itself: jobs done, failed and left, and jobs per second.

    Where the output is no terminal only the last line, the summary, is written.
    """

    def __init__(
        self,
        out: OutputWrapper,
        *,
        queues: Sequence[str],
        using: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.out = out
        self.jobs = Job.objects.using(using).filter(queue_name__in=queues)
        self.clock = clock
        self.begin = self.last = clock()

    def show(self, tally: Tally) -> None:
        """Draw the line anew, if it is time to."""
        now = self.clock()
        if self.out.isatty() and now - self.last >= INTERVAL:
            self.last = now
            self.out.write(f"\r{self._bar(tally)}\x1b[K", ending="")
            self.out.flush()

    def end(self, tally: Tally) -> None:
        """Write the summary in place of the line."""
        start = "\r\x1b[K" if self.out.isatty() else ""
        seconds = self.clock() - self.begin
        self.out.write(
            f"{start}{tally.complete} job(s) complete, {tally.failed} failed, {self._left()} left,"
            f" {seconds:.1f} s, {self._rate(tally):,.0f} jobs/s"
        )

    def _bar(self, tally: Tally) -> str:
        left = self._left()
        ended = tally.complete + tally.failed
        filled = BAR_WIDTH * ended // max(1, ended + left)
        bar = "#" * filled + "." * (BAR_WIDTH - filled)
        counts = f"{tally.complete:,} done, {tally.failed:,} failed, {left:,} left"
        return f"[{bar}] {counts}, {self._rate(tally):,.0f} jobs/s"

    def _left(self) -> int:
        return self.jobs.waiting().due().count()

    def _rate(self, tally: Tally) -> float:
        seconds = self.clock() - self.begin
        return (tally.complete + tally.failed) / seconds if seconds > 0 else 0
