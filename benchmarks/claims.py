"""``python -m benchmarks.claims``: what a claim of 100 takes, by what else is in the table.

And ``queue_depth``, ``delete_old_jobs`` and the rescue, where a million finished jobs are in it. On
PostgreSQL.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import StringIO
from typing import Any

import django
from django.core.management import call_command
from django.db import connections

SMALL, LARGE, DUE, RUN = 10_000, 1_000_000, 300_000, 500_000
ROUNDS, CLAIMS = 5, 18
#: The table that the others are compared to.
BASELINE = "10,000 waiting"
FINISHED = "and 1,000,000 finished"
AFTER_VACUUM = "after 500,000 jobs were run, and autovacuum"
#: Seconds that autovacuum gets to come by.
PATIENCE = 200

# With ids as new jobs have them; those that PostgreSQL makes are of its version 18.
_INSERT = """
INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, workspace, queue_name,
                            priority, run_after, parked)
SELECT uuidv7(), now() - %s::interval + n * interval '1 microsecond', now(), 'plain',
       %s, 'benchmarks.plain.noop', '{}', 'default', %s, now() + %s, now() + %s
  FROM generate_series(1, %s) AS n
"""
_VACUUMED = """
SELECT last_autovacuum > now() - %s * interval '1 second'
  FROM pg_stat_user_tables WHERE relname = 'django_dbq_job'
