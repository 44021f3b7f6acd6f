"""A claim and its end: the values that pass between a backend and the execution of a job.

Tuples, since each job makes three of them.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, overload


class JobValues(NamedTuple):
    """What tasks and hooks may change on their job, in a form that a row can hold.

    ``workspace`` is JSON text, and ``run_after`` as its column wants it.
    """

    state: str
    next_task: str
    workspace: str
    priority: int
    run_after: datetime | None
    queue_name: str
    version: int

    def moved(self, state: str, next_task: str) -> "JobValues":
        """Return the same but for the state and the next task."""
        _, _, workspace, priority, run_after, queue_name, version = self
        return new_values((state, next_task, workspace, priority, run_after, queue_name, version))

    def with_workspace(self, workspace: str) -> "JobValues":
        """Return the same but for the workspace."""
        state, next_task, _, priority, run_after, queue_name, version = self
        return new_values((state, next_task, workspace, priority, run_after, queue_name, version))


class Claim(NamedTuple):
    """One worker's hold on one job: the token, and the row as it was claimed.

    ``started``: when it was claimed, by the database's clock. ``losses``: how often a worker was
    lost with it. ``cancelled``: whether somebody has asked for its end. ``load`` makes the ``Job``
    of the claim, which is not done before that is to run: from its ``source``, and from what is
    ``shared`` by those that were claimed with it.
    """

    job_id: uuid.UUID
    job_name: str
    token: uuid.UUID
    started: datetime
    attempts: int
    losses: int
    cancelled: bool
    error: str | None
    row: JobValues
    load: Callable[["Claim"], Any]
    source: Sequence[Any] = ()
    shared: Any = None

    def job(self) -> Any:
        """Return the ``Job`` as its task gets it: it knows by which claim it is held."""
        job = self.load(self)
        job.held_claim = self
        return job


class UnreadClaims(Sequence[Claim]):
    """Claims that are made of their rows as soon as somebody looks at them.

    ``count``: how many they are, which can be asked before. ``read`` returns them, or raises what
    the driver says of values that it cannot read.
    """

    def __init__(self, count: int, read: Callable[[], list[Claim]]) -> None:
        self._count = count
        self._read = read
        self._claims: list[Claim] | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Claim]:
        if self._claims is None:
            self._claims = self._read()
        return iter(self._claims)

    @overload
    def __getitem__(self, index: int) -> Claim: ...
    @overload
    def __getitem__(self, index: slice) -> list[Claim]: ...
    def __getitem__(self, index: int | slice) -> Claim | list[Claim]:
        return list(self)[index]


class FailedAttempt(NamedTuple):
    """What is kept of an attempt that failed: ``exception`` says in a line what went wrong."""

    task: str
    attempt: int
    exception: str
    traceback: str


class Outcome(NamedTuple):
    """The end of a claim: what is written to the row, if it is still ours.

    ``row.state`` is NEW or READY where the job waits again, else COMPLETE or FAILED. ``error`` is
    the record of a failure, or None; ``failure`` that of this attempt's, to be kept. Unless
    ``edited``, only the state and next task of ``row`` count, and the other columns keep what they
    have, be it changed by others meanwhile.
    """

    claim: Claim
    row: JobValues
    attempts: int
    losses: int = 0
    error: str | None = None
    edited: bool = False
    failure: FailedAttempt | None = None


# Past the constructors of named tuples, which take twice as long: from a tuple of all the values.
_new: Any = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
new_values: Callable[[tuple[Any, ...]], JobValues] = partial(_new, JobValues)
new_claim: Callable[[tuple[Any, ...]], Claim] = partial(_new, Claim)
new_outcome: Callable[[tuple[Any, ...]], Outcome] = partial(_new, Outcome)
