"""huey, with Redis: a consumer of threads that pop one job at a time."""

import logging
import os
import sys
import time
from functools import cache
from importlib.metadata import version

from huey import RedisHuey
from redis import Redis

WORKERS = 4

huey = RedisHuey("peer_huey", url=os.environ["REDIS_URL"], results=False)


@cache
def record_file() -> int:
    """Return the file where each job notes its start, opened once."""
    return os.open(os.environ["DBQ_BENCHMARK_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@huey.task(name="noop", context=True)
def noop(task) -> None:
    """Note the start."""
    os.write(record_file(), b"%s\n" % task.id.replace("-", "").encode())


def create(count: int) -> None:
    """Empty the queue, and fill it with that many jobs: there is no call for many."""
    huey.flush()
    enqueue(count)


def enqueue(count: int) -> float:
    """Add that many jobs one by one; return the seconds taken."""
    huey.storage.conn.ping()
    start = time.perf_counter()
    for _ in range(count):
        noop()
    return time.perf_counter() - start


def work() -> None:
    """Run one consumer, until SIGTERM."""
    logging.disable()
    record_file()
    huey.create_consumer(
        workers=WORKERS,
        worker_type="thread",
        periodic=False,
        check_worker_health=False,
        graceful_signal="TERM",
    ).run()


def left() -> int:
    """Return how many jobs wait: huey does not keep those that a worker has taken."""
    return huey.pending_count()


def _redis() -> str:
    client = Redis.from_url(os.environ["REDIS_URL"])
    settings = client.config_get("save", "appendonly")
    writes = settings["save"] or settings["appendonly"] == "yes"
    disk = "writing to disk" if writes else "writing nothing to disk"
    return f"Redis {client.info('server')['redis_version']} {disk}"


def describe() -> str:
    """Return the line of the report."""
    return (
        f"huey {version('huey')}, redis-py {version('redis')} with hiredis, Python"
        f" {sys.version.split()[0]}: {_redis()}, {WORKERS} worker threads, blocking pop, removed"
        " from the queue before the job runs (the only way), no results, logging off"
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
