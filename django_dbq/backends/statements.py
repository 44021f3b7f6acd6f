"""The statements of the transitions on PostgreSQL, with the values that they take."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, LiteralString, NamedTuple

from django_dbq.backends import sql
from django_dbq.backends.arrays import IdArray, id_array
from django_dbq.backends.base import PROMOTED_AT_ONCE, Wanted
from django_dbq.backends.outcomes import alike, edited_alike, record_of
from django_dbq.claims import Outcome
from django_dbq.models import Job
from django_dbq.models.worker import name_of_this_process
from django_dbq.parking import parked_until

#: Characters of workspaces in one document, which PostgreSQL holds in memory, some times over.
LARGEST_DOCUMENT = 16 * 1024 * 1024


class Statement(NamedTuple):
    """A statement, and its values.

    ``ending``: the outcomes that it writes, if it only counts those; others return what is late.
    """

    text: LiteralString
    values: Sequence[Any] | Mapping[str, Any]
    ending: Sequence[Outcome] = ()


def promote(*, is_transaction: bool) -> Statement:
    """Return the statement that lets claims look at the parked jobs that are due.

    ``is_transaction``: whether it is one of its own.
    """
    return Statement(sql.PROMOTE, [PROMOTED_AT_ONCE, is_transaction])


def claim(queue: str, wanted: Wanted, token: uuid.UUID) -> Statement:
    """Return the statement that claims jobs of one queue."""
    values = {
        "token": token, "worker": wanted.worker, "queue": queue, "names": list(wanted.names),
        "limit": wanted.limit,
    }  # fmt: skip
    return Statement(sql.CLAIM, values)


def finish(outcomes: Sequence[Outcome]) -> list[Statement]:
    """Return the statements that write the outcomes.

    They return the ids of those too late, or count those that are not.
    """
    groups, others = _groups(outcomes)
    return [*map(_finish_group, groups), *map(_finish, others)]


def not_ended(ending: Sequence[Outcome]) -> Statement:
    """Return the statement that returns the ids of those too late, where not all were counted."""
    _, row, _, losses, *_ = ending[0]
    ids = _ids(ending)
    # In the form that they came in. They share a token, and may still have been claimed by more
    # than one statement.
    times = {outcome.claim.source[2] for outcome in ending}
    return Statement(sql.NOT_ENDED, [ids, ids, row.state, losses, list(times)])


class Exchange(NamedTuple):
    """The outcomes of jobs that end or wait, and of those that may go on, with the statements."""

    ended: list[Outcome]
    finish: list[Statement]
    going_on: list[Outcome]
    go_on: list[Statement]


def exchange(outcomes: Sequence[Outcome], wanted: Wanted, token: uuid.UUID) -> Exchange:
    """Return which jobs may go on, as many as there is room for, and how to ask for that.

    What lets them returns the rows of those that do. Of those that do not, nothing is written.
    """
    groups, others = _groups(outcomes)
    ended = list(chain.from_iterable(others))
    parts = Exchange(ended, [*map(_finish, others)], [], [])
    for group in groups:
        room = wanted.limit - len(parts.going_on) if _may_go_on(group[0], wanted) else 0
        if going := group[:room]:
            parts.going_on.extend(going)
            parts.go_on.append(_go_on(going, wanted, token))
        if left := group[room:]:
            parts.ended.extend(left)
            parts.finish.append(_finish_group(left))
    return parts


def _groups(outcomes: Sequence[Outcome]) -> tuple[list[list[Outcome]], list[list[Outcome]]]:
    """Return groups of outcomes that one statement can say, and parts that say each for itself."""
    groups, differing = alike(outcomes)
    edited, others = edited_alike(differing)
    return [*groups, *chain.from_iterable(map(_parts, edited))], list(_parts(others))


def _may_go_on(outcome: Outcome, wanted: Wanted) -> bool:
    """Return whether the like of a job can be claimed now, for a task that was not tried yet."""
    row = outcome.row
    is_new = row.state == Job.STATES.READY and not outcome.attempts and not outcome.losses
    is_here = row.queue_name == wanted.queues[0]
    return is_new and is_here and parked_until(row.state, row.run_after) is None


def _go_on(group: Sequence[Outcome], wanted: Wanted, token: uuid.UUID) -> Statement:
    claim, row, _, _, _, edited, _ = group[0]
    values: dict[str, Any] = {
        "ids": _ids(group), "held": claim.token, "next_task": row.next_task, "token": token,
        "queue": wanted.queues[0], "names": list(wanted.names),
    }  # fmt: skip
    if edited:
        values |= {
            "workspaces": _array(group), "priority": row.priority, "run_after": row.run_after,
            "version": row.version,
        }  # fmt: skip
    return Statement(sql.GO_ON_EDITED if edited else sql.GO_ON, values)


def _finish_group(group: Sequence[Outcome]) -> Statement:
    claim, row, attempts, losses, _, edited, _ = group[0]
    ids, is_end = _ids(group), row.state in Job.FINISHED
    ended: list[Any] = [row.state, row.next_task, attempts, losses]
    if edited:
        parked = parked_until(row.state, row.run_after)
        edits = [row.priority, row.run_after, parked, row.queue_name, row.version]
        values = [ids, _array(group), *ended, is_end, *edits, claim.token]
        return Statement(sql.FINISH_EDITED, values)
    if is_end:
        return Statement(sql.END_ALIKE, [*ended, ids, claim.token], group)
    return Statement(sql.FINISH_ALIKE, [ids, *ended, claim.token])


def _finish(outcomes: Sequence[Outcome]) -> Statement:
    # As one document, since an array for each column takes ten times as long to make.
    document = json.dumps([_record(outcome) for outcome in outcomes])
    return Statement(sql.FINISH, [document, name_of_this_process()])


def _parts(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    """Yield the outcomes in parts whose workspaces fit into a document."""
    part: list[Outcome] = []
    size = 0
    for outcome in outcomes:
        if part and size + len(outcome.row.workspace) > LARGEST_DOCUMENT:
            yield part
            part, size = [], 0
        part.append(outcome)
        size += len(outcome.row.workspace)
    if part:
        yield part


def _ids(outcomes: Sequence[Outcome]) -> IdArray | str:
    """Return an array of the jobs' ids."""
    return id_array([outcome.claim.job_id for outcome in outcomes])


def _array(outcomes: Sequence[Outcome]) -> str:
    """Return the workspaces as one JSON array."""
    return "[" + ",".join([outcome.row.workspace for outcome in outcomes]) + "]"


def _record(outcome: Outcome) -> dict[str, object]:
    """Return the values of an outcome by the names that the statement has for them."""
    record = record_of(outcome, identity=uuid.UUID.__str__, time=_as_text)
    if outcome.failure is not None:
        task, attempt, exception, _ = outcome.failure
        record |= {"failed_task": task, "failed_attempt": attempt, "exception": exception}
    return record


def _as_text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
