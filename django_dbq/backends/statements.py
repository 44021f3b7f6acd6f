"""What PostgreSQL is asked: the statements of the transitions, and the values they take."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, LiteralString, NamedTuple

from django_dbq.backends.arrays import IdArray, id_array
from django_dbq.backends.base import PROMOTED_AT_ONCE, Wanted
from django_dbq.backends.outcomes import alike, edited_alike, record_of
from django_dbq.claims import Outcome
from django_dbq.models import Job
from django_dbq.models.worker import name_of_this_process
from django_dbq.parking import parked_until

#: What is returned of each claimed job, in the order in which ``rows`` wants it. Times that Python
#: cannot hold are left out: one such row must not keep a worker from all others. The time of
#: the claim comes in its binary form: it is the same for all, and so need be read but once. The
#: queue is the one that was asked for.
_CLAIMED = """
          id,
          CASE WHEN created BETWEEN '1000-01-01' AND '9000-01-01' THEN created ELSE modified END,
          timestamptz_send(modified), name, next_task, workspace::text, NULL, priority,
          CASE WHEN run_after >= '1000-01-01' THEN run_after END,
          attempts, losses, error, version, cancel_requested, dedupe_key
"""
# Which due jobs of one queue come next, and now are this worker's?
# What had ended, and was set back by somebody, begins anew.
# An array, since the planner may run a bare IN (SELECT ... LIMIT) again for another row, and so
# claim too many; what other claims have locked is theirs.
CLAIM = f"""
UPDATE django_dbq_job
   SET state = 'PROCESSING', claim_token = %s, worker = %s,
       attempts = CASE WHEN finished IS NULL THEN attempts ELSE 0 END + 1,
       losses = CASE WHEN finished IS NULL THEN losses ELSE 0 END,
       cancel_requested = CASE WHEN finished IS NULL THEN cancel_requested END,
       started = STATEMENT_TIMESTAMP(), modified = STATEMENT_TIMESTAMP(), finished = NULL,
       parked = NULL
 WHERE id = ANY(ARRAY(
       SELECT id FROM django_dbq_job
        WHERE claimable AND queue_name = %s
          AND (run_after IS NULL OR run_after <= STATEMENT_TIMESTAMP())
          AND name = ANY(%s::text[])
        ORDER BY priority DESC, created
        LIMIT %s
          FOR UPDATE SKIP LOCKED))
RETURNING {_CLAIMED}
"""  # noqa: S608 - of constants

# Which of these jobs, whose next task is this, come before all that a claim would find? They go on:
# they are this worker's at once, under the token of that claim. That is one write in the place of
# two, the first of which would put the job among those that wait.
_FOLLOWING = """
following AS (
    SELECT -priority::int AS rank, created FROM django_dbq_job
     WHERE claimable AND queue_name = %(queue)s
       AND (run_after IS NULL OR run_after <= STATEMENT_TIMESTAMP())
       AND name = ANY(%(names)s::text[])
     ORDER BY priority DESC, created
     LIMIT 1)
"""
_GOING_ON = """
       state = 'PROCESSING', next_task = %(next_task)s, claim_token = %(token)s, attempts = 1,
       losses = 0, error = NULL, started = STATEMENT_TIMESTAMP(), modified = STATEMENT_TIMESTAMP(),
       finished = NULL, parked = NULL
"""
GO_ON = f"""
WITH {_FOLLOWING}
UPDATE django_dbq_job SET {_GOING_ON}
 WHERE id = ANY(%(ids)s::uuid[]) AND claim_token = %(held)s AND state = 'PROCESSING'
   AND queue_name = %(queue)s AND (run_after IS NULL OR run_after <= STATEMENT_TIMESTAMP())
   AND name = ANY(%(names)s::text[])
   AND COALESCE((-priority::int, created) <= (SELECT rank, created FROM following), TRUE)
RETURNING {_CLAIMED}
"""  # noqa: S608 - of constants

# And which of these, whose workspaces are those, and which have the rest in common?
GO_ON_EDITED = f"""
WITH {_FOLLOWING},
ended AS (
    SELECT * FROM ROWS FROM (unnest(%(ids)s::uuid[]), jsonb_array_elements(%(workspaces)s::jsonb))
        AS ended (job_id, edited))
