"""SQLite: one statement per transition, so that no read lock has to become a write lock."""

import json
import sqlite3
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from django.db import DataError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils import timezone

from django_dbq.backends.base import PROMOTED_AT_ONCE, Backend, Wanted
from django_dbq.backends.outcomes import weight_of
from django_dbq.backends.rows import claims_of
from django_dbq.claims import Claim, JobValues, Outcome
from django_dbq.models import Job
from django_dbq.parking import parked_until

# Which due jobs of one queue come next, and now are this worker's?
# What had ended, and was set back by somebody, begins anew. By the number of the row, which is the
# place where it stands, while an id would have to be looked up.
CLAIM = """
UPDATE django_dbq_job
   SET state = 'PROCESSING', claim_token = ?, worker = ?,
       attempts = CASE WHEN finished IS NULL THEN attempts ELSE 0 END + 1,
       losses = CASE WHEN finished IS NULL THEN losses ELSE 0 END,
       cancel_requested = CASE WHEN finished IS NULL THEN cancel_requested END,
       started = ?, modified = ?, finished = NULL, parked = NULL
 WHERE rowid IN (
       SELECT rowid FROM django_dbq_job
        WHERE claimable = 1 AND queue_name = ? AND (run_after IS NULL OR run_after <= ?)
          AND name IN (SELECT value FROM json_each(?))
        ORDER BY priority DESC, created
        LIMIT ?)
"""

# Which jobs were those?
# Whatever somebody has stored, it comes as text or a number that JSON can have, and as bytes: one
# row that is not in order must not keep a worker from all others.
_CLAIMED = """
SELECT CAST(json_array(
       CAST(id AS TEXT), CAST(created AS TEXT), NULL, CAST(name AS TEXT), CAST(next_task AS TEXT),
       CAST(workspace AS TEXT), CAST(queue_name AS TEXT), CAST(priority AS INTEGER),
       CAST(run_after AS TEXT), CAST(attempts AS INTEGER), CAST(losses AS INTEGER),
       CAST(error AS TEXT), CAST(version AS INTEGER), CAST(cancel_requested AS TEXT),
       CAST(dedupe_key AS TEXT)) AS BLOB) AS job
  FROM django_dbq_job
 WHERE worker = ? AND started = ? AND claim_token = ?
"""
_CLAIMED_AS_ONE = f"""
SELECT CAST(json_group_array(json(CAST(job AS TEXT))) AS BLOB) FROM ({_CLAIMED})
"""  # noqa: S608 - of our own

# How did these jobs end, all in the same way, as far as they are still ours?
_FINISH_ALIKE = """
UPDATE django_dbq_job
   SET state = ?, next_task = ?, attempts = ?, losses = ?, error = NULL, claim_token = NULL,
       modified = ?, finished = ?
 WHERE id IN (SELECT value FROM json_each(?)) AND claim_token = ?
   AND state IN ('PROCESSING', 'STOPPING')
"""

# How did this job end, in its own way, as far as it is still ours?
_FINISH_ONE = """
UPDATE django_dbq_job
   SET state = ?, next_task = ?, attempts = ?, losses = ?, error = ?, claim_token = NULL,
       modified = ?, finished = ?
 WHERE id = ? AND claim_token = ? AND state IN ('PROCESSING', 'STOPPING')
"""
_FINISH_EDITED = _FINISH_ONE.replace(
    "finished = ?",
    # A job that is to be cancelled does not wait for its time.
    "finished = ?, workspace = ?, priority = ?,"
    " run_after = CASE WHEN cancel_requested IS NULL THEN ? END,"
    " parked = CASE WHEN cancel_requested IS NULL THEN ? END, queue_name = ?, version = ?",
)

# How did these jobs end, all in the same way but for their workspaces, as far as they are still
# ours? Each is looked up by its id.
FINISH_EDITED_ALIKE = """
UPDATE django_dbq_job
   SET state = ?, next_task = ?, attempts = ?, losses = ?, error = NULL, claim_token = NULL,
       modified = ?, finished = ?, workspace = ended.workspace, priority = ?,
       run_after = CASE WHEN cancel_requested IS NULL THEN ? END,
       parked = CASE WHEN cancel_requested IS NULL THEN ? END, queue_name = ?, version = ?
  FROM (SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS workspace
          FROM json_each(?)) AS ended
 WHERE django_dbq_job.id = ended.id AND claim_token = ? AND state IN ('PROCESSING', 'STOPPING')
"""
#: Characters of workspaces in one document, which SQLite holds in memory, some times over.
LARGEST_DOCUMENT = 16 * 1024 * 1024

# Which parked jobs are due, and may be claimed from now on?
_PROMOTE = """
UPDATE django_dbq_job SET parked = NULL
 WHERE id IN (SELECT id FROM django_dbq_job WHERE parked <= ? ORDER BY parked LIMIT ?)
"""


