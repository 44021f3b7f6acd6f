"""What a worker keeps to, and what it has done so far."""

from collections.abc import Sequence
from dataclasses import dataclass

from django_dbq.claims import Outcome


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a worker keeps to, and when it ends by itself.

    ``rate``: the least number of seconds between the starts of two tasks; 0 for no limit.
    ``burst``: end when nothing is due. ``jobs``, ``seconds``: end after that many jobs have ended,
    or after that time; None for never.
    """

    rate: float = 1
    burst: bool = False
    jobs: int | None = None
    seconds: float | None = None


@dataclass(kw_only=True)
class Tally:
    """How many jobs a worker has brought to an end so far."""

    complete: int = 0
    failed: int = 0

    @property
    def ended(self) -> int:
        """Both together."""
        return self.complete + self.failed

    def count(self, outcomes: Sequence[Outcome]) -> None:
        """Count the outcomes that ended their job."""
        states = [outcome.row.state for outcome in outcomes]
        self.complete += states.count("COMPLETE")
        self.failed += states.count("FAILED")
