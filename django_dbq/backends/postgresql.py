"""PostgreSQL: the same transitions, one statement each."""

import importlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, tzinfo
from itertools import chain
from typing import Any, LiteralString, NamedTuple

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_dbq.backends.base import PROMOTED_AT_ONCE, Backend, Wanted, alike, edited_alike
from django_dbq.backends.rows import claims_of
from django_dbq.claims import Claim, Outcome
from django_dbq.models import Job
from django_dbq.models.worker import name_of_this_process
from django_dbq.parking import parked_until

psycopg: Any
try:
    psycopg = importlib.import_module("psycopg")
except ImportError:  # as with psycopg 2, or another database
    psycopg = None

# Which due jobs of one queue come next, and now are this worker's?
# What had ended, and was set back by somebody, begins anew. Times that Python cannot hold are left
# out: one such row must not keep a worker from all others.
# An array, since the planner may run a bare IN (SELECT ... LIMIT) again for another row, and so
# claim too many; what other claims have locked is theirs.
CLAIM = """
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
RETURNING id,
          CASE WHEN created BETWEEN '1000-01-01' AND '9000-01-01' THEN created ELSE modified END,
          modified, name, next_task, workspace::text, queue_name, priority,
          CASE WHEN run_after >= '1000-01-01' THEN run_after END,
          attempts, losses, error, version, cancel_requested, dedupe_key
"""

# How did these jobs end, all in the same way, as far as they are still ours?
# Returned are those that are not, of which there are none as a rule.
_FINISH_ALIKE = """
WITH ended AS (SELECT %s::uuid[] AS ids),
written AS (
    UPDATE django_dbq_job
       SET state = %s, next_task = %s, attempts = %s, losses = %s, error = NULL,
           claim_token = NULL, modified = STATEMENT_TIMESTAMP(),
           finished = CASE WHEN %s THEN STATEMENT_TIMESTAMP() END
     WHERE id = ANY((SELECT ids FROM ended)::uuid[]) AND claim_token = %s
       AND state IN ('PROCESSING', 'STOPPING')
    RETURNING id)
SELECT unnest(ids) FROM ended EXCEPT SELECT id FROM written
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

Row = Sequence[Any]


class Statement(NamedTuple):
    """A statement, and its values."""

    text: LiteralString
    values: Sequence[Any]


# A plan is made once, and maybe while the table is empty, when to read all of it looks cheap: it
# has to be right for millions of rows too. The first plans, for the values of the moment, would
# cost three times as much.
_SESSION = (
    "plan_cache_mode = force_generic_plan",
    "enable_seqscan = off",
    "enable_bitmapscan = off",
    "enable_sort = off",
    "enable_nestloop = off",
    "enable_mergejoin = off",
)


class PostgreSQLBackend(Backend):
    """Claim and finish in one round trip each, however many jobs they are about."""

    def open(self) -> None:
        super().open()
        if leads_to_server(self.connection):
            with self.connection.cursor() as cursor:
                for setting in _SESSION:
                    cursor.execute(f"SET {setting}")
            self.connection.connection.prepare_threshold = 0

    def _claim_queue(self, queue: str, wanted: Wanted) -> list[Claim]:
        token = uuid.uuid4()
        [rows] = self._execute([_claim(queue, wanted, token)])
        return self._claims(rows, token, wanted)

    def finish(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        return _late(outcomes, self._execute(_finish(outcomes)))

    def exchange(
        self, outcomes: Sequence[Outcome], wanted: Wanted
    ) -> tuple[list[Outcome], list[Claim]]:
        """Finish, and claim from the first queue, in one round trip and one transaction."""
        token = uuid.uuid4()
        queue, *others = wanted.queues
        *ended, rows = self._execute([*_finish(outcomes), _claim(queue, wanted, token)])
        claimed = self._claims(rows, token, wanted)
        if others and len(claimed) < wanted.limit:
            rest = wanted._replace(queues=others, limit=wanted.limit - len(claimed))
            claimed += self.claim(rest)
        return _late(outcomes, ended), claimed

    def promote(self) -> float | None:
        [[(promoted, seconds)]] = self._execute([Statement(_PROMOTE, [PROMOTED_AT_ONCE])])
        if promoted:
            return 0
        return None if seconds is None else max(0.0, float(seconds))

    def _claims(self, rows: Sequence[Row], token: uuid.UUID, wanted: Wanted) -> list[Claim]:
        if (zone := self.connection.timezone) is not UTC:
            rows = [_in_zone(row, zone) for row in rows]
        return claims_of(rows, using=self.using, token=token, worker=wanted.worker)

    def _execute(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run statements and return the rows of each; past Django's cursor, with psycopg 3.

        That one puts the values into the statement as text, so that the server would have to read
        and plan it anew each time. More than one statement are a transaction, in one round trip.
        """
        connection = self.connection
        if psycopg is None:
            with transaction.atomic(using=self.using), connection.cursor() as cursor:
                results: list[list[Row]] = []
                for statement in statements:
                    cursor.execute(*statement)
                    results.append(cursor.fetchall())
                return results
        connection.ensure_connection()
        raw = connection.connection
        with connection.wrap_database_errors:
            pipeline = raw.pipeline() if len(statements) > 1 else nullcontext()
            cursors = [psycopg.Cursor(raw) for _ in statements]
            with pipeline:
                for cursor, statement in zip(cursors, statements, strict=True):
                    cursor.execute(*statement, prepare=True, binary=True)
            return [cursor.fetchall() for cursor in cursors]


