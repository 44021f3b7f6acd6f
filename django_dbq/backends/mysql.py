"""MariaDB and MySQL: a claim in two statements, and outcomes that differ in one."""

import json
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import Error, transaction
from django.db.models import BinaryField, F, Func, Q
from django.db.models.lookups import In

from django_dbq.backends.base import Backend, Wanted
from django_dbq.backends.outcomes import record_of, weight_of
from django_dbq.backends.rows import claims_of
from django_dbq.claims import Claim, Outcome
from django_dbq.clock import mysql_now
from django_dbq.models import Job

# Which due jobs of one queue come next? What other claims have locked is theirs.
# Text is compared without regard to case there, and NOOP is not the job noop.
CLAIM = """
SELECT id, created, {now}, name, next_task, workspace, queue_name, priority, run_after,
       IF(finished IS NULL, attempts, 0) + 1, IF(finished IS NULL, losses, 0), error, version,
       IF(finished IS NULL, cancel_requested, NULL), dedupe_key
  FROM django_dbq_job
 WHERE claimable = 1 AND queue_name = %s AND (run_after IS NULL OR run_after <= {now})
   AND CAST(name AS BINARY) IN %s
 ORDER BY priority DESC, created
 LIMIT %s
   FOR UPDATE {skip_locked}
"""

# They are this worker's now. What had ended, and was set back by somebody, begins anew; `finished`
# comes last, since what is set is seen by what follows.
_TAKE = """
UPDATE django_dbq_job
   SET state = 'PROCESSING', claim_token = %s, worker = %s, started = %s, modified = %s,
       parked = NULL, attempts = IF(finished IS NULL, attempts, 0) + 1,
       losses = IF(finished IS NULL, losses, 0),
       cancel_requested = IF(finished IS NULL, cancel_requested, NULL), finished = NULL
 WHERE id IN %s
"""

# How did these jobs end, all in the same way, as far as they are still ours?
_FINISH_ALIKE = """
UPDATE django_dbq_job
   SET state = %s, next_task = %s, attempts = %s, losses = %s, error = NULL, claim_token = NULL,
       modified = {now}, finished = IF(%s, {now}, NULL)
 WHERE id IN %s AND claim_token = %s AND state IN ('PROCESSING', 'STOPPING')
"""

# How did these jobs end, each in its own way, as far as they are still ours?
# A job that is to be cancelled does not wait for its time.
# In this order each is looked up by its id, and the table is not read through.
_FINISH = """
UPDATE JSON_TABLE(%s, '$[*]' COLUMNS (
           id CHAR(36) PATH '$.id', claim_token CHAR(36) PATH '$.claim_token',
           state VARCHAR(20) PATH '$.state', next_task VARCHAR(255) PATH '$.next_task',
           attempts INT PATH '$.attempts', losses INT PATH '$.losses',
           error LONGTEXT PATH '$.error', edited BOOLEAN PATH '$.edited',
           workspace LONGTEXT PATH '$.workspace', priority SMALLINT PATH '$.priority',
           run_after DATETIME(6) PATH '$.run_after', parked DATETIME(6) PATH '$.parked',
           queue_name VARCHAR(255) PATH '$.queue_name', version SMALLINT PATH '$.version'
       )) AS ended STRAIGHT_JOIN django_dbq_job AS job ON job.id = CAST(ended.id AS UUID)
   SET job.state = ended.state, job.next_task = ended.next_task, job.attempts = ended.attempts,
       job.losses = ended.losses, job.error = ended.error, job.claim_token = NULL,
       job.modified = {now},
       job.finished = IF(ended.state IN ('COMPLETE', 'FAILED'), {now}, NULL),
       job.workspace = IF(edited, ended.workspace, job.workspace),
       job.priority = IF(edited, ended.priority, job.priority),
       job.run_after = IF(edited, IF(cancel_requested IS NULL, ended.run_after, NULL),
                          job.run_after),
       job.parked = IF(edited, IF(cancel_requested IS NULL, ended.parked, NULL), job.parked),
       job.queue_name = IF(edited, ended.queue_name, job.queue_name),
       job.version = IF(edited, ended.version, job.version)
 WHERE job.claim_token = CAST(ended.claim_token AS UUID)
   AND job.state IN ('PROCESSING', 'STOPPING')
"""


