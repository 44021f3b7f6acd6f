"""``manage.py delete_old_jobs``: keeps the table small."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError
from django.db import router
from django.db.models import Exists, OuterRef
from django.utils import timezone

from django_dbq.management.options import JobsCommand, at_least_zero
from django_dbq.models import Failure, Job

BATCH_SIZE = 1000


class Command(JobsCommand):
    """Deletes finished jobs that are old enough."""

    help = "Deletes jobs that are COMPLETE or FAILED and were created more than 24 hours ago."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--hours",
            type=at_least_zero,
            default=24,
            help="Delete what was created more than this many hours ago (default: 24).",
        )
        parser.add_argument("--database", help="The database, which the routers choose otherwise.")

    def handle(self, *, hours: float, database: str | None, **options: Any) -> None:
        hours = at_least_zero(hours)  # call_command() hands over what it is given
        try:
            before = timezone.now() - timedelta(hours=hours)
        except OverflowError:
            raise CommandError(
                f"--hours {hours:g} reaches back before the calendar begins."
            ) from None
        old = Job.objects.using(database or router.db_for_write(Job)).filter(
            state__in=Job.FINISHED, created__lt=before
        )
        deleted = 0
        # In batches, so that no transaction locks the table, or its replicas, for long.
        while chosen := list(old.order_by("created").values_list("pk", flat=True)[:BATCH_SIZE]):
            old.filter(pk__in=chosen).delete()
            deleted += len(chosen)
        # Those of jobs that somebody deleted past the ORM.
        orphans = Failure.objects.using(old.db).filter(failed__lt=before)
        orphans.filter(~Exists(Job.objects.filter(pk=OuterRef("job_id")))).delete()
        self.stdout.write(f"Deleted {deleted} job(s) created more than {hours:g} hour(s) ago.")