UPDATE django_dbq_job
   SET {_GOING_ON}, workspace = edited, priority = %(priority)s, run_after = %(run_after)s,
       queue_name = %(queue)s, version = %(version)s
  FROM ended
 WHERE id = ANY(ARRAY(SELECT job_id FROM ended)) AND id = job_id
   AND claim_token = %(held)s AND state = 'PROCESSING'
   AND (%(run_after)s::timestamptz IS NULL OR %(run_after)s <= STATEMENT_TIMESTAMP())
   AND name = ANY(%(names)s::text[])
   AND COALESCE((-%(priority)s::int, created) <= (SELECT rank, created FROM following), TRUE)
RETURNING {_CLAIMED}
"""  # noqa: S608 - of constants

# Which task is next of these jobs, which wait for it, as far as they are still ours?
# Returned are those that are not, of which there are none as a rule.
_FINISH_ALIKE = """
WITH ended AS (SELECT %s::uuid[] AS ids),
written AS (
    UPDATE django_dbq_job
       SET state = %s, next_task = %s, attempts = %s, losses = %s, error = NULL,
           claim_token = NULL, modified = STATEMENT_TIMESTAMP(), finished = NULL
     WHERE id = ANY((SELECT ids FROM ended)::uuid[]) AND claim_token = %s
       AND state IN ('PROCESSING', 'STOPPING')
    RETURNING id)
SELECT unnest(ids) FROM ended WHERE (SELECT count(*) FROM written) < cardinality(ids)
EXCEPT SELECT id FROM written
"""

# Which of these jobs are at their end, all in the same way, as far as they are still ours?
# It returns nothing, which takes 0.45 us less for each of them. How many were written says whether
# some are not ours.
_END_ALIKE = """
UPDATE django_dbq_job
   SET state = %s, next_task = %s, attempts = %s, losses = %s, error = NULL,
       claim_token = NULL, modified = STATEMENT_TIMESTAMP(), finished = STATEMENT_TIMESTAMP()
 WHERE id = ANY(%s::uuid[]) AND claim_token = %s AND state IN ('PROCESSING', 'STOPPING')
"""
# Which of them are not, though others are? Those whose row is not as that has left it, with the
# claim's own time: no worker writes to what has ended, and a rescue counts a loss.
_NOT_ENDED = """
SELECT id FROM unnest(%s::uuid[]) AS ended (id)
EXCEPT
SELECT id FROM django_dbq_job
 WHERE id = ANY(%s::uuid[]) AND state = %s AND losses = %s AND claim_token IS NULL
   AND finished IS NOT NULL AND timestamptz_send(started) = ANY(%s::bytea[])
"""

# How did these jobs end, all in the same way but for their workspaces, as far as they are still
# ours? A job that is to be cancelled does not wait for its time.
FINISH_EDITED = """
WITH ended AS (
    SELECT * FROM ROWS FROM (unnest(%s::uuid[]), jsonb_array_elements(%s::jsonb))
        AS ended (id, workspace)),
written AS (
    UPDATE django_dbq_job AS job
       SET state = %s, next_task = %s, attempts = %s, losses = %s, error = NULL,
           claim_token = NULL, modified = STATEMENT_TIMESTAMP(),
           finished = CASE WHEN %s THEN STATEMENT_TIMESTAMP() END,
           workspace = ended.workspace, priority = %s,
           run_after = CASE WHEN cancel_requested IS NULL THEN %s::timestamptz END,
           parked = CASE WHEN cancel_requested IS NULL THEN %s::timestamptz END,
           queue_name = %s, version = %s
      FROM ended
     WHERE job.id = ANY(ARRAY(SELECT id FROM ended)) AND job.id = ended.id
       AND job.claim_token = %s AND job.state IN ('PROCESSING', 'STOPPING')
    RETURNING job.id)
SELECT id FROM ended EXCEPT SELECT id FROM written
"""

# How did these jobs end, each in its own way, as far as they are still ours? What is to be kept of
# the attempts that failed?
# Where nothing was edited the last columns are NULL, and the row keeps what it has. A job that is
# to be cancelled does not wait for its time.
FINISH = """
WITH ended AS (
    SELECT * FROM json_to_recordset(%s::json) AS ended (
        id uuid, claim_token uuid, state text, next_task text, attempts int, losses int,
        error text, failed_task text, failed_attempt int, exception text, edited bool,
        workspace text, priority smallint, run_after timestamptz, parked timestamptz,
        queue_name text, version smallint)),