#: Errors that come as operational ones, though the values may be why: a character that the column
#: has no room for, a packet too large, and what a client is told instead: the server has gone away.
_ABOUT_VALUES = {1366, 1153, 2006, 2013}

#: Bytes of workspaces that are written in one statement: a server accepts packets of 16 MiB, as it
#: comes.
LARGEST_DOCUMENT = 4 * 1024 * 1024


class MySQLBackend(Backend):
    """The portable transitions, but for what is done for each job there."""

    def may_be_the_values(self, error: Error) -> bool:
        return bool(error.args) and error.args[0] in _ABOUT_VALUES

    def _claim_queue(self, queue: str, wanted: Wanted) -> list[Claim]:
        token = uuid.uuid4()
        can_skip = self.connection.features.has_select_for_update_skip_locked
        statement = CLAIM.format(
            now=mysql_now(self.connection), skip_locked="SKIP LOCKED" if can_skip else ""
        )
        names = [name.encode() for name in wanted.names]
        with transaction.atomic(using=self.using), self.connection.cursor() as cursor:
            if not names:
                return []
            cursor.execute(statement, [queue, names, wanted.limit])
            if not (rows := cursor.fetchall()):
                return []
            now = rows[0][2]
            ids = [row[0] for row in rows]
            owner = [self._id(token), self._id(wanted.worker)]
            cursor.execute(_TAKE, [*owner, now, now, ids])
        rows = [self._as_python(row) for row in rows]
        times = {now: now.replace(tzinfo=self.connection.timezone)}
        worker = wanted.worker
        return claims_of(rows, using=self.using, token=token, worker=worker, times=times)

    def _finish_alike(self, group: Sequence[Outcome]) -> bool:
        claim, row, attempts, losses, _, edited, _ = group[0]
        if edited:
            return False
        ids = [self._id(outcome.claim.job_id) for outcome in group]
        values = [row.state, row.next_task, attempts, losses, row.state in Job.FINISHED, ids]
        statement = _FINISH_ALIKE.format(now=mysql_now(self.connection))
        return self._wrote(statement, [*values, self._id(claim.token)], len(group))

    def _finish_differing(self, outcomes: Sequence[Outcome]) -> bool:
        if not self.connection.features.has_native_uuid_field:
            # MySQL and older MariaDBs: there an id is text, which may be of another collation.
            return super()._finish_differing(outcomes)
        if weight_of(outcomes) > LARGEST_DOCUMENT:
            return False
        document = json.dumps(
            [record_of(outcome, identity=self._id, time=self._time) for outcome in outcomes]
        )
        statement = _FINISH.format(now=mysql_now(self.connection))
        return self._wrote(statement, [document], len(outcomes))

    def _wrote(self, statement: str, values: Sequence[Any], number: int) -> bool:
        """Write so many rows, or else none."""
        with transaction.atomic(using=self.using), self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            if cursor.rowcount == number:
                return True
            transaction.set_rollback(True, using=self.using)
        return False

    def _id(self, value: uuid.UUID) -> str:
        """Return an id as its column has it."""
        return str(value) if self.connection.features.has_native_uuid_field else value.hex

    def _time(self, time: datetime | None) -> str | None:
        return None if time is None else str(self.connection.ops.adapt_datetimefield_value(time))

    def _as_python(self, row: Sequence[Any]) -> list[Any]:
        """Return a row as Django would read it, but for the time of the claim."""
        values = list(row)
        values[0] = uuid.UUID(values[0])
        zone = self.connection.timezone
        values[1] = values[1] or values[2]  # a date of zeros is None
        for position in (1, 8, 13):  # created, run_after, cancel_requested
            if values[position] is not None:
                values[position] = values[position].replace(tzinfo=zone)
        return values

    def _is_one_of(self, names: Sequence[str]) -> Q:
        field: Any = BinaryField()  # pyright: ignore[reportUnknownVariableType]
        exact: Any = Func(F("name"), template="CAST(%(expressions)s AS BINARY)", output_field=field)
        return Q(In(exact, [name.encode() for name in names]))
