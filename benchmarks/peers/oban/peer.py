"""Oban for Python: claims in batches, and acknowledges what ended since the last batch."""

import asyncio
import logging
import os
import signal
import sys
import time
from functools import cache
from importlib.metadata import version

import uvloop
from oban import Oban, worker
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

SCHEMA = "oban"
BATCH = 1000
LIMIT = 500


@cache
def record_file() -> int:
    """Return the file where each job notes its start, opened once."""
    return os.open(os.environ["DBQ_BENCHMARK_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@worker()
class Noop:
    """The job."""

    async def process(self, job) -> None:
        """Note the start."""
        os.write(record_file(), b"%032x\n" % job.id)


def _pool() -> AsyncConnectionPool:
    return AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=4, max_size=10, open=False)


async def create(count: int) -> None:
    """Make the tables anew, with that many jobs."""
    async with _pool() as pool:
        async with pool.connection() as connection:
            await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
            await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        await install(pool, prefix=SCHEMA)
        oban = Oban(pool=pool, prefix=SCHEMA)
        for start in range(0, count, BATCH):
            await oban.enqueue_many(Noop.new({}) for _ in range(min(BATCH, count - start)))
        async with pool.connection() as connection:
            await connection.execute(f"ANALYZE {SCHEMA}.oban_jobs")


async def enqueue(count: int) -> float:
    """Add that many jobs one by one; return the seconds taken."""
    async with _pool() as pool:
        oban = Oban(pool=pool, prefix=SCHEMA)
        start = time.perf_counter()
        for _ in range(count):
            await oban.enqueue(Noop.new({}))
        return time.perf_counter() - start


async def work() -> None:
    """Run one worker, until SIGTERM."""
    logging.disable()
    record_file()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with _pool() as pool, Oban(pool=pool, prefix=SCHEMA, queues={"default": LIMIT}):
        await stop.wait()


async def left() -> int:
    """Return how many jobs have not succeeded."""
    async with _pool() as pool, pool.connection() as connection:
        query = f"SELECT count(*) FROM {SCHEMA}.oban_jobs WHERE state <> 'completed'"
        return (await (await connection.execute(query)).fetchone())[0]


def describe() -> str:
    """Return the line of the report."""
    return (
        f"Oban for Python {version('oban')}, Python {sys.version.split()[0]}: asynchronous job,"
        f" queue limit {LIMIT}, uvloop, logging off, finished jobs kept"
    )


def main() -> None:
    """Run the command that the arguments name."""
    match sys.argv[1:]:
        case ["create", count]:
            uvloop.run(create(int(count)))
        case ["enqueue", count]:
            print(uvloop.run(enqueue(int(count))))
        case ["work"]:
            uvloop.run(work())
        case ["left"]:
            print(uvloop.run(left()))
        case ["describe"]:
            print(describe())
        case _:
            sys.exit("peer.py create N | enqueue N | work | left | describe")


if __name__ == "__main__":
    main()
