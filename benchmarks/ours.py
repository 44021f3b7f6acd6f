"""``python -m benchmarks.ours create|add|left|work|attend``: django-dbq itself, as a contender."""

import os
import sys
from io import StringIO

import django
from django.core.management import call_command
from django.db import connection, transaction

from benchmarks.attendant import attend
from benchmarks.gate import wait_for_gate

#: What the jobs of each kind have for a workspace.
WORKSPACES = {"typed": {"user_id": 1, "message": "Hello", "sent": False}}
WORKSPACES["like_typed"] = WORKSPACES["typed"]


def create(kind: str, count: int) -> None:
    """Make that many jobs of that kind, and no others.

    They are kept in a table of their own as well, to be copied the next time, which is quicker.
    """
    call_command("migrate", verbosity=0)
    empty()
    kept = f"benchmark_{kind}_{count}"
    if kept in connection.introspection.table_names():
        columns = _columns()
        _execute(f"INSERT INTO django_dbq_job ({columns}) SELECT {columns} FROM {kept}")
    else:
        add(kind, count)
        _execute(f"CREATE TABLE {kept} AS SELECT {_columns()} FROM django_dbq_job ORDER BY id")
    if connection.vendor == "postgresql":
        _execute("ANALYZE django_dbq_job")


def empty() -> None:
    """Leave no job, and nothing of those that there were: each drain begins with a new table."""
    _execute(f"{'DELETE FROM' if connection.vendor == 'sqlite' else 'TRUNCATE'} django_dbq_job")


def add(kind: str, count: int) -> None:
    """Add that many jobs of that kind."""
    from django_dbq.models import Job

    workspace = WORKSPACES.get(kind, {})
    with transaction.atomic():
        for begin in range(0, count, 5000):
            Job.objects.bulk_enqueue(
                Job(name=kind, workspace=dict(workspace)) for _ in range(min(5000, count - begin))
            )


def work() -> None:
    """Run a worker, as ``manage.py worker`` does."""
    from django_dbq.models import Job

    Job.objects.first()
    wait_for_gate()
    concurrency = int(os.environ.get("DBQ_BENCHMARK_CONCURRENCY", "1"))
    call_command("worker", rate_limit=0, concurrency=concurrency, stdout=StringIO())


def left() -> int:
    """Return how many jobs are not COMPLETE."""
    from django_dbq.models import Job

    return Job.objects.exclude(state="COMPLETE").count()


def run(words: list[str]) -> int | None:
    """Run the command of these words, and return what it gave."""
    try:
        match words:
            case ["create", kind, count]:
                create(kind, int(count))
            case ["add", kind, count]:
                add(kind, int(count))
            case ["left", _]:
                return left()
            case ["work", _]:
                work()
            case ["attend"]:
                attend(run)
            case _:
                raise SystemExit(__doc__)
        return None
    finally:
        connection.close()


def _columns() -> str:
    """Return the columns that an INSERT can name."""
    from django_dbq.models import Job

    return ", ".join(field.attname for field in Job._meta.concrete_fields if not field.generated)


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    if (answer := run(sys.argv[1:])) is not None:
        print(answer)
