"""Celery, with Redis as its broker: a worker of one process that prefetches."""

import logging
import os
import sys
import time
import warnings
from functools import cache
from importlib.metadata import version

from celery import Celery
from redis import Redis

PREFETCH = 1000
QUEUE = "peer_celery"

app = Celery("peer", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=PREFETCH,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)


@cache
def record_file() -> int:
    """Return the file where each job notes its start, opened once."""
    return os.open(os.environ["DBQ_BENCHMARK_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@app.task(name="noop", bind=True)
def noop(self) -> None:
    """Note the start."""
    os.write(record_file(), b"%s\n" % self.request.id.replace("-", "").encode())


def create(count: int) -> None:
    """Empty the queue, and fill it with that many jobs: there is no call for many."""
    with app.connection_for_write() as connection:
        client = connection.default_channel.client
        client.delete(QUEUE, "unacked", "unacked_index")
    enqueue(count)


def enqueue(count: int) -> float:
    """Add that many jobs one by one; return the seconds taken."""
    with app.producer_or_acquire() as producer:
        producer.connection.ensure_connection()
        start = time.perf_counter()
        for _ in range(count):
            noop.apply_async(producer=producer)
        return time.perf_counter() - start


def work() -> None:
    """Run one worker, until SIGTERM."""
    logging.disable()
    # It would say that nobody should run it as root.
    warnings.simplefilter("ignore")
    record_file()
    app.worker_main(
        [
            "--quiet",
            "worker",
            # The fastest of the pools that keep to one process.
            "--pool=solo",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=CRITICAL",
        ]
    )


def left() -> int:
    """Return how many jobs wait or are with a worker: Celery keeps no others."""
    with app.connection_for_write() as connection:
        client = connection.default_channel.client
        return client.llen(QUEUE) + client.hlen("unacked")


def _redis() -> str:
    client = Redis.from_url(os.environ["REDIS_URL"])
    settings = client.config_get("save", "appendonly")
    writes = settings["save"] or settings["appendonly"] == "yes"
    disk = "writing to disk" if writes else "writing nothing to disk"
    return f"Redis {client.info('server')['redis_version']} {disk}"


def describe() -> str:
    """Return the line of the report."""
    return (
        f"Celery {version('celery')}, redis-py {version('redis')} with hiredis, Python"
        f" {sys.version.split()[0]}: {_redis()}, pool solo, prefetch {PREFETCH}, acknowledged"
        " before the job runs (the default), results ignored, no events, gossip, mingle nor"
        " heartbeat, logging off"
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
