"""``manage.py worker``: runs the jobs of one or more queues."""

import sys
import uuid
from argparse import ArgumentParser
from typing import Any

from django.core.checks import Tags
from django.core.management.base import CommandError
from django.db import connections, router

from django_dbq.deadlines import Deadlines
from django_dbq.limits import Limits
from django_dbq.management.options import JobsCommand, at_least_one, at_least_zero
from django_dbq.management.progress import Progress
from django_dbq.models import Job
from django_dbq.supervisor import Supervisor
from django_dbq.worker import Worker


class Command(JobsCommand):
    """Starts a worker."""

    help = "Runs the jobs of the given queues, until it gets SIGTERM, SIGINT or SIGQUIT."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "queue_name",
            nargs="*",
            default=["default"],
            help="The queues to serve, the first of them first (default: default).",
        )
        parser.add_argument(
            "--rate_limit",
            "--rate-limit",
            type=at_least_zero,
            default=1,
            metavar="SECONDS",
            help="The least number of seconds between the starts of two tasks; 0 for no limit"
            " (default: 1).",
        )
        parser.add_argument(
            "--burst", action="store_true", help="End as soon as no job is due any more."
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Say what would be done, and start nothing."
        )
        parser.add_argument(
            "--concurrency",
            type=at_least_one,
            default=1,
            metavar="N",
            help="How many tasks to run at once, in threads; for tasks that wait (default: 1).",
        )
        parser.add_argument(
            "--processes",
            type=at_least_one,
            default=1,
            metavar="N",
            help="How many worker processes to run, each with its own rate limit, concurrency and"
            " maxima; one that dies is replaced (default: 1).",
        )
        parser.add_argument(
            "--max-jobs",
            type=at_least_one,
            metavar="N",
            help="End after N jobs have been completed or have failed. With --processes the process"
            " is replaced.",
        )
        parser.add_argument(
            "--max-seconds",
            type=at_least_zero,
            metavar="N",
            help="End after N seconds, when the running tasks have ended. With --processes the"
            " process is replaced.",
        )
        parser.add_argument(
            "--grace",
            type=at_least_zero,
            metavar="SECONDS",
            help="How long the running tasks may go on when the worker is asked to stop, before"
            " their jobs are handed back (default: as long as they take).",
        )
        parser.add_argument("--database", help="The database, which the routers choose otherwise.")

    def handle(
        self,
        *,
        queue_name: list[str],
        rate_limit: float,
        burst: bool,
        dry_run: bool,
        concurrency: int,
        processes: int,
        max_jobs: int | None,
        max_seconds: float | None,
        grace: float | None,
        database: str | None,
        **options: Any,
    ) -> None:
        queues = list(dict.fromkeys(queue_name or ["default"]))
        limits = Limits(
            rate=at_least_zero(rate_limit),
            burst=burst,
            jobs=None if max_jobs is None else at_least_one(max_jobs),
            seconds=None if max_seconds is None else at_least_zero(max_seconds),
        )
        concurrency, processes = at_least_one(concurrency), at_least_one(processes)
        grace = None if grace is None else at_least_zero(grace)
        using = database or router.db_for_write(Job)
        self.stdout.write(_announcement(queues, limits.rate))
        if dry_run:
            return
        self._check_database(using)

        def make_worker(
            worker_id: uuid.UUID | None = None, deadlines: Deadlines | None = None
        ) -> Worker:
            return Worker(
                queues=queues,
                using=using,
                limits=limits,
                concurrency=concurrency,
                grace=grace,
                worker_id=worker_id,
                deadlines=deadlines,
            )

        def work(worker_id: uuid.UUID, deadlines: Deadlines) -> None:
            make_worker(worker_id, deadlines).run()

        if processes > 1:
            supervisor = Supervisor(
                processes=processes,
                work=work,
                using=using,
                replacing=not burst,
                grace=grace,
            )
            if status := supervisor.run():
                sys.exit(status)
            return
        worker = make_worker()
        if not burst:
            worker.run()
            return
        progress = Progress(self.stdout, queues=queues, using=using)
        worker.dispatcher.outcomes.on_progress = progress.show
        progress.end(worker.run())

    def _check_database(self, using: str) -> None:
        """Refuse to start on tables that the worker could not work with."""
        self.check(tags=[Tags.database], databases=[using])
        connection = connections[using]
        if not connection.settings_dict["AUTOCOMMIT"]:
            raise CommandError(
                f"The database {using!r} has AUTOCOMMIT off, so that nothing a worker writes would"
                " be kept: remove the setting, or give the jobs another database."
            )
        with connection.cursor() as cursor:
            table = Job._meta.db_table
            tables = connection.introspection.table_names(cursor)
            described = (
                connection.introspection.get_table_description(cursor, table)
                if table in tables
                else []
            )
        if "claim_token" not in {column.name for column in described}:
            raise CommandError(
                f"The database {using!r} does not have django-dbq's tables yet: run"
                f" `manage.py migrate --database {using}` first."
            )


def _announcement(queues: list[str], rate_limit: float) -> str:
    names = ", ".join(f'"{name}"' for name in queues)
    noun = "queue" if len(queues) == 1 else "queues"
    limit = f"rate limit of one job per {rate_limit:g} second(s)" if rate_limit else "no rate limit"
    return f"Starting job worker for {noun} {names} with {limit}"
