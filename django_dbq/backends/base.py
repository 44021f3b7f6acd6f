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
from django_dbq.parking import parked_until
from django_dbq.workspace import decode_workspace, stored_text

Claimed = tuple[Job, Claim]

#: How many parked jobs are promoted at once, so that no claim waits for a million of them.
PROMOTED_AT_ONCE = 1000


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

    def open(self) -> None:
        """Prepare the connection of the calling thread, which will be used for nothing else."""
        self.connection.ensure_connection()

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
        with transaction.atomic(using=self.using):
            chosen = list(
                self._lock(self._jobs().claimable().due())
                .filter(queue_name=queue, name__in=names)
                .order_by("-priority", "created")
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
                finished=None,
                parked=None,
            )
            return in_order(
                (job, hold(job, token, stored_text(job.workspace)))
                for job in self._jobs().filter(pk__in=chosen)
            )

    def promote(self) -> float | None:
        """Let claims look at the parked jobs that are due, or at the first thousand of them.

        Returns 0 if there were any, else the seconds until the next one is due, or None.
        """
        with transaction.atomic(using=self.using):
            parked = self._jobs().filter(parked__isnull=False).order_by("parked")
            due = self._lock(parked.filter(parked__lte=DatabaseNow()))
            if chosen := list(due.values_list("pk", flat=True)[:PROMOTED_AT_ONCE]):
                self._jobs().filter(pk__in=chosen).update(parked=None)
                return 0
            if (following := parked.values_list("parked", DatabaseNow()).first()) is None:
                return None
            until, now = following
            seconds: float = (until - now).total_seconds()
            return max(0.0, seconds)

    def stop(self, claims: Iterable[Claim]) -> None:
        """Mark jobs as STOPPING, whose worker was asked to stop; they go on running."""
        for claim in claims:
            self._ours(claim.token).filter(pk=claim.job_id, state=Job.STATES.PROCESSING).update(
                state=Job.STATES.STOPPING, modified=DatabaseNow()
            )

    def finish(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Write the outcomes, which ends their claims.

        Returns those that came too late: their job was no longer ours, and was not written.
        """
        with transaction.atomic(using=self.using):
            groups, others = alike(outcomes)
            for group in groups:
                if len(group) == 1 or not self._finish_alike(group):
                    others += group
            return [outcome for outcome in others if not self._finish_one(outcome)]

    def _finish_alike(self, group: Sequence[Outcome]) -> bool:
        """Write outcomes of which only the job differs: all of them, or else none."""
        first = group[0]
        values = self._values(first)
        with transaction.atomic(using=self.using):
            ours = self._ours(first.claim.token)
            ids = [outcome.claim.job_id for outcome in group]
            if ours.filter(pk__in=ids).update(**values) == len(group):
                return True
            transaction.set_rollback(True, using=self.using)
        return False

    def _finish_one(self, outcome: Outcome) -> bool:
        row = outcome.row
        values = self._values(outcome)
        if outcome.edited:
            values["workspace"] = decode_workspace(row.workspace)
            values["priority"] = row.priority
            values["run_after"] = row.run_after
            values["parked"] = parked_until(row.state, row.run_after)
            values["queue_name"] = row.queue_name
            values["version"] = row.version
        ours = self._ours(outcome.claim.token).filter(pk=outcome.claim.job_id)
        return bool(ours.update(**values))

    def _values(self, outcome: Outcome) -> dict[str, Any]:
        now = DatabaseNow()
        return {
            "state": outcome.row.state,
            "next_task": outcome.row.next_task,
            "attempts": outcome.attempts,
            "error": outcome.error,
            "claim_token": None,
            "modified": now,
            "finished": now if outcome.row.state in Job.FINISHED else None,
        }

    def hand_on(self, worker: uuid.UUID) -> int:
        """Make what a lost worker held READY again; return how many jobs that were."""
        held = self._jobs().filter(worker=worker, state__in=Job.RUNNING)
        return held.update(
            state=Job.STATES.READY,
            claim_token=None,
            losses=F("losses") + 1,
            modified=DatabaseNow(),
        )

    def unknown_names(self, queues: Sequence[str], names: Sequence[str]) -> list[str]:
        """Return the names of waiting jobs in these queues that ``names`` does not list."""
        unknown = self._jobs().claimable().filter(queue_name__in=queues).exclude(name__in=names)
        return sorted(unknown.values_list("name", flat=True).distinct())

    def _jobs(self) -> JobQuerySet:
        return Job.objects.using(self.using).all()

    def _lock(self, jobs: JobQuerySet) -> JobQuerySet:
        """Return the jobs but for those that somebody else is about to write."""
        can_skip = self.connection.features.has_select_for_update_skip_locked
        return jobs.select_for_update(skip_locked=can_skip)

    def _ours(self, token: uuid.UUID) -> JobQuerySet:
        """Return the jobs of a claim that are still ours, and still run."""
        return self._jobs().filter(claim_token=token, state__in=Job.RUNNING)


def hold(job: Job, token: uuid.UUID, workspace: str) -> Claim:
    """Make the job one that a worker holds; ``workspace`` is the JSON text of its workspace."""
    row = JobValues(
        job.state,
        job.next_task,
        workspace,
        job.priority,
        job.run_after,
        job.queue_name,
        job.version,
    )
    claim = job.held_claim = Claim(job.pk, job.name, token, job.attempts, job.error, row)
    return claim


def in_order(claimed: Iterable[Claimed]) -> list[Claimed]:
    """Return the jobs of one queue in the order in which they shall run."""
    return sorted(claimed, key=lambda held: (-held[0].priority, held[0].created))


def alike(outcomes: Iterable[Outcome]) -> tuple[list[list[Outcome]], list[Outcome]]:
    """Return the groups of outcomes that differ in nothing but the job, and all others."""
    groups: dict[object, list[Outcome]] = {}
    others: list[Outcome] = []
    for outcome in outcomes:
        claim, row, attempts, error, edited = outcome
        if edited or error is not None:
            others.append(outcome)
        else:
            key = (claim.token, row.state, row.next_task, attempts)
            groups.setdefault(key, []).append(outcome)
    return list(groups.values()), others
