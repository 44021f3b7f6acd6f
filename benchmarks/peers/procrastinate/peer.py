"""Procrastinate: an asynchronous worker, one statement to fetch a job and one to finish it."""

import logging
import sys
import time
from importlib.metadata import version

import psycopg
from tasks import CONNECTIONS, SCHEMA, URL, app, noop, record_file

BATCH = 1000
CONCURRENCY = 5


def create(count: int) -> None:
    """Make the tables anew, with that many jobs."""
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        connection.execute(f"CREATE SCHEMA {SCHEMA}")
        with app.open():
            app.schema_manager.apply_schema()
            for start in range(0, count, BATCH):
                noop.batch_defer(*[{}] * min(BATCH, count - start))
        connection.execute("ANALYZE procrastinate_jobs")


def enqueue(count: int) -> float:
    """Add that many jobs one by one; return the seconds taken."""
    with app.open():
        start = time.perf_counter()
        for _ in range(count):
            noop.defer()
        return time.perf_counter() - start


def work() -> None:
    """Run one worker, until SIGTERM."""
    logging.disable()
    record_file()
    app.run_worker(concurrency=CONCURRENCY)


def left() -> int:
    """Return how many jobs have not succeeded."""
    with psycopg.connect(URL) as connection:
        query = "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'"
        return connection.execute(query).fetchone()[0]


def describe() -> str:
    """Return the line of the report."""
    return (
        f"Procrastinate {version('procrastinate')}, Python {sys.version.split()[0]}: asynchronous"
        f" job, concurrency {CONCURRENCY}, {CONNECTIONS} pooled connections without the check of"
        " each, LISTEN/NOTIFY, logging off, finished jobs kept"
    )


def main() -> None:
    """Run the command that the arguments name."""
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
