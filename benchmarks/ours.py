"""``python -m benchmarks.ours create|enqueue|work|left``: django-dbq itself, as a contender."""

import os
import sys
import time
from io import StringIO

import django
from django.core.management import call_command
from django.db import transaction

from benchmarks.gate import wait_for_gate

#: What the jobs of each kind have for a workspace.
WORKSPACES = {"typed": {"user_id": 1, "message": "Hello", "sent": False}}
WORKSPACES["like_typed"] = WORKSPACES["typed"]


def create(kind: str, count: int) -> None:
    """Make that many jobs of that kind, and no others."""
    from django_dbq.models import Job

    call_command("migrate", verbosity=0)
    Job.objects.all()._raw_delete(Job.objects.db)
    workspace = WORKSPACES.get(kind, {})
    with transaction.atomic():
        for begin in range(0, count, 5000):
            Job.objects.bulk_enqueue(
                Job(name=kind, workspace=dict(workspace)) for _ in range(min(5000, count - begin))
            )


def enqueue(kind: str, count: int) -> None:
    """Create jobs one by one, and print the seconds that it took."""
    from django_dbq.models import Job

    call_command("migrate", verbosity=0)
    Job.objects.create(name=kind)
    begin = time.perf_counter()
    for _ in range(count):
        Job.objects.create(name=kind)
    print(time.perf_counter() - begin)


def work() -> None:
    """Run a worker, as ``manage.py worker`` does."""
    from django_dbq.models import Job

    Job.objects.first()
    wait_for_gate()
    concurrency = int(os.environ.get("DBQ_BENCHMARK_CONCURRENCY", "1"))
    call_command("worker", rate_limit=0, concurrency=concurrency, stdout=StringIO())


def left(kind: str) -> None:
    """Print how many jobs are not COMPLETE."""
    from django_dbq.models import Job

    print(Job.objects.exclude(state="COMPLETE").count())


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    command, kind, *count = sys.argv[1:]
    match command:
        case "create":
            create(kind, int(count[0]))
        case "enqueue":
            enqueue(kind, int(count[0]))
        case "work":
            work()
        case "left":
            left(kind)
        case _:
            raise SystemExit(__doc__)
