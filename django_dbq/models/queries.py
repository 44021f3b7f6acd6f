"""Jobs, and the questions that are asked about them: ``Job.objects``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from operator import attrgetter
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
#: What tells whether a new job is claimable, and the types of values that are no expressions.
_TELL_CLAIMABLE = ("state", "run_after", "parked")
_PLAIN = (str, int, datetime, NoneType)


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
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Leave out the engine's columns where they are as in all new jobs, and RETURNING.

        Most of what Django adds to an INSERT it adds for each of these. What would be returned is
        known, unless a value is an expression or the row may have been there before.
        """
        new, rows = self.model.ENGINE_COLUMNS, [vars(job) for job in objs]
        left_out = new.keys() - {
            name
            for row in rows
            for name, value in new.items()
            # By identity: True is no 1, and an expression may say that it equals anything.
            if row.get(name, _MISSING) is not value
        }
        named = [field for field in fields if field.attname not in left_out]
        asked = {field.attname for field in returning_fields or ()} - {"claimable"}
        telling = attrgetter(*_TELL_CLAIMABLE, *asked)
        types = set(map(type, chain.from_iterable(map(telling, objs))))
        django: Any = super()  # whose stubs do not know it
        if kwargs.get("on_conflict") or not all(issubclass(each, _PLAIN) for each in types):
            for row in rows:
                row.pop("claimable", None)  # of another row, if this is a copy
            return django._insert(objs, named, returning_fields, *args, **kwargs)
        django._insert(objs, named, None, *args, **kwargs)
        for row in rows:
            row["claimable"] = is_claimable(row["state"], row["run_after"], row["parked"])
        # An empty row for each, since Django puts together those of several INSERTs.
        return [()] * len(rows)


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
