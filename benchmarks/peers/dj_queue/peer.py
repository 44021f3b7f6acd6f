"""dj-queue, a backend of Django's tasks: a worker of threads, claiming as many as it prefetches."""

import logging
import os
import sys
import time
from importlib.metadata import version

import django
from django.core.management import call_command
from django.db import connection
from settings import PREFETCH, SCHEMA, THREADS

BATCH = 1000


def create(count: int) -> None:
    """Make the tables anew, with that many jobs."""
    from tasks import noop

    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        cursor.execute(f"CREATE SCHEMA {SCHEMA}")
    call_command("migrate", verbosity=0)
    for start in range(0, count, BATCH):
        noop.get_backend().enqueue_all([(noop, [], {})] * min(BATCH, count - start))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE dj_queue_jobs, dj_queue_ready_executions")


def enqueue(count: int) -> float:
    """Add that many jobs one by one; return the seconds taken."""
    from tasks import noop

    connection.ensure_connection()
    start = time.perf_counter()
    for _ in range(count):
        noop.enqueue()
    return time.perf_counter() - start


def work() -> None:
    """Run one worker, until SIGTERM."""
    import tasks  # noqa: F401  # opens the record

    logging.disable()
    call_command("dj_queue", mode="async", only_work=True, verbosity=0)


def left() -> int:
    """Return how many jobs have not succeeded."""
    from dj_queue.models import Job

    return Job.objects.filter(finished_at=None).count()


def describe() -> str:
    """Return the line of the report."""
    return (
        f"dj-queue {version('dj-queue')}, Django {django.__version__}, Python"
        f" {sys.version.split()[0]}: mode async (one process), --only-work, {THREADS} threads,"
        f" prefetch_multiplier {PREFETCH}, persistent connections, LISTEN/NOTIFY, logging off,"
        " finished jobs kept"
    )


def main() -> None:
    """Run the command that the arguments name."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    django.setup()
    match sys.argv[1:]:
        case ["create", count]:
            create(int(count))
        case ["enqueue", count]:
            print(enqueue(int(count)))
        case ["work"]:
            work()
        case ["left"]:
            print(left())
        case ["describe"]:
            print(describe())
        case _:
            sys.exit("peer.py create N | enqueue N | work | left | describe")


if __name__ == "__main__":
    main()
