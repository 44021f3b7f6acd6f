"""``python -m benchmarks.latency``: how long a new job waits for an idle worker.

From the commit of the new row, as its creator hears of it, to the first line of the task, by one
clock; and from just before ``Job.objects.create``, so that the INSERT and its commit are in it.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import django
from django.core.management import call_command
from django.db.models.signals import post_save

#: Seconds between two jobs, at random: some come while the worker still looks often, others not.
PAUSES = (0.05, 0.6)


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
            time.sleep(1)
        finally:
            worker.terminate()
            worker.wait()
        started = {line.split()[0]: int(line.split()[1]) for line in record.open()}
        waits = _waits(committed, started)
        answer = {
            "p50": statistics.median(waits),
            "p99": waits[min(len(waits) - 1, round(0.99 * len(waits)))],
            "max": waits[-1],
            "p50, with create itself": statistics.median(_waits(asked, started)),
        }
        print(json.dumps({name: round(value, 2) for name, value in answer.items()}))


def _waits(since: dict[str, int], started: dict[str, int]) -> list[float]:
    """Return how many milliseconds passed until each job started, sorted."""
    return sorted((started[job] - begin) / 1e6 for job, begin in since.items())


if __name__ == "__main__":
    main(int(sys.argv[1]))