"""

#: With what the tables are filled, besides 10,000 waiting jobs.
TABLES: dict[str, dict[str, Any]] = {
    "100,000 waiting": {"count": 90_000},
    "1,000,000 waiting": {"count": LARGE - SMALL},
    FINISHED: {"count": LARGE, "state": "COMPLETE"},
    "and 1,000,000 of higher priority for later": {"count": LARGE, "priority": 5, "later": "1 day"},
    "and 300,000 of those due at once": {"count": DUE, "priority": 5, "later": "-1 second"},
}


def fill(
    count: int,
    *,
    state: str = "NEW",
    priority: int = 0,
    later: str | None = None,
    age: str = "1 day",
    using: str = "default",
) -> None:
    """Insert that many rows."""
    _execute(_INSERT, [age, state, priority, later, later, count], using=using)


def claim_time(using: str) -> float:
    """Return the median milliseconds of some claims of 100; the jobs stay claimed."""
    from django_dbq.backends import Wanted, backend_for

    backend = backend_for(using)
    times: list[float] = []
    for _ in range(CLAIMS):
        # What a worker does between two claims: those that are due are promoted in batches.
        backend.promote()
        begin = time.perf_counter()
        claims = backend.claim(Wanted(["default"], ["plain"], 100, uuid.uuid4()))
        times.append((time.perf_counter() - begin) * 1000)
        assert len(claims) == 100
    return round(statistics.median(times), 2)


def claims() -> dict[str, list[float]]:
    """Return the milliseconds by table.

    The tables are in databases of their own and take turns, since the speed of a machine may change
    by half while one of them is filled.
    """
    with ExitStack() as stack:
        tables = {BASELINE: stack.enter_context(filled("claims_0"))}
        for number, (name, filling) in enumerate(TABLES.items()):
            tables[name] = stack.enter_context(filled(f"claims_{number + 1}", **filling))
        _execute("TRUNCATE django_dbq_job")
        fill(RUN)
        begin = time.monotonic()
        worker = ["-m", "django", "worker", "--burst", "--rate_limit", "0"]
        subprocess.run([sys.executable, *worker], check=True, stdout=subprocess.DEVNULL)
        fill(SMALL)
        after_run = take_turns({"after 500,000 jobs were run, at once": "default"}, claim_time)
        wait_for_autovacuum(begin)
        fill(SMALL)
        tables[AFTER_VACUUM] = "default"
        return take_turns(tables, claim_time) | after_run


def wait_for_autovacuum(since: float) -> None:
    """Return when autovacuum has been there, since ``time.monotonic()`` gave that."""
    # It comes round once a minute, unless it is told to come more often; it does the same then.
    _set_server("autovacuum_naptime = '1s'")
    try:
        while not _execute(_VACUUMED, [time.monotonic() - since])[0][0]:
            if time.monotonic() - since > PATIENCE:
                raise TimeoutError("autovacuum does not come")
            time.sleep(0.2)
    finally:
        _set_server("autovacuum_naptime = DEFAULT")


def _set_server(setting: str) -> None:
    _execute(f"ALTER SYSTEM SET {setting}")
    _execute("SELECT pg_reload_conf()")


def take_turns(
    tables: Mapping[str, str], measure: Callable[[str], float]
) -> dict[str, list[float]]:
    """Return the milliseconds of each round, by table; ``tables`` has their databases."""
    from django_dbq.backends import backend_for

    for using in tables.values():
        connections[using].close()
        backend_for(using).open()
    times: dict[str, list[float]] = {name: [] for name in tables}
    for number in range(ROUNDS):
        names = deque(tables)
        names.rotate(-number)
        for name in names:
            times[name].append(measure(tables[name]))
    for using in tables.values():
        connections[using].close()  # whose plans the claims alone are to have
    return times


@contextmanager
def filled(name: str, **filling: Any) -> Iterator[str]:
    """Make a database of that name, with 10,000 waiting jobs and that; its alias is the name."""
    _execute(f"CREATE DATABASE {name}")
    connections.databases[name] = {**connections.databases["default"], "NAME": name}
    try:
        call_command("migrate", verbosity=0, database=name)
        fill(SMALL, using=name)
        if filling:
            fill(**filling, using=name)
        _execute("VACUUM ANALYZE django_dbq_job", using=name)
        yield name
    finally:
        connections[name].close()
        _execute(f"DROP DATABASE {name}")


def upkeep() -> dict[str, dict[str, list[float]]]:
    """Return the milliseconds of what else a table is looked after with, by table, in turns too."""
    with ExitStack() as stack:
        tables = {
            BASELINE: stack.enter_context(filled("upkeep_0")),
            FINISHED: stack.enter_context(filled("upkeep_1", **TABLES[FINISHED])),
        }
        return {name: take_turns(tables, measure) for name, measure in UPKEEP.items()}


def depth_time(using: str) -> float:
    """Return the milliseconds of a ``queue_depth``."""
    return _command_time("queue_depth", using)


def deletion_time(using: str) -> float:
    """Return the milliseconds of a ``delete_old_jobs`` that finds 10,000."""
    fill(SMALL, state="COMPLETE", age="9 days", using=using)
    return _command_time("delete_old_jobs", using, "--hours", "100")


def rescue_time(using: str) -> float:
    """Return the milliseconds of the rescue of 100 jobs, all that a lost worker has."""
    from django_dbq.backends import LostJobs, Wanted, backend_for
    from django_dbq.models import Worker

    backend = backend_for(using)
    worker = uuid.uuid4()
    claims = list(backend.claim(Wanted(["default"], ["plain"], 100, worker)))
    since = claims[0].started
    lost = Worker.objects.using(using).create(
        id=worker, host="lost", pid=1, queues=["default"], version="",
        started=since, last_seen=since, held_since=since, lease=1,
    )  # fmt: skip
    begin = time.perf_counter()
    rescued = LostJobs(backend).rescue(lost)
    milliseconds = _since(begin)
    assert rescued == 100
    lost.delete()
    return milliseconds


#: What is measured among finished jobs, besides claims.
UPKEEP: dict[str, Callable[[str], float]] = {
    "queue_depth, 10,000 waiting": depth_time,
    "delete_old_jobs, 10,000 old": deletion_time,
    "rescue of 100 jobs": rescue_time,
}


def _command_time(name: str, using: str, *words: str) -> float:
    begin = time.perf_counter()
    call_command(name, *words, "--database", using, stdout=StringIO())
    return _since(begin)


def _since(begin: float) -> float:
    return round((time.perf_counter() - begin) * 1000, 2)


def _execute(
    statement: str, parameters: list[Any] | None = None, *, using: str = "default"
) -> list[tuple[Any, ...]]:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    os.environ["DBQ_BENCHMARK_RECORD"] = os.devnull
    django.setup()
    call_command("migrate", verbosity=0)
    print(json.dumps({"claim of 100": claims(), **upkeep()}))
