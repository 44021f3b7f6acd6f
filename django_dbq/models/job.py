"""The job's row, and how it is created, saved, retried and cancelled."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, router, transaction
from django.db.models import Count, F, GeneratedField, Q

from django_dbq import registry
from django_dbq.claims import Claim
from django_dbq.clock import DatabaseNow
from django_dbq.conf import NAME_LENGTH, PRIORITIES
from django_dbq.errors import ClaimLost, InvalidJob, JobCancelled, UnknownJob
from django_dbq.ids import uuid7
from django_dbq.indexes import ClaimIndex, HeldIndex, ParkedIndex
from django_dbq.models.queries import JobManager, JobQuerySet
from django_dbq.notices import announce
from django_dbq.parking import ParkedField
from django_dbq.registry import DEFAULT_PRIORITY, DEFAULT_QUEUE, JobSpec
from django_dbq.workspace import WorkspaceField, encode_workspace

if TYPE_CHECKING:
    from django_dbq.models.failure import Failure


class Job(models.Model):
    """A piece of work: one row, run task by task until it is COMPLETE or FAILED.

    The columns down to ``run_after`` are django-db-queue's. Those below belong to the engine: they
    have defaults in the database, so that a plain INSERT need not name them, and ``save()`` never
    overwrites them.
    """

    class STATES(models.TextChoices):
        """Where a job stands; there are no other states."""

        NEW = "NEW"  # created, waiting for a worker to run its first task
        READY = "READY"  # has run before, waiting for a worker to run the next task
        PROCESSING = "PROCESSING"  # claimed by a worker, which runs the task or is about to
        STOPPING = "STOPPING"  # still running, while its worker was asked to stop
        FAILED = "FAILED"  # a task failed
        COMPLETE = "COMPLETE"  # all tasks are done

    WAITING: ClassVar = (STATES.NEW.value, STATES.READY.value)
    RUNNING: ClassVar = (STATES.PROCESSING.value, STATES.STOPPING.value)
    FINISHED: ClassVar = (STATES.FAILED.value, STATES.COMPLETE.value)

    id: models.UUIDField[uuid.UUID, uuid.UUID] = models.UUIDField(
        primary_key=True, default=uuid7, editable=False
    )
    created: models.DateTimeField[datetime, datetime] = models.DateTimeField(
        auto_now_add=True, db_index=True
    )  # for the retention
    modified: models.DateTimeField[datetime, datetime] = models.DateTimeField(auto_now=True)
    name: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    state: models.CharField[str, str] = models.CharField(
        max_length=20, choices=STATES.choices, default=STATES.NEW
    )
    next_task: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH, blank=True)
    workspace: models.JSONField[Any, Any] = WorkspaceField(null=True, blank=True, default=dict)
    queue_name: models.CharField[str, str] = models.CharField(
        max_length=NAME_LENGTH, default=DEFAULT_QUEUE
    )
    priority: models.SmallIntegerField[int, int] = models.SmallIntegerField(
        default=DEFAULT_PRIORITY,
        validators=[MinValueValidator(PRIORITIES[0]), MaxValueValidator(PRIORITIES[1])],
    )
    run_after: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        null=True, blank=True
    )

    #: Written by each claim, demanded by each write of the worker that claimed.
    claim_token: models.UUIDField[uuid.UUID | None, uuid.UUID | None] = models.UUIDField(
        null=True, editable=False
    )
    #: The id of the worker process that has, or last had, the job.
    worker: models.UUIDField[uuid.UUID | None, uuid.UUID | None] = models.UUIDField(
        null=True, editable=False
    )
    #: How often the current task was started, since the task before it ended.
    attempts: models.IntegerField[int, int] = models.IntegerField(
        default=0, db_default=0, editable=False
    )
    #: How often a worker was lost while it had the job, since the task before ended.
    losses: models.IntegerField[int, int] = models.IntegerField(
        default=0, db_default=0, editable=False
    )
    #: When the current or last task was claimed.
    started: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        null=True, editable=False
    )
    #: When the job became COMPLETE or FAILED.
    finished: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        null=True, editable=False
    )
    #: The last failure: a traceback whose last line says what went wrong.
    error: models.TextField[str | None, str | None] = models.TextField(null=True, editable=False)
    #: Which version of the job's workspace this is.
    version: models.SmallIntegerField[int, int] = models.SmallIntegerField(
        default=1, db_default=1, editable=False
    )
    #: When somebody asked for the job, which was running, to be cancelled.
    cancel_requested: models.DateTimeField[datetime | None, datetime | None] = models.DateTimeField(
        null=True, editable=False
    )
    #: At most one unfinished job has a given key.
    dedupe_key: models.CharField[str | None, str | None] = models.CharField(
        null=True, max_length=NAME_LENGTH, editable=False
    )
    #: The ``run_after`` of a job that is put away until then, so that a million of those for later
    #: keep no claim waiting. One whose ``run_after`` was changed since is not parked any more.
    parked: models.DateTimeField[datetime | None, datetime | None] = ParkedField(
        null=True, editable=False
    )
    #: Whether a claim looks at the job. The database derives it, however the other columns are
    #: written. The claim's index uses it since it stays as it is when a job ends, while ``state``
    #: in an index would make every ending rewrite all indexes.
    claimable = GeneratedField(
        expression=Q(state__in=["NEW", "READY"]) & ~Q(parked=F("run_after")),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # the stubs know no Q here
        output_field=models.BooleanField(),
        db_persist=True,
    )

    #: The columns that belong to the engine, and what the database gives them in a new row.
    ENGINE_COLUMNS: ClassVar[dict[str, int | None]] = {
        "claim_token": None, "worker": None, "attempts": 0, "losses": 0, "started": None,
        "finished": None, "error": None, "dedupe_key": None, "version": 1, "cancel_requested": None,
    }  # fmt: skip

    objects: ClassVar[JobManager] = JobManager()
    if TYPE_CHECKING:  # the other end of a foreign key

        @property
        def failures(self) -> models.QuerySet[Failure]:
            """The attempts that failed."""
            ...

    #: The columns that the creator named; an entry's queue and priority are for the others.
    _given: Collection[str] = ()
    #: The claim under which a worker holds this instance; None everywhere else.
    held_claim: Claim | None = None
    #: The worker's requests to stop, while one holds the job.
    stop_requests: object = False
    #: Whether a task or hook saved the instance while a worker held it.
    saved_while_held = False

    class Meta:
        indexes: ClassVar = [
            ClaimIndex(fields=["queue_name", "-priority", "created"], name="django_dbq_job_claim"),
            ParkedIndex(fields=["parked"], name="django_dbq_job_parked"),
            # Both are written by claims alone: what a finish writes must stand in no index.
            HeldIndex(fields=["worker", "started"], name="django_dbq_job_held"),
        ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if kwargs:
            self._given = tuple(kwargs)  # their keys alone could not be pickled

    def __str__(self) -> str:
        return f"{self.name} ({self.state})"

    def save(  # pyright: ignore[reportIncompatibleMethodOverride] # by position, as ever
        self,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Save the row; a new job gets its first task, and then its creation hook is run.

        The hook runs in the same transaction, behind the INSERT: what it changes on the job is
        saved, and if it raises, the exception reaches the caller and there is no job. Raises
        ``UnknownJob`` or ``WorkspaceError`` before anything is written, and ``ClaimLost`` inside a
        task whose worker no longer has the job.
        """
        save = partial(super().save, force_insert=force_insert, force_update=force_update)
        if not self._state.adding:
            if update_fields is None and self.unread_workspace is not None:
                self.workspace  # noqa: B018 - or Django would take it for one that was not loaded
            save(using=using, update_fields=update_fields)
            return
        using = using or router.db_for_write(type(self), instance=self)
        self.prepare()
        if registry.get(self.name).creation_hook is None:
            save(using=using, update_fields=update_fields)
        else:
            with transaction.atomic(using=using):
                save(using=using, update_fields=update_fields)
                self.run_creation_hook(using)
        announce([self.queue_name], using)

    @classmethod
    def is_customized(cls) -> bool:
        """Whether somebody has put in a constructor of his own, which has to be called."""
        return (cls.__init__, getattr(cls.from_db, "__func__", None)) != _CONSTRUCTORS

    @property
    def unread_workspace(self) -> str | None:
        """The JSON text of a claimed job's workspace, for which nobody has asked yet."""
        claim = self.held_claim
        if claim is None or "workspace" in self.__dict__:
            return None
        return claim.row.workspace

    def get_deferred_fields(self) -> set[str]:
        """Return the columns that were not loaded; a workspace that is yet to be decoded was."""
        deferred = super().get_deferred_fields()
        return deferred if self.unread_workspace is None else deferred - {"workspace"}

    @property
    def stopping(self) -> bool:
        """Whether the worker that runs this task was asked to stop, so that it had better end."""
        return bool(self.stop_requests)

    def still_mine(self) -> bool:
        """Whether the worker that runs this task still has the job; asks the database.

        A task that has been kept from running for long, or is about to do what must not be done
        twice, had better ask. False outside of a worker.
        """
        return self.held_claim is not None and self._ours().exists()

    def is_cancelled(self) -> bool:
        """Whether somebody has asked for the job to be cancelled; asks the database.

        A long task may ask now and then, and end. The next task does not start in any case.
        """
        if self._state.adding:
            return False
        jobs = type(self).objects.using(self._state.db).filter(pk=self.pk)
        return jobs.filter(cancel_requested__isnull=False).exists()

    def cancel(self) -> bool:
        """See to it that the job starts no other task; return False if it has ended already.

        A job that waits (NEW, READY) is FAILED at once, with ``JobCancelled`` on its record and no
        hook run. One that runs gets a request: its task may ask ``is_cancelled()``, and when that
        has ended another does not follow; then it is FAILED likewise, and its failure hook is run.
        """
        jobs = type(self).objects.using(self._state.db).filter(pk=self.pk)
        # First the request, which a worker heeds that claims the job in between.
        if not jobs.exclude(state__in=self.FINISHED).update(cancel_requested=DatabaseNow()):
            return False
        error = JobCancelled("The job was cancelled before its next task started.")
        waiting = jobs.filter(state__in=self.WAITING, cancel_requested__isnull=False)
        waiting.cancel_waiting(error)
        self.refresh_from_db()
        return True

    def retry(self, *, from_first: bool = False) -> bool:
        """Let a FAILED job run again, from the task that failed or from the first.

        It becomes READY, and counts its attempts and losses anew; what is known of its failures
        stays. Returns False, and changes nothing, if the job is not FAILED any more.
        """
        jobs = type(self).objects.using(self._state.db).filter(pk=self.pk, state=self.STATES.FAILED)
        is_retried = jobs.retry(from_first=from_first) > 0
        if is_retried:
            self.refresh_from_db()
        return is_retried

    @classmethod
    def get_queue_depths(
        cls, exclude_future_jobs: bool = False, *, using: str | None = None
    ) -> dict[str, int]:
        """Return how many jobs wait (NEW or READY) in each queue that has any.

        ``exclude_future_jobs`` leaves out those whose ``run_after`` is still to come; ``using``
        names the database, which the routers choose otherwise.
        """
        jobs = cls.objects.using(using or router.db_for_read(cls)).waiting()
        if exclude_future_jobs:
            jobs = jobs.due()
        depths = jobs.values_list("queue_name").annotate(depth=Count("*"))
        return dict(depths.order_by("queue_name"))

    def prepare(self) -> Self:
        """Fill in what a new job needs before its INSERT, and return it.

        Raises ``UnknownJob``, ``WorkspaceError``, or ``ValueError`` for a queue name or priority
        that does not fit: here and not in the field, where a caller's ``atomic()`` block would be
        broken by it.
        """
        spec = registry.get(self.name)
        self.next_task = self.next_task or spec.tasks[0]
        self._apply(spec)
        # SQLite would take it, and the other databases would not.
        if len(self.queue_name) > NAME_LENGTH:
            raise ValueError(
                f"The queue name {self.queue_name[:40]!r}... has {len(self.queue_name)} characters;"
                f" {NAME_LENGTH} are allowed."
            )
        least, largest = PRIORITIES
        if not least <= self.priority <= largest:
            raise ValueError(f"The priority {self.priority} is not from {least} to {largest}.")
        return self

    def apply_rules(self) -> None:
        """Do what a typed job wants of any new row; nothing for one that is plain, or not known."""
        with suppress(UnknownJob, InvalidJob):
            spec = registry.get(self.name)
            if spec.workspace is not None:
                self._apply(spec)

    def run_creation_hook(self, using: str) -> None:
        """Run the creation hook, if there is one, and save what it changed on the job."""
        spec = registry.get(self.name)
        if spec.creation_hook is None:
            return
        before = self.editable_values()
        spec.function(spec.creation_hook)(self)
        self._check_workspace(spec)
        after = self.editable_values()
        if changed := [name for name in after if after[name] != before[name]]:
            self.save(using=using, update_fields=[*changed, "modified"])

    def _apply(self, spec: JobSpec) -> None:
        """Take the job's queue, priority and version, and bring the workspace in order."""
        if self.queue_name == DEFAULT_QUEUE and "queue_name" not in self._given:
            self.queue_name = spec.queue
        if self.priority == DEFAULT_PRIORITY and "priority" not in self._given:
            self.priority = spec.priority
        self.version = spec.version
        self._check_workspace(spec)

    def _check_workspace(self, spec: JobSpec) -> None:
        """Bring the workspace in the form in which it is stored, or raise."""
        if self.workspace is None:
            self.workspace = {}
        if spec.workspace is not None:
            self.workspace = spec.workspace.validate(self.workspace)
        encode_workspace(self.workspace)

    def editable_values(self) -> dict[str, Any]:
        """Return what users may change on a job, by column, to be compared later."""
        return {
            "workspace": encode_workspace(self.workspace),
            "state": self.state,
            "next_task": self.next_task,
            "priority": self.priority,
            "run_after": self.run_after,
            "queue_name": self.queue_name,
        }

    def _ours(self) -> JobQuerySet:
        """Return the job's row, as long as the claim under which this instance is held lasts."""
        assert self.held_claim is not None
        ours = type(self).objects.using(self._state.db).filter(pk=self.pk)
        return ours.filter(claim_token=self.held_claim.token, state__in=self.RUNNING)

    def _do_insert(self, manager: Any, *args: Any) -> Any:
        """Insert the row as all are inserted, of which Django's base manager knows nothing."""
        django: Any = super()  # whose stubs do not know it
        if manager.model is not Job:  # one that is derived, which has a table of its own
            return django._do_insert(manager, *args)
        returned = django._do_insert(JobQuerySet(Job), *args)
        return [row for row in returned if row]  # Django would unload what an empty one leaves out

    def _do_update(  # pyright: ignore[reportIncompatibleMethodOverride] # whose end varies
        self, base_qs: Any, using: str | None, pk_val: Any, values: Any, *args: Any
    ) -> Any:
        """Write neither what is the engine's nor, while a worker holds the job, its state.

        The state of a running job is written with its outcome, and only if it is still ours.
        """
        kept = {*self.ENGINE_COLUMNS, *(["state"] if self.held_claim else [])}
        values = [value for value in values if value[0].name not in kept]
        if self.held_claim is None:
            return super()._do_update(base_qs, using, pk_val, values, *args)
        base_qs = base_qs.filter(claim_token=self.held_claim.token, state__in=self.RUNNING)
        self.saved_while_held = True
        written = super()._do_update(base_qs, using, pk_val, values, *args)
        if not written:
            raise ClaimLost(
                f"The job {self.name!r} ({self.pk}) is no longer this worker's, so that its save()"
                " wrote nothing: it was set back or given to another worker meanwhile."
            )
        return written


_CONSTRUCTORS = (Job.__init__, getattr(models.Model.from_db, "__func__", None))
