"""The transitions as the ORM says them: the definition that the other backends must agree with."""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from django_dbq.claims import Claim, JobValues, Outcome
from django_dbq.clock import DatabaseNow
from django_dbq.models import Job, JobQuerySet
from django_dbq.workspace import decode_workspace, stored_text

Claimed = tuple[Job, Claim]


class Backend:
    """The transitions of a job's row, each one short transaction.

    claim   NEW, READY            -> PROCESSING, under a fresh token
    stop    PROCESSING            -> STOPPING, fenced by the token
    finish  PROCESSING, STOPPING  -> READY, NEW, COMPLETE or FAILED, fenced by the token

    *Fenced* means that only a row which still has the token, and still runs, is written: a worker
    that lost a job, or whose job was set back to READY by hand, changes nothing.
    """

    def __init__(self, using: str) -> None:
        self.using = using

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The connection of the calling thread; threads have one each."""
        return connections[self.using]

    def claim(
        self, queues: Sequence[str], *, names: Sequence[str], limit: int, worker: uuid.UUID
    ) -> list[Claimed]:
        """Claim up to ``limit`` due jobs, and return them in the order in which they shall run.

        The queues are emptied in the order given; within one, the higher priority goes first, then
        the older job. ``names``: the jobs that this worker's code knows; others are left alone.
        """
        claimed: list[Claimed] = []
        for queue in queues:
            if len(claimed) < limit:
                claimed += self._claim_queue(queue, names, limit - len(claimed), worker)
        return claimed

    def _claim_queue(
        self, queue: str, names: Sequence[str], limit: int, worker: uuid.UUID
    ) -> list[Claimed]:
        token = uuid.uuid4()
        now = DatabaseNow()
        can_skip = self.connection.features.has_select_for_update_skip_locked
        with transaction.atomic(using=self.using):
            chosen = list(
                self._jobs()
                .waiting()
                .due()
                .filter(queue_name=queue, name__in=names)
                .order_by("-priority", "created")
                .select_for_update(skip_locked=can_skip)
                .values_list("pk", flat=True)[:limit]
            )
            if not chosen:
                return []
            self._jobs().filter(pk__in=chosen).update(
                state=Job.STATES.PROCESSING,
                claim_token=token,
                worker=worker,
                attempts=F("attempts") + 1,
                started=now,
                modified=now,
            )
            return self._held(self._jobs().filter(pk__in=chosen), token)

    def stop(self, claim: Claim) -> None:
        """Mark a job as STOPPING, whose worker was asked to stop; it goes on running."""
        self._ours(claim).filter(state=Job.STATES.PROCESSING).update(
            state=Job.STATES.STOPPING, modified=DatabaseNow()
        )

    def finish(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Write the outcomes in one transaction, which ends their claims.

        Returns those that came too late: their job was no longer ours, and was not written.
        """
        with transaction.atomic(using=self.using):
            return [outcome for outcome in outcomes if not self._finish_one(outcome)]

    def _finish_one(self, outcome: Outcome) -> bool:
        now = DatabaseNow()
        row = outcome.row
        values: dict[str, Any] = {
            "state": row.state,
            "next_task": row.next_task,
            "attempts": outcome.attempts,
            "error": outcome.error,
            "claim_token": None,
            "modified": now,
            "finished": now if row.state in Job.FINISHED else None,
        }
        if outcome.edited:
            values["workspace"] = decode_workspace(row.workspace)
            values["priority"] = row.priority
            values["run_after"] = row.run_after
            values["queue_name"] = row.queue_name
            values["version"] = row.version
        return bool(self._ours(outcome.claim).update(**values))

    def unknown_names(self, queues: Sequence[str], names: Sequence[str]) -> list[str]:
        """Return the names of waiting jobs in these queues that ``names`` does not list."""
        unknown = self._jobs().waiting().filter(queue_name__in=queues).exclude(name__in=names)
        return sorted(unknown.values_list("name", flat=True).distinct())

    def _jobs(self) -> JobQuerySet:
        return Job.objects.using(self.using).all()

    def _ours(self, claim: Claim) -> JobQuerySet:
        """Return the job of that claim, if the claim still holds and the job still runs."""
        return self._jobs().filter(pk=claim.job_id, claim_token=claim.token, state__in=Job.RUNNING)

    @staticmethod
    def _held(rows: Iterable[Job], token: uuid.UUID) -> list[Claimed]:
        """Return the rows of one claim in the order in which they shall run."""
        jobs = sorted(rows, key=lambda job: (-job.priority, job.created))
        return [(job, _hold(job, token)) for job in jobs]


def _hold(job: Job, token: uuid.UUID) -> Claim:
    job.held_claim = Claim(
        job_id=job.pk,
        job_name=job.name,
        token=token,
        attempts=job.attempts,
        error=job.error,
        row=JobValues(
            workspace=stored_text(job.workspace),
            state=job.state,
            next_task=job.next_task,
            priority=job.priority,
            run_after=job.run_after,
            queue_name=job.queue_name,
            version=job.version,
        ),
    )
    return job.held_claim
