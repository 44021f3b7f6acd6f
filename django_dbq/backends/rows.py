"""Rows that a statement of our own returns, as claims and as jobs."""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

from django_dbq.claims import Claim, JobValues
from django_dbq.models import Job
from django_dbq.workspace import read_workspace

_PROCESSING = Job.STATES.PROCESSING.value

#: In the order in which the model has them.
_COLUMNS = [field.attname for field in Job._meta.concrete_fields]


def claims_of(
    rows: Sequence[Sequence[Any]], *, using: str, token: uuid.UUID, worker: uuid.UUID
) -> list[Claim]:
    """Return the claims of rows, in the order in which they shall run.

    ``rows``: of the columns named below, the workspace as JSON text; what is the same for all that
    were claimed together is not among them.
    """
    load = partial(_load, _quickest_maker(using), token, worker)
    claims: list[Claim] = []
    for row in sorted(rows, key=_rank):
        (
            identity, _, started, name, next_task, workspace, queue_name, priority, run_after,
            attempts, losses, error, version, cancelled, _,
        ) = row  # fmt: skip
        values = JobValues(
            _PROCESSING, next_task, workspace or "null", priority, run_after, queue_name, version
        )
        claims.append(
            Claim(
                identity, name, token, started, attempts, losses, cancelled is not None, error,
                values, partial(load, row),
            )
        )  # fmt: skip
    return claims


def _rank(row: Sequence[Any]) -> tuple[int, datetime]:
    return -row[7], row[1]


def _load(
    make: Callable[[Sequence[Any]], Job], token: uuid.UUID, worker: uuid.UUID, row: Sequence[Any]
) -> Job:
    (
        identity, created, modified, name, next_task, workspace, queue_name, priority, run_after,
        attempts, losses, error, version, cancel_requested, dedupe_key,
    ) = row  # fmt: skip
    values = (
        identity, created, modified, name, _PROCESSING, next_task,
        read_workspace(workspace or "null"), queue_name, priority, run_after, token, worker,
        attempts, losses, modified, None, error, version, cancel_requested, dedupe_key, None, False,
    )  # fmt: skip
    return make(values)


def _quickest_maker(using: str) -> Callable[[Sequence[Any]], Job]:
    """Return a function that makes a job of the values of its columns.

    That is ``from_db`` or, where nobody could tell the difference, what Django does to unpickle a
    model: to fill its ``__dict__``, at a fifth of the cost.
    """
    if pre_init.has_listeners(Job) or post_init.has_listeners(Job) or Job.is_customized():
        return partial(Job.from_db, using, _COLUMNS)
    new = Job.__new__

    def make(values: Sequence[Any]) -> Job:
        job = new(Job)
        state = ModelState()
        state.db, state.adding = using, False
        vars(job).update(zip(_COLUMNS, values, strict=True), _state=state)
        return job

    return make
