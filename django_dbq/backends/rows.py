"""Rows that a statement of our own returns, as claims and as jobs."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

from django_dbq.claims import Claim, JobValues, new_claim, new_values
from django_dbq.models import Job
from django_dbq.workspace import decode_workspace, text_of_row

_PROCESSING = Job.STATES.PROCESSING.value

_CREATED, _PRIORITY = itemgetter(1), itemgetter(7)

#: What is filled in from a row. A copied dictionary that has room for them need not grow.
_FILLED = (
    "_state", "id", "created", "modified", "started", "name", "next_task", "queue_name", "priority",
    "run_after", "attempts", "losses", "error", "version", "cancel_requested", "dedupe_key",
)  # fmt: skip
#: The rest of a row, behind the next task, of which all is what most jobs have.
_USUAL = (None,) * 10
#: In the order in which the model has them.
_COLUMNS = [field.attname for field in Job._meta.concrete_fields]


def _reduced(state: Any) -> tuple[Any, ...]:
    """Return what makes Django's own of one of these: for copies, wherever they are read."""
    return ModelState, (), {"adding": False, **state.__getstate__()}


#: What Django keeps of an instance, of one that is in the database. Like its own but for the
#: ``__del__`` that Django 6.1 has, which takes longer than to make one, and clears a cache that is
#: empty as a rule. A copy is Django's own.
_State: Any = type(
    "_State",
    (),
    {
        name: value
        for name, value in vars(ModelState).items()
        if name not in {"__dict__", "__weakref__", "__del__"}
    }
    | {
        "adding": False,
        "__reduce__": _reduced,
    },
)


class _Shared(NamedTuple):
    """What the jobs of one claim share: their database, and the values of columns."""

    using: str
    common: dict[str, Any]


def claims_of(
    rows: Sequence[Sequence[Any]],
    *,
    using: str,
    token: uuid.UUID,
    worker: uuid.UUID,
    times: Mapping[Any, datetime],
    queue: str | None = None,
) -> list[Claim]:
    """Return the claims of rows, in the order in which they shall run.

    ``rows``: of the columns named below, the workspace as JSON text; what is the same for all that
    were claimed together is not among them. The workspace and the numbers may be None where they
    are what most jobs have. ``times``: when that was, by what stands in its place.
    ``queue``: that of all, where the rows do not say it.
    """
    common = dict.fromkeys(_FILLED) | {
        "state": _PROCESSING, "claim_token": token, "worker": worker, "finished": None,
        "parked": None, "claimable": False,
    }  # fmt: skip
    load, shared = _quickest_loader(), _Shared(using, common)
    claims: list[Claim] = []
    ranked = sorted(rows, key=_CREATED)
    if any(map(_PRIORITY, rows)):
        ranked.sort(key=_rank)
    usual = _Usual(queue)
    for row in ranked:
        (
            identity, _, claimed, name, next_task, workspace, queue_name, priority, run_after,
            attempts, losses, error, version, cancelled, _,
        ) = row  # fmt: skip
        if queue is not None:  # MariaDB finds it in other letters than it was asked for, too
            queue_name = queue
        if row[5:] == _USUAL:
            attempts, losses, values = 1, 0, usual[next_task]
        else:
            attempts, losses = 1 if attempts is None else attempts, losses or 0
            text = workspace if workspace == "{}" else text_of_row(workspace)
            version = 1 if version is None else version
            all_values = (
                _PROCESSING, next_task, text, priority or 0, run_after, queue_name, version,
            )  # fmt: skip
            values = new_values(all_values)
        claim = (
            identity, name, token, times[claimed], attempts, losses, cancelled is not None, error,
            values, load, row, shared,
        )  # fmt: skip
        claims.append(new_claim(claim))
    return claims


class _Usual(dict[str, JobValues]):
    """The values of jobs of one queue of which a row tells nothing else, by their next task."""

    def __init__(self, queue: str | None) -> None:
        self.queue = queue or ""

    def __missing__(self, next_task: str) -> JobValues:
        values = self[next_task] = JobValues(_PROCESSING, next_task, "{}", 0, None, self.queue, 1)
        return values


def _rank(row: Sequence[Any]) -> int:
    return -(row[7] or 0)


def _load(claim: Claim) -> Job:
    """Return the job by ``from_db``, as Django would."""
    values = vars(_load_quickly(claim))
    values["workspace"] = decode_workspace(claim.row.workspace)
    return Job.from_db(claim.shared.using, _COLUMNS, [values[name] for name in _COLUMNS])


def _load_quickly(claim: Claim) -> Job:
    """Return the job as Django unpickles a model: by its ``__dict__``.

    Its workspace is decoded when somebody asks for it.
    """
    (
        identity, name, _, started, attempts, losses, _, error, row, _, source, (using, common),
    ) = claim  # fmt: skip
    values = common.copy()
    values["id"], values["name"], values["attempts"] = identity, name, attempts
    values["losses"], values["error"] = losses, error
    values["modified"] = values["started"] = started
    (
        _, values["next_task"], _, values["priority"], values["run_after"], values["queue_name"],
        values["version"],
    ) = row  # fmt: skip
    values["created"] = source[1]
    values["cancel_requested"], values["dedupe_key"] = source[13], source[14]
    values["_state"] = state = _State()
    state.db = using
    job = Job.__new__(Job)
    job.__dict__ = values  # pyright: ignore[reportAttributeAccessIssue] # not final in truth
    return job


def _quickest_loader() -> Callable[[Claim], Job]:
    """Return ``_load`` or, where nobody could tell the difference, what takes a fifth of it."""
    if pre_init.has_listeners(Job) or post_init.has_listeners(Job) or Job.is_customized():
        return _load
    return _load_quickly