written AS (
    UPDATE django_dbq_job AS job
       SET state = ended.state, next_task = ended.next_task, attempts = ended.attempts,
           losses = ended.losses, error = ended.error, claim_token = NULL,
           modified = STATEMENT_TIMESTAMP(),
           finished = CASE WHEN ended.state IN ('COMPLETE', 'FAILED')
                           THEN STATEMENT_TIMESTAMP() END,
           workspace = CASE WHEN edited THEN ended.workspace::jsonb ELSE job.workspace END,
           priority = CASE WHEN edited THEN ended.priority ELSE job.priority END,
           run_after = CASE WHEN NOT edited THEN job.run_after
                            WHEN cancel_requested IS NULL THEN ended.run_after END,
           parked = CASE WHEN NOT edited THEN job.parked
                         WHEN cancel_requested IS NULL THEN ended.parked END,
           queue_name = CASE WHEN edited THEN ended.queue_name ELSE job.queue_name END,
           version = CASE WHEN edited THEN ended.version ELSE job.version END
      FROM ended
     WHERE job.id = ANY(ARRAY(SELECT id FROM ended)) AND job.id = ended.id
       AND job.claim_token = ended.claim_token
       AND job.state IN ('PROCESSING', 'STOPPING')
    RETURNING job.id, exception, failed_task, failed_attempt, ended.error),
failed AS (
    INSERT INTO django_dbq_failure
           (job_id, failed, worker, task, attempt, exception, traceback)
    SELECT id, STATEMENT_TIMESTAMP(), %s, failed_task, failed_attempt, exception, error
      FROM written WHERE exception IS NOT NULL)
SELECT id FROM ended EXCEPT SELECT id FROM written
"""


# Which parked jobs are due, and may be claimed from now on? How many were they, and in how many
# seconds, from those that are left, is the next one due?
_PROMOTE = """
WITH promoted AS (
    UPDATE django_dbq_job SET parked = NULL
     WHERE id = ANY(ARRAY(
           SELECT id FROM django_dbq_job
            WHERE parked <= STATEMENT_TIMESTAMP() ORDER BY parked LIMIT %s
              FOR UPDATE SKIP LOCKED))
    RETURNING id)
SELECT (SELECT count(*) FROM promoted),
       EXTRACT(EPOCH FROM (SELECT min(parked) FROM django_dbq_job) - STATEMENT_TIMESTAMP())::float8
"""

#: Characters of workspaces in one document, which PostgreSQL holds in memory, some times over.
LARGEST_DOCUMENT = 16 * 1024 * 1024


class Statement(NamedTuple):
    """A statement, and its values.

    ``ending``: the outcomes that it writes, if it only counts those; others return what is late.
    """

    text: LiteralString
    values: Sequence[Any] | Mapping[str, Any]
    ending: Sequence[Outcome] = ()


def promote() -> Statement:
    """Return the statement that lets claims look at the parked jobs that are due."""
    return Statement(_PROMOTE, [PROMOTED_AT_ONCE])


def claim(queue: str, wanted: Wanted, token: uuid.UUID) -> Statement:
    """Return the statement that claims jobs of one queue."""
    return Statement(CLAIM, [token, wanted.worker, queue, list(wanted.names), wanted.limit])


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
    return Statement(_NOT_ENDED, [ids, ids, row.state, losses, list(times)])


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
    return Statement(GO_ON_EDITED if edited else GO_ON, values)


def _finish_group(group: Sequence[Outcome]) -> Statement:
    claim, row, attempts, losses, _, edited, _ = group[0]
    ids, is_end = _ids(group), row.state in Job.FINISHED
    ended: list[Any] = [row.state, row.next_task, attempts, losses]
    if edited:
        parked = parked_until(row.state, row.run_after)
        edits = [row.priority, row.run_after, parked, row.queue_name, row.version]
        values = [ids, _array(group), *ended, is_end, *edits, claim.token]
        return Statement(FINISH_EDITED, values)
    if is_end:
        return Statement(_END_ALIKE, [*ended, ids, claim.token], group)
    return Statement(_FINISH_ALIKE, [ids, *ended, claim.token])


def _finish(outcomes: Sequence[Outcome]) -> Statement:
    # As one document, since an array for each column takes ten times as long to make.
    document = json.dumps([_record(outcome) for outcome in outcomes])
    return Statement(FINISH, [document, name_of_this_process()])


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
