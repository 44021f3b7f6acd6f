"""What grows with time: dead rows behind an old snapshot, memory, open files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connections
from django.db.models import Max, Min

from django_dbq.models import Job
from tests.faults.harness import Run, expect, scenario

#: The least part of the throughput that has to be left while an old snapshot is held.
LEAST_RATIO = 0.6
#: The same in the short form: so short a time, on a machine that is busy, says little.
LEAST_SHORT_RATIO = 0.3
#: How much a worker's memory may grow in the last four fifths of the soak, in MB.
MOST_GROWTH = 12


@scenario(13, "an old snapshot held open; a soak")
def endurance(run: Run) -> None:
    count = run.scaled(20_000, 3_000)
    run.start_many(2)
    before = _throughput(run, count)
    with _old_snapshot():
        during = max(_throughput(run, count) for _ in range(2))
    ratio = during / max(before, 1)
    least = LEAST_RATIO if run.long else LEAST_SHORT_RATIO
    expect(ratio >= least, f"{ratio:.2f} of the throughput was left")
    run.stop_all()
    run.figures |= {"of the throughput with an old snapshot": f"{ratio:.2f}"}
    _soak(run, run.scaled(100_000, 5_000))


def _throughput(run: Run, count: int) -> float:
    """Return how many jobs per second were done, by the database's clock."""
    run.create("quick", count)
    run.wait_until_done(seconds=600)
    times = Job.objects.order_by("-created")[:count].aggregate(a=Min("started"), z=Max("finished"))
    return float(count / (times["z"] - times["a"]).total_seconds())


@contextmanager
def _old_snapshot() -> Iterator[None]:
    """Keep a transaction open that still sees what there was: no dead row can be cleared away."""
    connection = connections.create_connection("default")
    begin = {
        "postgresql": ["BEGIN ISOLATION LEVEL REPEATABLE READ"],
        "mysql": [
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        ],
        "sqlite": ["BEGIN"],
    }
    try:
        with connection.cursor() as cursor:
            for statement in begin[connection.vendor]:
                cursor.execute(statement)
            cursor.execute("SELECT count(*) FROM django_dbq_job")
            yield
    finally:
        connection.close()


def _soak(run: Run, count: int) -> None:
    """Let one worker do very many jobs, and see that it takes no more and more for that."""
    [worker] = run.start_many(1)
    process = Path(f"/proc/{worker.pid}")
    sizes: list[tuple[float, int]] = []
    for _ in range(10):
        run.create("quick", count // 10)
        run.wait_until_done(seconds=600)
        sizes.append((_megabytes(process), len([*(process / "fd").iterdir()])))
    # The first chunks fill what is kept for good: caches, prepared statements, a large batch.
    (memory, files), (memory_then, files_then) = sizes[1], sizes[-1]
    growth = memory_then - memory
    expect(growth <= MOST_GROWTH, f"the worker grew by {growth:.1f} MB: {sizes}")
    expect(files_then <= files + 2, f"{files_then - files} more files are open: {sizes}")
    run.figures |= {"jobs in the soak": count, "MB grown": f"{growth:.1f}"}


def _megabytes(process: Path) -> float:
    """Return how much memory a process has resident."""
    [line] = [line for line in (process / "status").read_text().splitlines() if "VmRSS" in line]
    return int(line.split()[1]) / 1024
