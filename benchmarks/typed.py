"""``python -m benchmarks.typed``: what a typed no-op step costs over a plain one.

Both drain the same number of jobs in one worker, alternating, on an embedded PostgreSQL; printed is
the ratio of their throughputs, round by round.
"""

import os
import statistics
import time
from io import StringIO

import django
from django.core.management import call_command

from tests.databases import postgresql

JOBS = 5000
ROUNDS = 7


def drain(name: str) -> float:
    """Return how many jobs of that name one worker drains in a second."""
    from benchmarks.jobs import Nothing
    from django_dbq.models import Job

    Job.objects.all().delete()
    Job.objects.bulk_enqueue(
        Job(name=name, workspace=Nothing().model_dump(mode="json")) for _ in range(JOBS)
    )
    begin = time.perf_counter()
    call_command("worker", burst=True, rate_limit=0, stdout=StringIO())
    seconds = time.perf_counter() - begin
    assert Job.objects.filter(state="COMPLETE").count() == JOBS
    return JOBS / seconds


def main() -> None:
    """Run the rounds, and print their figures."""
    with postgresql() as url:
        os.environ.update(DATABASE_URL=url, DJANGO_SETTINGS_MODULE="benchmarks.settings")
        django.setup()
        call_command("migrate", verbosity=0)
        drain("plain"), drain("typed")
        ratios = []
        for number in range(ROUNDS):
            plain, typed = drain("plain"), drain("typed")
            ratios.append(typed / plain)
            print(f"{number + 1}: plain {plain:,.0f}/s, typed {typed:,.0f}/s, {ratios[-1]:.2f}")
        print(f"typed / plain: median {statistics.median(ratios):.2f}, lowest {min(ratios):.2f}")


if __name__ == "__main__":
    main()
