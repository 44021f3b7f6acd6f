"""``python -m benchmarks.claims``: the time of a claim of 100, by what else is in the table."""

import json
import os
import statistics
import sys
import time
import uuid
from typing import Any

import django
from django.core.management import call_command
from django.db import connection

SMALL, LARGE, DUE = 10_000, 1_000_000, 300_000
CLAIMS = 30

_INSERT = """
INSERT INTO django_dbq_job (id, created, modified, name, state, next_task, workspace, queue_name,
                            priority, run_after, parked)
SELECT gen_random_uuid(), now() - interval '1 day' + n * interval '1 microsecond', now(), 'plain',
       %s, 'benchmarks.plain.noop', '{}', 'default', %s, now() + %s, now() + %s
  FROM generate_series(1, %s) AS n
"""


def fill(count: int, *, state: str = "NEW", priority: int = 0, later: str | None = None) -> None:
    """Insert that many rows."""
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [state, priority, later, later, count])


def claim_time() -> float:
    """Return the median milliseconds of a claim of 100, and put the jobs back."""
    from django_dbq.backends import Wanted, backend_for

    backend = backend_for("default")
    backend.open()
    times: list[float] = []
    for _ in range(CLAIMS):
        # What a worker does between two claims: those that are due are promoted in batches.
        backend.promote()
        begin = time.perf_counter()
        claims = backend.claim(Wanted(["default"], ["plain"], 100, uuid.uuid4()))
        times.append((time.perf_counter() - begin) * 1000)
        assert len(claims) == 100
    return statistics.median(times)


def main() -> None:
    """Print the milliseconds by table, as JSON."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    os.environ["DBQ_BENCHMARK_RECORD"] = os.devnull
    django.setup()
    call_command("migrate", verbosity=0)
    tables: dict[str, list[dict[str, Any]]] = {
        "10,000 waiting": [{}],
        "100,000 waiting": [{"count": 100_000}],
        "1,000,000 waiting": [{"count": LARGE}],
        "and 1,000,000 finished": [{}, {"count": LARGE, "state": "COMPLETE"}],
        "and 1,000,000 of higher priority for later": [
            {},
            {"count": LARGE, "priority": 5, "later": "1 day"},
        ],
        "and 300,000 of those due at once": [
            {},
            {"count": DUE, "priority": 5, "later": "-1 second"},
        ],
    }
    results: dict[str, float] = {}
    for name, fillings in tables.items():
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE django_dbq_job")
        for filling in fillings:
            fill(**{"count": SMALL, **filling})
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE django_dbq_job")
        results[name] = claim_time()
        connection.close()
        print(f"{name}: {results[name]:.2f} ms", file=sys.stderr)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
