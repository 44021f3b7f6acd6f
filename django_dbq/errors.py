"""Every error that django-dbq raises.

DBQError
├── InvalidJob          an entry of settings.JOBS that cannot be a job
├── UnknownJob          a job name that the registry does not list (also a LookupError)
├── UnknownTask         a task that the job's entry does not list (also a LookupError)
├── WorkspaceError      a workspace that the database could not hold (also a ValueError)
├── InvalidEdit         another column of a job, set to what its row cannot hold (also a ValueError)
├── ClaimLost           a worker's write to a job that is no longer its own
├── TaskRequest         raised by a task, to say what is to become of its job
│   ├── Retry           run the task again, as one more try
│   ├── Snooze          run the task again, which does not count as a try
│   └── Discard         give the job up, whatever its retries say
├── TaskTimeout         raised in a task that took longer than its timeout
├── OpenTransaction     a transaction that a task has left open
├── SpoiledTransaction  the transaction of an atomic job, which cannot commit any more
├── JobLost             a job whose worker died once too often
└── JobCancelled        a job that somebody cancelled
"""

from datetime import timedelta

#: What ``in_`` may be at most. More is a mistake in the unit, and no database need hold the date.
LONGEST_WAIT = timedelta(days=3650)


class DBQError(Exception):
    """The root of all errors of django-dbq."""


class InvalidJob(DBQError):
    """An entry of ``settings.JOBS`` does not describe a job.

    ``hint``: what to write instead, where the message does not say it.
    """

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


class UnknownJob(DBQError, LookupError):
    """No job of that name is known to this code."""


class UnknownTask(DBQError, LookupError):
    """The job's entry does not list that task, so it is neither imported nor run."""


class WorkspaceError(DBQError, ValueError):
    """The workspace cannot be stored as JSON in every supported database."""


class InvalidEdit(DBQError, ValueError):
    """A task or hook set a column of its job to a value that the row cannot hold."""


class ClaimLost(DBQError):
    """The job was given to another worker meanwhile, so nothing was written."""


class TaskRequest(DBQError):
    """The task asked for something to be done with its job.

    ``reason``: why, for people who read the record. ``seconds``: how long the job is to wait; None
    leaves that to its retries.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or type(self).__doc__)
        self.seconds: float | None = None


class Retry(TaskRequest):
    """The task asked to be run again, as one more try."""

    def __init__(self, reason: str = "", *, in_: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.seconds = None if in_ is None else _seconds(in_)


class Snooze(TaskRequest):
    """The task asked to be run again later, which does not count as a try."""

    def __init__(self, reason: str = "", *, in_: float | timedelta) -> None:
        super().__init__(reason)
        self.seconds = _seconds(in_)


class Discard(TaskRequest):
    """The task gave its job up."""


class TaskTimeout(DBQError):
    """The task took longer than its timeout.

    An ``Exception``, so that failure hooks and retries treat it like any other; a task whose
    ``except Exception`` swallows it goes on, and is not told again.
    """

    def __init__(self, message: str = "The task took longer than its timeout.") -> None:
        super().__init__(message)

    @classmethod
    def after(cls, seconds: float) -> "TaskTimeout":
        """Return the error for a timeout of so many seconds."""
        unit = "second" if seconds == 1 else "seconds"
        return cls(f"The task took longer than its timeout of {seconds:.12g} {unit}.")


class OpenTransaction(DBQError):
    """The task left a transaction open, so that nothing of what it wrote there was kept."""


class SpoiledTransaction(DBQError):
    """The task of an atomic job left its transaction so that it could not commit."""


class JobLost(DBQError):
    """Too many workers were lost while they had the job: it may be what killed them."""


class JobCancelled(DBQError):
    """Somebody cancelled the job, so that none of its tasks is started any more."""


def _seconds(wait: object) -> float:
    """Return how many seconds a task wants to wait. Raises ``TypeError`` or ``ValueError``."""
    if isinstance(wait, timedelta):
        seconds = wait.total_seconds()
    elif isinstance(wait, int | float) and not isinstance(wait, bool):
        seconds = wait
    else:
        raise TypeError(f"in_ must be a number of seconds or a timedelta, not {wait!r}.")
    if not 0 <= seconds <= LONGEST_WAIT.total_seconds():
        raise ValueError(
            f"in_ must be 0 or more seconds, up to {LONGEST_WAIT.days} days, not {wait!r}."
        )
    return float(seconds)