class SQLiteBackend(Backend):
    """The portable transitions, but for those that read before they write.

    SQLite refuses the write of such a transaction, without waiting, when somebody wrote in between.
    """

    def prepare_process(self) -> None:
        """Have the transactions of tasks begin with the lock to write.

        Else those that read first would be refused whenever the worker itself has written
        meanwhile. Where the settings name a ``transaction_mode`` (Django 5.1), that one stays.
        """
        connection_created.connect(
            self._begin_with_lock, weak=False, dispatch_uid=f"django_dbq {self.using}"
        )
        if self.connection.connection is not None:
            self._begin_with_lock(connection=self.connection)

    def _begin_with_lock(self, *, connection: BaseDatabaseWrapper, **_: object) -> None:
        if connection.alias != self.using or getattr(connection, "transaction_mode", None):
            return

        def begin() -> None:
            with connection.cursor() as cursor:
                cursor.execute("BEGIN IMMEDIATE")

        vars(connection)["_start_transaction_under_autocommit"] = begin

    def promote(self) -> float | None:
        now = timezone.now()
        if self._execute(_PROMOTE, [self._time(now), PROMOTED_AT_ONCE]).rowcount:
            return 0
        parked = self.jobs().filter(parked__isnull=False).order_by("parked")
        until = parked.values_list("parked", flat=True).first()
        return None if until is None else max(0.0, (until - now).total_seconds())

    def _claim_queue(self, queue: str, wanted: Wanted) -> list[Claim]:
        token = uuid.uuid4()
        started = timezone.now()
        now = self._time(started)
        worker, limit = wanted.worker, wanted.limit
        listed = json.dumps(wanted.names)
        claim = [token.hex, worker.hex, now, now, queue, now, listed, limit]
        with transaction.atomic(using=self.using):
            if not self._execute(CLAIM, claim).rowcount:
                return []
            claimed = self._claimed([worker.hex, now, token.hex])
        zone = self.connection.timezone
        rows = [_as_python(row, started, zone) for row in claimed]
        times = {None: started}
        return claims_of(rows, using=self.using, token=token, worker=worker, times=times)

    def _claimed(self, parameters: Sequence[object]) -> list[list[Any]]:
        """Return the rows of a claim: as one document, unless that is longer than SQLite allows.

        The driver lets go of the interpreter for each row, and then waits for its turn behind the
        tasks.
        """
        rows: list[list[Any]]
        try:
            [document] = self._documents(_CLAIMED_AS_ONE, parameters)
        except DataError:
            rows = [json.loads(document) for document in self._documents(_CLAIMED, parameters)]
        else:
            rows = json.loads(document)
        return rows

    def _documents(self, statement: str, parameters: Sequence[object]) -> list[str]:
        """Return the one column of a statement's rows; what in it is no text is replaced."""
        with self.connection.wrap_database_errors:
            rows = self._execute(statement, parameters).fetchall()
        return [document.decode(errors="replace") for (document,) in rows]

    def _finish_alike(self, group: Sequence[Outcome]) -> bool:
        claim, row, attempts, losses, _, edited, _ = group[0]
        now = self._now()
        ended = now if row.state in Job.FINISHED else None
        values = [row.state, row.next_task, attempts, losses, now, ended]
        if not edited:
            ids = json.dumps([outcome.claim.job_id.hex for outcome in group])
            return self._wrote(_FINISH_ALIKE, [*values, ids, claim.token.hex], len(group))
        # Before that version, UPDATE knows no FROM.
        if sqlite3.sqlite_version_info < (3, 33) or weight_of(group) > LARGEST_DOCUMENT:
            return False
        made = json.dumps([(each.claim.job_id.hex, each.row.workspace) for each in group])
        values += [*self._edit(row), made, claim.token.hex]
        return self._wrote(FINISH_EDITED_ALIKE, values, len(group))

    def _wrote(self, statement: str, values: Sequence[object], number: int) -> bool:
        """Write so many rows, or else none."""
        with transaction.atomic(using=self.using):
            if self._execute(statement, values).rowcount == number:
                return True
            transaction.set_rollback(True, using=self.using)
        return False

    def _finish_one(self, outcome: Outcome) -> bool:
        claim, row, attempts, losses, error, edited, _ = outcome
        now = self._now()
        ended = now if row.state in Job.FINISHED else None
        values = [row.state, row.next_task, attempts, losses, error, now, ended]
        if edited:
            values += [row.workspace, *self._edit(row)]
        statement = _FINISH_EDITED if edited else _FINISH_ONE
        written = self._execute(statement, [*values, claim.job_id.hex, claim.token.hex])
        return written.rowcount == 1

    def _edit(self, row: JobValues) -> list[object]:
        """Return what may have been edited besides the workspace, as the columns have it."""
        parked = parked_until(row.state, row.run_after)
        times = [self._time(row.run_after), self._time(parked)]
        return [row.priority, *times, row.queue_name, row.version]

    def _now(self) -> str | None:
        return self._time(timezone.now())

    def _time(self, time: datetime | None) -> str | None:
        """Return a time as its column has it."""
        return self.connection.ops.adapt_datetimefield_value(time)

    def _execute(self, statement: str, parameters: Sequence[object]) -> sqlite3.Cursor:
        """Run a statement past Django's cursor, which would look for ``%s`` in it each time."""
        connection = self.connection
        connection.ensure_connection()
        with connection.wrap_database_errors:
            cursor: sqlite3.Cursor = connection.connection.execute(statement, parameters)
            return cursor


def _as_python(values: list[Any], started: datetime, zone: tzinfo | None) -> list[Any]:
    """Return a row as Django would read it, but for the time of the claim."""
    values[0] = uuid.UUID(values[0])
    for position in (1, 8, 13):  # created, run_after, cancel_requested
        if (text := values[position]) is not None:
            values[position] = _as_time(text, zone)
    values[1] = values[1] or started
    return values


def _as_time(text: str, zone: tzinfo | None) -> datetime | None:
    """Return a time as Django has it; what is none, which anybody can store there, as None."""
    # Read with its zone, a time takes an eighth of what it takes to give it one.
    is_as_written = zone is UTC and len(text) in (19, 26) and text[-1].isdigit()
    for readable in (f"{text}+00:00", text) if is_as_written else (text,):
        try:
            time = datetime.fromisoformat(readable)
        except ValueError:
            continue
        return time.replace(tzinfo=zone) if time.tzinfo is None else time
    return None
