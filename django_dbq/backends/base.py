"""The transitions as the ORM says them: the definition that the other backends must agree with."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any, NamedTuple, cast

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import (
    Case,
    DateTimeField,
    F,
    Q,
    QuerySet,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast

from django_dbq.backends.outcomes import alike, edited_alike
from django_dbq.claims import Claim, JobValues, Outcome
from django_dbq.clock import DatabaseNow
from django_dbq.models import Failure, Job, JobQuerySet
from django_dbq.models.worker import name_of_this_process
from django_dbq.parking import parked_until
from django_dbq.workspace import decode_workspace, text_of_row

#: How many parked jobs are promoted at once, so that no claim waits for a million of them.
PROMOTED_AT_ONCE = 1000


class Wanted(NamedTuple):
    """What a worker asks for: up to ``limit`` jobs of these queues, the first queue first.

    ``names``: the jobs that the worker's code knows; others are left alone. ``promoting``: whether
    parked jobs that are due are promoted before, as by ``promote``.
    """

    queues: Sequence[str]
    names: Sequence[str]
    limit: int
    worker: uuid.UUID
    promoting: bool = False


class Backend:
    """The transitions of a job's row, each one short transaction.

    claim   NEW, READY            -> PROCESSING, under a fresh token
    stop    PROCESSING            -> STOPPING, fenced by the token
    finish  PROCESSING, STOPPING  -> READY, NEW, COMPLETE or FAILED, fenced by the token
    rescue  PROCESSING, STOPPING  -> READY, of a worker that is lost

    A job whose task has ended, and that the worker's next claim would find first, may be written
    once for both: PROCESSING -> PROCESSING, under a fresh token and fenced by the old one.

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

    def reconnect(self) -> None:
        """Connect the calling thread anew. Raises if the database does not answer."""
        self.connection.close()
        self.open()

    def may_be_the_values(self, error: Error) -> bool:
        """Return whether an error, that is not of the kind for it, may be about the values."""
        return False

    def prepare_process(self) -> None:
        """Prepare, in a worker's process, the connections that its tasks will use."""

    def claim(self, wanted: Wanted) -> list[Claim]:
        """Claim due jobs, and return them in the order in which they shall run.

        The queues are emptied in the order given; within one, the higher priority goes first, then
        the older job.
        """
        # One commit in place of two: each waits for the disk, and the job that is due for both.
        together = transaction.atomic(using=self.using) if wanted.promoting else nullcontext()
        claimed: list[Claim] = []
        with together:
            if wanted.promoting:
                self.promote()
            for queue in wanted.queues:
                if (limit := wanted.limit - len(claimed)) > 0:
                    claimed += self._claim_queue(queue, wanted._replace(limit=limit))
        return claimed

    def _claim_queue(self, queue: str, wanted: Wanted) -> list[Claim]:
        token = uuid.uuid4()
        now = DatabaseNow()
        with transaction.atomic(using=self.using):
            chosen = list(
                self.lock(self.jobs().claimable().due())
                .filter(self._is_one_of(wanted.names), queue_name=queue)
                .order_by("-priority", "created")
                .values_list("pk", flat=True)[: wanted.limit]
            )
            if not chosen:
                return []
            self.jobs().filter(pk__in=chosen).update(
                state=Job.STATES.PROCESSING,
                claim_token=token,
                worker=wanted.worker,
                # In this order, since MySQL sees what was set before: what had ended, and was set
                # back by somebody, begins anew.
                attempts=Case(When(finished=None, then=F("attempts") + 1), default=1),
                losses=Case(When(finished=None, then=F("losses")), default=0),
                cancel_requested=Case(When(finished=None, then=F("cancel_requested"))),
                started=now,
                modified=now,
                finished=None,
                parked=None,
            )
            jobs = self.jobs().filter(pk__in=chosen).order_by("-priority", "created")
            # As text: one that cannot be read is for the execution of that job to deal with.
            text = Cast("workspace", TextField())
            jobs = jobs.defer("workspace").annotate(stored_workspace=text)
            return [_claim_of(job, token) for job in jobs]

    def promote(self) -> float | None:
        """Let claims look at the parked jobs that are due, or at the first thousand of them.

        Returns 0 if there were any, else the seconds until the next one is due, or None.
        """
        with transaction.atomic(using=self.using):
            parked = self.jobs().filter(parked__isnull=False).order_by("parked")
            due = self.lock(parked.filter(parked__lte=DatabaseNow()))
            if chosen := list(due.values_list("pk", flat=True)[:PROMOTED_AT_ONCE]):
                self.jobs().filter(pk__in=chosen).update(parked=None)
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
            groups, differing = alike(outcomes)
            edited, others = edited_alike(differing)
            for group in (*groups, *edited):
                if len(group) == 1 or not self._finish_alike(group):
                    others += group
            late: list[Outcome] = []
            if len(others) < 2 or not self._finish_differing(others):
                late = [outcome for outcome in others if not self._finish_one(outcome)]
            failed = [o for o in others if o.failure is not None and o not in late]
            if failed:
                self._keep_failures(failed)
            return late

    def exchange(
        self,
        outcomes: Sequence[Outcome],
        wanted: Wanted,
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> tuple[list[Outcome], Sequence[Claim]]:
        """Finish and claim, together if it can be; return what ``finish`` and ``claim`` would.

        ``meanwhile``: called once, while the database works on that, or before where it can only
        do one thing at a time.
        """
        meanwhile()
        with transaction.atomic(using=self.using):
            return self.finish(outcomes), self.claim(wanted)

    def _finish_alike(self, group: Sequence[Outcome]) -> bool:
        """Write outcomes of which only the job differs, and maybe the workspace: all, or else none.

        False as well where the database has no statement for that.
        """
        first = group[0]
        if first.edited:
            return False
        values = self._values(first)
        with transaction.atomic(using=self.using):
            ours = self._ours(first.claim.token)
            ids = [outcome.claim.job_id for outcome in group]
            if ours.filter(pk__in=ids).update(**values) == len(group):
                return True
            transaction.set_rollback(True, using=self.using)
        return False

    def _finish_differing(self, outcomes: Sequence[Outcome]) -> bool:
        """Write outcomes that differ in other things too: all of them, or else none."""
        return False

    def _finish_one(self, outcome: Outcome) -> bool:
        row = outcome.row
        values = self._values(outcome)
        if outcome.edited:
            values["workspace"] = decode_workspace(row.workspace)
            values["priority"] = row.priority
            values["run_after"] = _unless_cancelled(row.run_after)
            values["parked"] = _unless_cancelled(parked_until(row.state, row.run_after))
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
            "losses": outcome.losses,
            "error": outcome.error,
            "claim_token": None,
            "modified": now,
            "finished": now if outcome.row.state in Job.FINISHED else None,
        }

    def _keep_failures(self, outcomes: Iterable[Outcome]) -> None:
        now: Any = DatabaseNow()
        name = name_of_this_process()
        self.failures().bulk_create(
            Failure(
                job_id=outcome.claim.job_id,
                failed=now,
                worker=name,
                **outcome.failure._asdict(),
            )
            for outcome in outcomes
            if outcome.failure is not None
        )

    def failures(self) -> QuerySet[Failure]:
        """Return all failed attempts that the database has."""
        return Failure.objects.using(self.using)

    def unknown_names(self, queues: Sequence[str], names: Sequence[str]) -> list[str]:
        """Return the names of waiting jobs in these queues that ``names`` does not list."""
        unknown = self.jobs().claimable().filter(~self._is_one_of(names), queue_name__in=queues)
        return sorted(unknown.values_list("name", flat=True).distinct())

    def jobs(self) -> JobQuerySet:
        """Return all jobs of the database."""
        return Job.objects.using(self.using).all()

    def _is_one_of(self, names: Sequence[str]) -> Q:
        """Return the condition that a job has one of these names, to the letter."""
        return Q(name__in=names)

    def lock(self, jobs: JobQuerySet) -> JobQuerySet:
        """Return the jobs but for those that somebody else is about to write."""
        can_skip = self.connection.features.has_select_for_update_skip_locked
        return jobs.select_for_update(skip_locked=can_skip)

    def _ours(self, token: uuid.UUID) -> JobQuerySet:
        """Return the jobs of a claim that are still ours, and still run."""
        return self.jobs().filter(claim_token=token, state__in=Job.RUNNING)


def _claim_of(job: Any, token: uuid.UUID) -> Claim:
    workspace = text_of_row(job.stored_workspace)

    def load(_: Claim) -> Job:
        job.workspace = decode_workspace(workspace)
        return cast("Job", job)

    row = JobValues(
        state=job.state,
        next_task=job.next_task,
        workspace=workspace,
        priority=job.priority,
        run_after=job.run_after,
        queue_name=job.queue_name,
        version=job.version,
    )
    return Claim(
        job_id=job.pk,
        job_name=job.name,
        token=token,
        started=job.modified,
        attempts=job.attempts,
        losses=job.losses,
        cancelled=job.cancel_requested is not None,
        error=job.error,
        row=row,
        load=load,
    )


def _unless_cancelled(time: datetime | None) -> Case | None:
    """Return the time until which a job waits; one that is to be cancelled does not wait."""
    if time is None:
        return None
    field: Any = DateTimeField()  # pyright: ignore[reportUnknownVariableType]
    return Case(
        When(cancel_requested__isnull=False, then=None), default=Value(time, output_field=field)
    )
