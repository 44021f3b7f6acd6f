"""django-tasks-db, the database backend of Django's tasks: claims and finishes one by one."""

import logging
import os
import sys
import time
from importlib.metadata import version

import django
from django.core.management import call_command
from django.db import connection, transaction
from settings import SCHEMA


def create(count: int) -> None:
    """Make the tables anew, with that many jobs."""
    from django_tasks_db.models import DBTaskResult
    from tasks import noop

    with connection.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        cursor.execute(f"CREATE SCHEMA {SCHEMA}")
    call_command("migrate", verbosity=0)
    # It has no call for many.
    with transaction.atomic():
        for _ in range(count):
            noop.enqueue()
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {DBTaskResult._meta.db_table}")


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
    call_command("db_worker", interval=0.05, startup_delay=False, reload=False, verbosity=0)


def left() -> int:
    """Return how many jobs have not succeeded."""
    from django.tasks import TaskResultStatus
    from django_tasks_db.models import DBTaskResult

    return DBTaskResult.objects.exclude(status=TaskResultStatus.SUCCESSFUL).count()


def describe() -> str:
    """Return the line of the report."""
    return (
        f"django-tasks-db {version('django-tasks-db')}, Django {django.__version__}, Python"
        f" {sys.version.split()[0]}: persistent connection, interval 0.05 s, logging off,"
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
