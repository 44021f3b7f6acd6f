"""``python -m benchmarks.latency``: how long a new job waits for an idle worker.

From the commit of the new row, as its creator hears of it, to the first line of the task, by one
clock; and from just before ``Job.objects.create``, so that the INSERT and its commit are in it. Of
jobs for later, from the time for which they are.
"""

import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import django
from django.core.management import call_command
from django.db.models.signals import post_save

#: The times of jobs for later, which have a limit of their own.
LATER = "p99, of a job for later, from its time"
#: Seconds between two jobs, at random: some come while the worker still looks often, others not.
PAUSES = (0.05, 0.6)
#: Seconds between the times of two jobs for later, at random too.
DISTANCES = (0.05, 0.35)


def main(count: int) -> None:
    """Create that many jobs, one now and then, and print the waiting in milliseconds as JSON."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    with tempfile.TemporaryDirectory() as directory:
        record, gate = Path(directory, "record"), Path(directory, "gate")
        record.touch()
        gate.touch()
        os.environ |= {"DBQ_BENCHMARK_RECORD": str(record), "DBQ_BENCHMARK_GATE": str(gate)}
        django.setup()
        call_command("migrate", verbosity=0)
        from django_dbq.models import Job

        Job.objects.all().delete()
        _settle()
        worker = subprocess.Popen([sys.executable, "-m", "benchmarks.ours", "work", "stamp"])
        try:
            Job.objects.create(name="stamp")
            while not record.stat().st_size:
                time.sleep(0.1)
            asked: dict[str, int] = {}
            committed: dict[str, int] = {}

            def note_commit(instance: Job, **_: object) -> None:
                committed[instance.id.hex] = time.time_ns()

            # Behind the INSERT, which is a transaction of its own, and before workers are told.
            post_save.connect(note_commit, sender=Job)
            chance = random.Random(7)
            for _ in range(count):
                time.sleep(chance.uniform(*PAUSES))
                now = time.time_ns()
                asked[Job.objects.create(name="stamp").id.hex] = now
            due = _create_for_later(count, chance)
            time.sleep(max(0, max(due.values()) - time.time_ns()) / 1e9 + 1)
        finally:
            worker.terminate()
            worker.wait()
        started = {line.split()[0]: int(line.split()[1]) for line in record.open()}
        waits = _waits({job: committed[job] for job in asked}, started)
        late = _waits(due, started)
        answer = {
            "p50": statistics.median(waits),
            "p99": _p99(waits),
            "max": waits[-1],
            "p50, with create itself": statistics.median(_waits(asked, started)),
            "p50, of a job for later, from its time": statistics.median(late),
            LATER: _p99(late),
        }
        print(json.dumps({name: round(value, 2) for name, value in answer.items()}))


def _settle() -> None:
    """Have written what earlier measurements left to be, for which commits would wait."""
    from django.db import connection

    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("CHECKPOINT")
    os.sync()


def _create_for_later(count: int, chance: random.Random) -> dict[str, int]:
    """Create that many jobs for times from a second on; return those in nanoseconds, by job."""
    from django_dbq.models import Job

    due: dict[str, int] = {}
    later = datetime.now(UTC) + timedelta(seconds=1)
    for _ in range(count):
        later += timedelta(seconds=chance.uniform(*DISTANCES))
        job = Job.objects.create(name="stamp", run_after=later)
        due[job.id.hex] = round(later.timestamp() * 1e9)
    return due


def _waits(since: dict[str, int], started: dict[str, int]) -> list[float]:
    """Return how many milliseconds passed until each job started, sorted."""
    return sorted((started[job] - begin) / 1e6 for job, begin in since.items())


def _p99(waits: list[float]) -> float:
    """Return the least of them that 99% do not exceed."""
    return waits[math.ceil(0.99 * len(waits)) - 1]


if __name__ == "__main__":
    main(int(sys.argv[1]))
