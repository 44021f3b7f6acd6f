"""SQLite: one statement per claim, so that no read lock has to become a write lock."""

import json
import uuid
from collections.abc import Sequence

from django.utils import timezone

from django_dbq.backends.base import Backend, Claimed
from django_dbq.models import Job

# Which due jobs of one queue come next, and now are this worker's?
_CLAIM = """
UPDATE django_dbq_job
   SET state = 'PROCESSING', claim_token = %s, worker = %s, attempts = attempts + 1,
       started = %s, modified = %s
 WHERE id IN (
       SELECT id FROM django_dbq_job
        WHERE waiting = 1 AND queue_name = %s AND (run_after IS NULL OR run_after <= %s)
          AND name IN (SELECT value FROM json_each(%s))
        ORDER BY priority DESC, created
        LIMIT %s)
RETURNING *
"""


class SQLiteBackend(Backend):
    """The portable transitions, but for a claim that cannot deadlock with another one.

    A transaction that reads before it writes is refused by SQLite when somebody wrote in between.
    """

    def _claim_queue(
        self, queue: str, names: Sequence[str], limit: int, worker: uuid.UUID
    ) -> list[Claimed]:
        token = uuid.uuid4()
        now = self.connection.ops.adapt_datetimefield_value(timezone.now())
        listed = json.dumps(names)
        params = [token.hex, worker.hex, now, now, queue, now, listed, limit]
        return self._held(Job.objects.using(self.using).raw(_CLAIM, params), token)
