"""Jobs that nobody has any more, though the table says so: what becomes of them."""

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, Min, OuterRef
from django.utils import timezone

from django_dbq.backends.base import Backend
from django_dbq.clock import DatabaseNow
from django_dbq.errors import JobLost
from django_dbq.models import Failure, Job, JobQuerySet, Worker

#: How many jobs of a lost worker are rescued in one transaction.
RESCUED_AT_ONCE = 1000
#: Among how many jobs to look at once for those whose worker has no row.
LOOKED_AT_ONCE = 20_000
#: How much further back to look for what a worker has: local times and clocks that are set leap.
LEAP = timedelta(hours=2)


class LostJobs:
    """The transition of a job whose worker is lost, or whose claim nobody knows of.

    rescue             PROCESSING, STOPPING  -> READY, of a worker that is lost
    hand_back_unknown  PROCESSING, STOPPING  -> READY, of a claim whose answer did not arrive

    Rare, and so in the ORM's words on every database.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def hand_back_unknown(
        self, worker: uuid.UUID, *, since: datetime, tokens: Collection[uuid.UUID]
    ) -> int:
        """Hand back what a worker has by the table, but not by the tokens; return how many jobs.

        That comes of a claim whose answer did not arrive. ``since``: as ``rescue`` has it.
        """
        held = self._held(worker, since).exclude(claim_token__in=tokens)
        return held.update(
            state=Job.STATES.READY,
            claim_token=None,
            attempts=F("attempts") - 1,
            modified=DatabaseNow(),
        )

    def rescue(self, worker: Worker) -> int:
        """Make what a lost worker held READY again; return how many jobs that were.

        Its ``held_since`` keeps this from looking at all that it ever had.
        """
        count = 0
        while rescued := self._rescue_some(worker):
            count += rescued
        return count

    def _rescue_some(self, worker: Worker) -> int:
        with transaction.atomic(using=self.backend.using):
            if not self._is_still_lost(worker):
                return 0
            held = self.backend.lock(self._held(worker.pk, worker.held_since)).order_by("started")
            if not (jobs := list(held.defer("workspace", "error")[:RESCUED_AT_ONCE])):
                return 0
            lost = f"The worker {worker}, which had the job, was lost."
            now: Any = DatabaseNow()
            self.backend.jobs().filter(pk__in=[job.pk for job in jobs]).update(
                state=Job.STATES.READY, claim_token=None, losses=F("losses") + 1, modified=now
            )
            self.backend.failures().bulk_create(
                Failure(
                    job=job,
                    failed=now,
                    worker=str(worker),
                    task=job.next_task,
                    attempt=job.attempts,
                    exception=f"{JobLost.__name__}: {lost}",
                    traceback=lost,
                )
                for job in jobs
            )
            return len(jobs)

    def find_orphans(self, before: uuid.UUID | None) -> tuple[dict[uuid.UUID, datetime], Any]:
        """Look among some jobs for those that run by a worker without a row, the newest first.

        No index tells them from finished ones, so that each look is at a number of jobs, whatever
        the table's size. ``before``: where the last look ended; None to begin. Returns since when
        which worker has them, and where this look ended; None when there is no more to look at.
        What django-db-queue left behind has no token, and is not among them.
        """
        jobs = self.backend.jobs()
        if before is not None:
            jobs = jobs.filter(pk__lt=before)
        keys = jobs.order_by("-pk").values_list("pk", flat=True)
        if (end := keys[LOOKED_AT_ONCE - 1 : LOOKED_AT_ONCE].first()) is not None:
            jobs = jobs.filter(pk__gte=end)
        has_row = Exists(Worker.objects.using(self.backend.using).filter(pk=OuterRef("worker")))
        orphans = jobs.filter(
            ~has_row,
            state__in=Job.RUNNING,
            claim_token__isnull=False,
            worker__isnull=False,
            started__isnull=False,
        )
        workers = set(orphans.values_list("worker", flat=True))
        return {worker: self._holds_since(worker) for worker in workers if worker}, end

    def _holds_since(self, worker: uuid.UUID) -> datetime:
        held = self.backend.jobs().filter(worker=worker, state__in=Job.RUNNING)
        since: datetime | None = held.aggregate(since=Min("started"))["since"]
        return since or timezone.now()

    def _is_still_lost(self, worker: Worker) -> bool:
        """Return whether the worker has not reported since; keep it from that meanwhile.

        One that wakes up starts nothing before it has reported, and then its new jobs are its own.
        """
        rows = Worker.objects.using(self.backend.using).select_for_update()
        return rows.filter(pk=worker.pk, last_seen=worker.last_seen).exists()

    def _held(self, worker: uuid.UUID, since: datetime) -> JobQuerySet:
        since -= LEAP
        return self.backend.jobs().filter(worker=worker, started__gte=since, state__in=Job.RUNNING)
