"""``manage.py retry_jobs``: lets jobs that have failed run again."""

import uuid
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError
from django.db import router
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from django_dbq.management.options import JobsCommand, at_least_zero
from django_dbq.models import Job, JobQuerySet, Worker
from django_dbq.notices import announce

#: Jobs per transaction.
BATCH_SIZE = 1000


class Command(JobsCommand):
    """Chooses jobs, and makes them READY."""

    help = (
        "Lets jobs run again, from the task that failed or from the first: those that fit all of"
        " the options given."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--id", nargs="+", type=_uuid, metavar="ID", help="These jobs.")
        parser.add_argument("--name", nargs="+", help="Jobs of these names.")
        parser.add_argument(
            "--state",
            default=Job.STATES.FAILED,
            choices=[*Job.FINISHED, *Job.RUNNING],
            help="Jobs in this state (default: FAILED). Running jobs are retried only if no worker"
            " has them: those that django-db-queue left behind, or whose worker has no row.",
        )
        parser.add_argument(
            "--younger-than",
            type=at_least_zero,
            metavar="HOURS",
            help="Jobs that changed last within so many hours.",
        )
        parser.add_argument(
            "--older-than",
            type=at_least_zero,
            metavar="HOURS",
            help="Jobs that changed last more than so many hours ago.",
        )
        parser.add_argument("--all", action="store_true", help="All jobs in that state.")
        parser.add_argument(
            "--from-first", action="store_true", help="Begin again with the first task."
        )
        parser.add_argument("--database", help="The database, which the routers choose otherwise.")

    def handle(self, *, from_first: bool, database: str | None, **options: Any) -> None:
        using = database or router.db_for_write(Job)
        chosen = Job.objects.using(using).filter(_condition(**options))
        count = 0
        # In batches, so that no transaction locks the table for long.
        while batch := _first(chosen):
            count += chosen.filter(pk__in=batch).retry(from_first=from_first)
            queues = Job.objects.using(using).filter(pk__in=batch).values_list("queue_name")
            announce({name for (name,) in queues.distinct()}, using)
        self.stdout.write(f"{count} job(s) will run again.")


def _first(jobs: JobQuerySet) -> list[uuid.UUID]:
    return list(jobs.order_by("created").values_list("pk", flat=True)[:BATCH_SIZE])


def _condition(
    *,
    id: list[uuid.UUID] | None,
    name: list[str] | None,
    state: str,
    younger_than: float | None,
    older_than: float | None,
    all: bool,
    **_: Any,
) -> Q:
    """Return the condition that the options stand for; it is an error to give none of them."""
    condition = Q(state=state)
    if state in Job.RUNNING:
        condition &= Q(claim_token=None) | Q(~Exists(Worker.objects.filter(pk=OuterRef("worker"))))
    if not (id or name or all) and younger_than is None and older_than is None:
        raise CommandError(
            "Say which jobs: --id, --name, --younger-than, --older-than, or --all of them."
        )
    if id:
        condition &= Q(pk__in=id)
    if name:
        condition &= Q(name__in=name)
    if younger_than is not None:
        condition &= Q(modified__gt=timezone.now() - timedelta(hours=younger_than))
    if older_than is not None:
        condition &= Q(modified__lt=timezone.now() - timedelta(hours=older_than))
    return condition


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not the id of a job") from None
