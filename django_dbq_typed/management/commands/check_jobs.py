"""``manage.py check_jobs``: whether the jobs in the database would run with this code."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import router
from pydantic import ValidationError

from django_dbq import registry
from django_dbq.errors import DBQError
from django_dbq.models import Job

CHUNK_SIZE = 1000


class Command(BaseCommand):
    """Validates every unfinished job against the code that it is run with."""

    help = (
        "Checks each unfinished job: its name is known, its next step is listed, its workspace is"
        " valid. Says which would fail and why, and then exits with status 1: a gate for a deploy."
    )

    def get_check_kwargs(self, options: Any) -> Any:
        # From Django 6.1 on, checks would connect to all databases.
        database = options["database"] or router.db_for_read(Job)
        return {**super().get_check_kwargs(options), "databases": [database]}

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--database", help="The database, which the routers choose otherwise.")

    def handle(self, *, database: str | None, **options: Any) -> None:
        jobs = Job.objects.using(database or router.db_for_read(Job))
        unfinished = jobs.exclude(state__in=Job.FINISHED).order_by("created")
        checked = failing = 0
        for job in unfinished.iterator(chunk_size=CHUNK_SIZE):
            checked += 1
            if problem := _problem(job):
                failing += 1
                self.stdout.write(f"{job.name} {job.pk} ({job.state}): {problem}")
        if failing:
            raise CommandError(f"{failing} of {checked} unfinished job(s) would fail.")
        self.stdout.write(f"All {checked} unfinished job(s) would run.")


def _problem(job: Job) -> str | None:
    """Return why the job would fail, or None."""
    try:
        spec = registry.get(job.name)
        spec.listed(job.next_task)
        if spec.workspace is not None:
            spec.workspace.read(job.workspace, job.version)
    except (DBQError, ValidationError) as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - an upgrade or a validator may raise anything
        return f"{type(error).__name__}: {error}"
    return None
