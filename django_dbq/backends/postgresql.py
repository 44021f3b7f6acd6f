"""PostgreSQL: the same transitions, one statement each."""

import uuid
from collections.abc import Sequence

from django_dbq.backends.base import Backend, Claimed
from django_dbq.claims import Outcome
from django_dbq.models import Job

# Which due jobs of one queue come next, and now are this worker's?
# An array, since the planner may run a bare IN (SELECT ... LIMIT) again for another row, and so
# claim too many; what other claims have locked is theirs.
_CLAIM = """
UPDATE django_dbq_job
   SET state = 'PROCESSING', claim_token = %s, worker = %s, attempts = attempts + 1,
       started = STATEMENT_TIMESTAMP(), modified = STATEMENT_TIMESTAMP()
 WHERE id = ANY(ARRAY(
       SELECT id FROM django_dbq_job
        WHERE waiting AND queue_name = %s
          AND (run_after IS NULL OR run_after <= STATEMENT_TIMESTAMP())
          AND name = ANY(%s)
        ORDER BY priority DESC, created
        LIMIT %s
          FOR UPDATE SKIP LOCKED))
RETURNING *
"""

# How did these jobs end, as far as they are still ours?
# Where nothing was edited the five last columns are NULL, and the row keeps what it has.
_FINISH = """
UPDATE django_dbq_job AS job
   SET state = ended.state, next_task = ended.next_task, attempts = ended.attempts,
       error = ended.error, claim_token = NULL, modified = STATEMENT_TIMESTAMP(),
       finished = CASE WHEN ended.state IN ('COMPLETE', 'FAILED') THEN STATEMENT_TIMESTAMP() END,
       workspace = CASE WHEN ended.edited THEN ended.workspace::jsonb ELSE job.workspace END,
       priority = CASE WHEN ended.edited THEN ended.priority ELSE job.priority END,
       run_after = CASE WHEN ended.edited THEN ended.run_after ELSE job.run_after END,
       queue_name = CASE WHEN ended.edited THEN ended.queue_name ELSE job.queue_name END,
       version = CASE WHEN ended.edited THEN ended.version ELSE job.version END
  FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::int[], %s::text[], %s::bool[],
              %s::text[], %s::smallint[], %s::timestamptz[], %s::text[], %s::smallint[])
    AS ended (id, claim_token, state, next_task, attempts, error, edited,
              workspace, priority, run_after, queue_name, version)
 WHERE job.id = ended.id AND job.claim_token = ended.claim_token
   AND job.state IN ('PROCESSING', 'STOPPING')
RETURNING job.id
"""


class PostgreSQLBackend(Backend):
    """Claim and finish in one round trip each, however many jobs they are about."""

    def _claim_queue(
        self, queue: str, names: Sequence[str], limit: int, worker: uuid.UUID
    ) -> list[Claimed]:
        token = uuid.uuid4()
        params = [token, worker, queue, list(names), limit]
        return self._held(Job.objects.using(self.using).raw(_CLAIM, params), token)

    def finish(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        if not outcomes:
            return []
        columns = [list(column) for column in zip(*map(_columns, outcomes), strict=True)]
        with self.connection.cursor() as cursor:
            cursor.execute(_FINISH, columns)
            written = {row[0] for row in cursor.fetchall()}
        return [outcome for outcome in outcomes if outcome.claim.job_id not in written]


def _columns(outcome: Outcome) -> tuple[object, ...]:
    """Return the values of an outcome in the order of the statement's columns."""
    claim, row = outcome.claim, outcome.row
    ended = (claim.job_id, claim.token, row.state, row.next_task, outcome.attempts, outcome.error)
    if not outcome.edited:
        return (*ended, False, None, None, None, None, None)
    edits = (row.workspace, row.priority, row.run_after, row.queue_name, row.version)
    return (*ended, True, *edits)
