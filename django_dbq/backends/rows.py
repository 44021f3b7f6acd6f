"""Rows that a statement of our own returns, as claims and as jobs."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from django.db.models.base import ModelState
from django.db.models.signals import post_init, pre_init

from django_dbq.claims import Claim, new_claim, new_values
from django_dbq.models import Job
from django_dbq.workspace import decode_workspace, text_of_row

_PROCESSING = Job.STATES.PROCESSING.value

_CREATED, _PRIORITY = itemgetter(1), itemgetter(7)

#: What is filled in from a row. A copied dictionary that has room for them need not grow.
_FILLED = (
    "_state", "id", "created", "modified", "started", "name", "next_task", "queue_name", "priority",
    "run_after", "attempts", "losses", "error", "version", "cancel_requested", "dedupe_key",
)  # fmt: skip
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
    were claimed together is not among them. ``times``: when that was, by what stands in its place.
    ``queue``: that of all, where the rows do not say it.
    """
    common = dict.fromkeys(_FILLED) | {
        "state": _PROCESSING, "claim_token": token, "worker": worker, "finished": None,
        "parked": None, "claimable": False,
    }  # fmt: skip
    load, shared = _quickest_loader(), _Shared(using, common)
    claims: list[Claim] = []
    ranked = sorted(sorted(rows, key=_CREATED), key=_PRIORITY, reverse=True)
    for row in ranked:
        (
            identity, _, claimed, name, next_task, workspace, queue_name, priority, run_after,
            attempts, losses, error, version, cancelled, _,
        ) = row  # fmt: skip
        started = times[claimed]
        text = workspace if workspace == "{}" else text_of_row(workspace)
        if queue is not None:  # MariaDB finds it in other letters than it was asked for, too
            queue_name = queue
        values = (_PROCESSING, next_task, text, priority, run_after, queue_name, version)
        claim = (
            identity, name, token, started, attempts, losses, cancelled is not None, error,
            new_values(values), load, row, shared,
        )  # fmt: skip
        claims.append(new_claim(claim))
    return claims


def _load(claim: Claim) -> Job:
    """Return the job by ``from_db``, as Django would."""
    values = vars(_load_quickly(claim))
    values["workspace"] = decode_workspace(claim.row.workspace)
    return Job.from_db(claim.shared.using, _COLUMNS, [values[name] for name in _COLUMNS])


def _load_quickly(claim: Claim) -> Job:
    """Return the job as Django unpickles a model: by its ``__dict__``.

    Its workspace is decoded when somebody asks for it.
    """
    using, common = claim.shared
    values = common.copy()
    (
        values["id"], values["created"], _, values["name"], values["next_task"], _, _,
        values["priority"], values["run_after"], values["attempts"], values["losses"],
        values["error"], values["version"], values["cancel_requested"], values["dedupe_key"],
    ) = claim.source  # fmt: skip
    values["queue_name"] = claim.row.queue_name
    values["modified"] = values["started"] = claim.started
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
