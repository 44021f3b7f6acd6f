"""``manage.py queue_depth``: one line for log scrapers."""

from argparse import ArgumentParser
from typing import Any

from django_dbq.logs import logfmt
from django_dbq.management.options import JobsCommand
from django_dbq.models import Job


class Command(JobsCommand):
    """Prints how many jobs wait in each queue."""

    help = "Prints how many jobs are NEW or READY: event=queue_depths default=2 other=0"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "queue_name",
            nargs="*",
            default=["default"],
            help="The queues to print, a depth of 0 included (default: default).",
        )
        parser.add_argument(
            "--exclude_future_jobs",
            "--exclude-future-jobs",
            action="store_true",
            help="Leave out jobs whose run_after is still to come.",
        )
        parser.add_argument("--database", help="The database, which the routers choose otherwise.")

    def handle(
        self, *, queue_name: list[str], exclude_future_jobs: bool, database: str | None, **_: Any
    ) -> None:
        depths = Job.get_queue_depths(exclude_future_jobs, using=database)
        # An empty list comes from call_command() alone.
        chosen = {name: depths.get(name, 0) for name in queue_name or ["default"]}
        self.stdout.write(logfmt(event="queue_depths", **chosen))