def _claim(queue: str, wanted: Wanted, token: uuid.UUID) -> Statement:
    return Statement(CLAIM, [token, wanted.worker, queue, list(wanted.names), wanted.limit])


def _finish(outcomes: Sequence[Outcome]) -> list[Statement]:
    groups, others = alike(outcomes)
    statements: list[Statement] = []
    for group in groups:
        claim, row, attempts, losses, *_ = group[0]
        ended = row.state in Job.FINISHED
        values = [_ids(group), row.state, row.next_task, attempts, losses, ended, claim.token]
        statements.append(Statement(_FINISH_ALIKE, values))
    edited, others = edited_alike(others)
    for group in chain.from_iterable(map(_parts, edited)):
        claim, row, attempts, losses, *_ = group[0]
        workspaces = "[" + ",".join([outcome.row.workspace for outcome in group]) + "]"
        ended = row.state in Job.FINISHED
        parked = parked_until(row.state, row.run_after)
        values = [_ids(group), workspaces, row.state, row.next_task, attempts, losses, ended]
        values += [row.priority, row.run_after, parked, row.queue_name, row.version, claim.token]
        statements.append(Statement(FINISH_EDITED, values))
    for part in _parts(others):
        # As one document, since an array for each column takes ten times as long to make.
        document = json.dumps([_record(outcome) for outcome in part])
        statements.append(Statement(FINISH, [document, name_of_this_process()]))
    return statements


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


def _ids(outcomes: Sequence[Outcome]) -> str:
    """Return an array of the jobs' ids: as one text, which is sooner made and read than values."""
    return "{" + ",".join([outcome.claim.job_id.hex for outcome in outcomes]) + "}"


def _late(outcomes: Sequence[Outcome], results: Sequence[Sequence[Row]]) -> list[Outcome]:
    """Return the outcomes that the results of ``_finish`` name."""
    late = {row[0] for rows in results for row in rows}
    return [outcome for outcome in outcomes if outcome.claim.job_id in late] if late else []


def leads_to_server(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the session is ours alone, without a pooler such as PgBouncer between.

    A pooler invents process ids for its clients. The answer is no as well where psycopg 2 does not
    tell them.
    """
    if not psycopg:
        return False
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    return bool(connection.connection.info.backend_pid == pid)


def _in_zone(row: Sequence[Any], zone: tzinfo | None) -> tuple[Any, ...]:
    """Return the row with its times as Django has them, where that is not UTC."""
    return tuple(
        value.replace(tzinfo=zone) if isinstance(value, datetime) else value for value in row
    )


def _record(outcome: Outcome) -> dict[str, object]:
    """Return the values of an outcome by the names that the statement has for them."""
    claim, row = outcome.claim, outcome.row
    record: dict[str, object] = {
        "id": claim.job_id.hex,
        "claim_token": claim.token.hex,
        "state": row.state,
        "next_task": row.next_task,
        "attempts": outcome.attempts,
        "losses": outcome.losses,
        "error": outcome.error,
        "edited": outcome.edited,
    }
    if outcome.failure is not None:
        task, attempt, exception, _ = outcome.failure
        record |= {"failed_task": task, "failed_attempt": attempt, "exception": exception}
    if outcome.edited:
        parked = parked_until(row.state, row.run_after)
        record |= {
            "workspace": row.workspace,
            "priority": row.priority,
            "run_after": row.run_after.isoformat() if row.run_after else None,
            "parked": parked.isoformat() if parked else None,
            "queue_name": row.queue_name,
            "version": row.version,
        }
    return record
