"""PostgreSQL: the same transitions, one statement each."""

import importlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, LiteralString

from django.db.backends.base.base import BaseDatabaseWrapper

from django_dbq.backends.base import Backend, Claimed, alike
from django_dbq.backends.rows import hold_rows
from django_dbq.claims import Outcome
from django_dbq.models import Job
from django_dbq.parking import parked_until

psycopg: Any
try:
    psycopg = importlib.import_module("psycopg")
except ImportError:  # as with psycopg 2, or another database
    psycopg = None

# Which due jobs of one queue come next, and now are this worker's?
# An array, since the planner may run a bare IN (SELECT ... LIMIT) again for another row, and so
# claim too many; what other claims have locked is theirs.
CLAIM = """
UPDATE django_dbq_job
   SET state = 'PROCESSING', claim_token = %s, worker = %s, attempts = attempts + 1,
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
RETURNING id, created, modified, name, next_task, workspace::text, queue_name, priority, run_after,
          attempts, losses, error, version, dedupe_key
"""

# How did these jobs end, all in the same way, as far as they are still ours?
# Returned are those that are not, of which there are none as a rule.
_FINISH_ALIKE = """
WITH ended AS (SELECT %s::uuid[] AS ids),
written AS (
    UPDATE django_dbq_job
       SET state = %s, next_task = %s, attempts = %s, error = NULL, claim_token = NULL,
           modified = STATEMENT_TIMESTAMP(),
           finished = CASE WHEN %s THEN STATEMENT_TIMESTAMP() END
     WHERE id = ANY((SELECT ids FROM ended)::uuid[]) AND claim_token = %s
       AND state IN ('PROCESSING', 'STOPPING')
    RETURNING id)
SELECT unnest(ids) FROM ended EXCEPT SELECT id FROM written
"""

# How did these jobs end, each in its own way, as far as they are still ours?
# Where nothing was edited the last columns are NULL, and the row keeps what it has.
_FINISH = """
WITH ended AS (
    SELECT * FROM unnest(
        %s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::int[], %s::text[], %s::bool[],
        %s::text[], %s::smallint[], %s::timestamptz[], %s::timestamptz[], %s::text[],
        %s::smallint[])
    AS ended (id, claim_token, state, next_task, attempts, error, edited,
              workspace, priority, run_after, parked, queue_name, version)),
written AS (
    UPDATE django_dbq_job AS job
       SET state = ended.state, next_task = ended.next_task, attempts = ended.attempts,
           error = ended.error, claim_token = NULL, modified = STATEMENT_TIMESTAMP(),
           finished = CASE WHEN ended.state IN ('COMPLETE', 'FAILED')
                           THEN STATEMENT_TIMESTAMP() END,
           workspace = CASE WHEN edited THEN ended.workspace::jsonb ELSE job.workspace END,
           priority = CASE WHEN edited THEN ended.priority ELSE job.priority END,
           run_after = CASE WHEN edited THEN ended.run_after ELSE job.run_after END,
           parked = CASE WHEN edited THEN ended.parked ELSE job.parked END,
           queue_name = CASE WHEN edited THEN ended.queue_name ELSE job.queue_name END,
           version = CASE WHEN edited THEN ended.version ELSE job.version END
      FROM ended
     WHERE job.id = ended.id AND job.claim_token = ended.claim_token
       AND job.state IN ('PROCESSING', 'STOPPING')
    RETURNING job.id)
SELECT id FROM ended EXCEPT SELECT id FROM written
"""


class PostgreSQLBackend(Backend):
    """Claim and finish in one round trip each, however many jobs they are about."""

    def open(self) -> None:
        super().open()
        if leads_to_server(self.connection):
            with self.connection.cursor() as cursor:
                # The first plans would be for the values of the moment, at three times the cost.
                cursor.execute("SET plan_cache_mode = force_generic_plan")
            self.connection.connection.prepare_threshold = 0

    def _claim_queue(
        self, queue: str, names: Sequence[str], limit: int, worker: uuid.UUID
    ) -> list[Claimed]:
        token = uuid.uuid4()
        rows = self._execute(CLAIM, [token, worker, queue, list(names), limit])
        if (zone := self.connection.timezone) is not UTC:
            rows = [_in_zone(row, zone) for row in rows]
        return hold_rows(rows, using=self.using, token=token, worker=worker)

    def finish(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        groups, others = alike(outcomes)
        late: set[uuid.UUID] = set()
        for group in groups:
            claim, row, attempts, *_ = group[0]
            # As one text, which is sooner made and read than an array of values.
            ids = "{" + ",".join([outcome.claim.job_id.hex for outcome in group]) + "}"
            ended = row.state in Job.FINISHED
            values = [ids, row.state, row.next_task, attempts, ended, claim.token]
            late.update(self._ids(_FINISH_ALIKE, values))
        if others:
            columns = [list(column) for column in zip(*map(_columns, others), strict=True)]
            late.update(self._ids(_FINISH, columns))
        return [outcome for outcome in outcomes if outcome.claim.job_id in late]

    def _ids(self, statement: LiteralString, parameters: Sequence[object]) -> list[uuid.UUID]:
        return [row[0] for row in self._execute(statement, parameters)]

    def _execute(
        self, statement: LiteralString, parameters: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, past Django's cursor where psycopg 3 is there.

        That one puts the values into the statement as text, so that the server would have to read
        and plan it anew each time.
        """
        connection = self.connection
        rows: list[tuple[Any, ...]]
        if psycopg:
            connection.ensure_connection()
            with connection.wrap_database_errors:
                raw = psycopg.Cursor(connection.connection)
                rows = raw.execute(statement, parameters, prepare=True, binary=True).fetchall()
        else:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                rows = cursor.fetchall()
        return rows


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


def _columns(outcome: Outcome) -> tuple[object, ...]:
    """Return the values of an outcome in the order of the statement's columns."""
    claim, row = outcome.claim, outcome.row
    ended = (claim.job_id, claim.token, row.state, row.next_task, outcome.attempts, outcome.error)
    if not outcome.edited:
        return (*ended, False, None, None, None, None, None, None)
    edits = (
        row.workspace,
        row.priority,
        row.run_after,
        parked_until(row.state, row.run_after),
        row.queue_name,
        row.version,
    )
    return (*ended, True, *edits)
