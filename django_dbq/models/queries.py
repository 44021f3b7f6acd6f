"""Jobs, and the questions that are asked about them: ``Job.objects``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from types import NoneType
from typing import TYPE_CHECKING, Any, Self

from django.db import models, transaction
from django.db.models import Q

from django_dbq.clock import DatabaseNow
from django_dbq.notices import announce
from django_dbq.parking import is_claimable

if TYPE_CHECKING:
    from django_dbq.models.job import Job


_MISSING = object()
#: Columns of a new row that need not be asked for, unless a value is an expression.
_KNOWN = {"attempts", "losses", "version", "claimable"}
_TIME = (datetime, NoneType)


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs, and the questions that are asked about them."""

    def waiting(self) -> Self:
        """Return the jobs in state NEW or READY, whether due or scheduled for later."""
        # Said so that both indexes serve it: `state` is in neither.
        return self.filter(
            Q(claimable=True) | Q(parked__isnull=False, state__in=self.model.WAITING)
        )

    def claimable(self) -> Self:
        """Return those that wait and are not parked: some may still not be due."""
        return self.filter(claimable=True)

    def due(self) -> Self:
        """Return those whose ``run_after``, if they have one, has come by the database's clock."""
        return self.filter(Q(run_after=None) | Q(run_after__lte=DatabaseNow()))

    def retry(self, *, from_first: bool = False) -> int:
        """Let these jobs run again, as ``Job.retry`` does; return how many they are.

        The caller has chosen FAILED ones, or others that nobody runs.
        """
        values: dict[str, Any] = {"next_task": ""} if from_first else {}
        return self.update(
            state=self.model.STATES.READY,
            attempts=0,
            losses=0,
            run_after=None,
            parked=None,
            finished=None,
            cancel_requested=None,
            claim_token=None,
            modified=DatabaseNow(),
            **values,
        )

    def cancel_waiting(self, error: Exception) -> int:
        """Make these jobs FAILED, which the caller has chosen from those that wait."""
        now = DatabaseNow()
        return self.update(
            state=self.model.STATES.FAILED,
            error=f"{type(error).__module__}.{type(error).__qualname__}: {error}",
            finished=now,
            modified=now,
            parked=None,
        )

    def bulk_create(self, objs: Iterable[Job], *args: Any, **kwargs: Any) -> list[Job]:
        """Do what Django's does: no hooks, nor a first task; but typed jobs are valid here too.

        They get the queue and priority of their definition, unless given. Raises what ``create``
        does for a workspace that is not valid, before anything is written.
        """
        jobs = list(objs)
        for job in jobs:
            job.apply_rules()
        return super().bulk_create(jobs, *args, **kwargs)

    def bulk_enqueue(self, jobs: Iterable[Job], *, batch_size: int = 1000) -> list[Job]:
        """Create many jobs at once: all of them, or none.

        Unlike ``bulk_create`` it does what ``create`` does: names are checked, ``next_task`` is
        set, creation hooks run, and what they change on their job is saved.

        ``batch_size``: rows per INSERT. Returns the jobs. Raises ``UnknownJob``,
        ``WorkspaceError``, or whatever a creation hook raises; nothing is written then.
        """
        prepared = [job.prepare() for job in jobs]
        self._for_write = True  # so that the routers are asked where to write
        using = self.db
        with transaction.atomic(using=using):
            super(JobQuerySet, self.using(using)).bulk_create(prepared, batch_size=batch_size)
            for job in prepared:
                job.run_creation_hook(using)
            announce({job.queue_name for job in prepared}, using)
        return prepared

    def _insert(
        self,
        objs: Sequence[Job],
        fields: Iterable[Any],
        returning_fields: Iterable[Any] | None = None,
        *,
        on_conflict: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Leave out the engine's columns where they are as in all new jobs, and RETURNING.

        Most of what Django adds to an INSERT it adds for each of these.
        """
        left_out = self._as_in_new_jobs(objs)
        named = [field for field in fields if field.attname not in left_out]
        asked = {field.attname for field in returning_fields or ()}
        # A row that may have been there before is another one.
        is_known = not on_conflict and asked <= _KNOWN and all(map(_is_plain, objs))
        django: Any = super()  # whose stubs do not know it
        returned = django._insert(
            objs, named, None if is_known else returning_fields, on_conflict=on_conflict, **kwargs
        )
        if not is_known:
            for job in objs:
                vars(job).pop("claimable", None)  # of another row, if this is a copy
            return returned
        for job in objs:
            vars(job)["claimable"] = is_claimable(job.state, job.run_after, job.parked)
        # An empty row for each, since Django puts together those of several INSERTs.
        return [()] * len(objs)

    def _as_in_new_jobs(self, jobs: Sequence[Job]) -> set[str]:
        """Return which of the engine's columns are, in all of these, as in any new row."""
        new = self.model.ENGINE_COLUMNS
        return new.keys() - {
            name
            for row in map(vars, jobs)
            for name, value in new.items()
            # By identity: True is no 1, and an expression may say that it equals anything.
            if row.get(name, _MISSING) is not value
        }


def _is_plain(job: Any) -> bool:
    """Whether the database stores just what the job has in what tells of the ``_KNOWN``."""
    return (
        type(job.attempts) is type(job.losses) is type(job.version) is int
        and isinstance(job.state, str)
        and isinstance(job.run_after, _TIME)
        and isinstance(job.parked, _TIME)
    )


class JobManager(models.Manager["Job"]):
    """``Job.objects``, spelt out so that type checkers without a plugin know it."""

    def get_queryset(self) -> JobQuerySet:
        return JobQuerySet(self.model, using=self._db)

    def waiting(self) -> JobQuerySet:
        """See ``JobQuerySet.waiting``."""
        return self.get_queryset().waiting()

    def claimable(self) -> JobQuerySet:
        """See ``JobQuerySet.claimable``."""
        return self.get_queryset().claimable()

    def due(self) -> JobQuerySet:
        """See ``JobQuerySet.due``."""
        return self.get_queryset().due()

    def bulk_enqueue(self, jobs: Iterable[Job], *, batch_size: int = 1000) -> list[Job]:
        """See ``JobQuerySet.bulk_enqueue``."""
        return self.get_queryset().bulk_enqueue(jobs, batch_size=batch_size)

    # Django's stubs say QuerySet, which does not know the methods of ours.
    def using(self, alias: str | None) -> JobQuerySet:
        """See ``QuerySet.using``."""
        return self.get_queryset().using(alias)

    def all(self) -> JobQuerySet:
        """See ``QuerySet.all``."""
        return self.get_queryset()

    def filter(self, *conditions: Any, **fields: Any) -> JobQuerySet:
        """See ``QuerySet.filter``."""
        return self.get_queryset().filter(*conditions, **fields)

    def exclude(self, *conditions: Any, **fields: Any) -> JobQuerySet:
        """See ``QuerySet.exclude``."""
        return self.get_queryset().exclude(*conditions, **fields)

    def order_by(self, *names: Any) -> JobQuerySet:
        """See ``QuerySet.order_by``."""
        return self.get_queryset().order_by(*names)
