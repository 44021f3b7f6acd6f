"""The tasks of the fault suite. Each notes its start outside of the database, and then does it."""

import ctypes
import hashlib
import os
import random
import re
import signal
import threading
import time
from functools import cache
from pathlib import Path

from django.db import connection

from django_dbq.errors import ClaimLost
from django_dbq.models import Job
from tests.faults.injection import crash_at


@cache
def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what: str, job: Job) -> None:
    """Append a line; one write to an O_APPEND file, so that lines of many processes never mix."""
    token = job.held_claim.token if job.held_claim else None
    record = _opened(os.environ["FAULTS_RECORD"])
    os.write(record, f"{what} {job.pk} {os.getpid()} {token}\n".encode())


def quick(job: Job) -> None:
    note("quick", job)


def work(job: Job) -> None:
    note("work", job)
    time.sleep(random.uniform(0.002, 0.02))


def count(job: Job) -> None:
    """Be busy for some milliseconds: a worker that was stopped goes on with this afterwards."""
    note("count", job)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10_000)


def first(job: Job) -> None:
    note("first", job)
    job.workspace["steps"] = ["first"]


def second(job: Job) -> None:
    note("second", job)
    job.workspace["steps"].append("second")


def third(job: Job) -> None:
    note("third", job)
    job.workspace["steps"].append("third")


def removed(job: Job) -> None:
    note("removed", job)


def effect(job: Job) -> None:
    note("effect", job)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO faults_effect (job) VALUES (%s)", [str(job.pk)])
    crash_at("in the step")


def linger(job: Job) -> None:
    """Take a while the first time, and then write; a save() that came too late is noted."""
    note("linger", job)
    if not job.losses:
        # Not time.sleep, which libfaketime breaks.
        threading.Event().wait(job.workspace["seconds"])
    mine = job.still_mine()
    job.workspace["by"] = os.getpid()
    try:
        job.save()
    except ClaimLost:
        note("-late", job)
        assert not mine
        raise


def hold(job: Job) -> None:
    """Take as long as the scenario likes; only the first worker does."""
    note("hold", job)
    if not job.losses:
        _wait_until_told("hold", job)


def hold_on(job: Job) -> None:
    """Take as long as the scenario likes."""
    note("hold_on", job)
    _wait_until_told("hold_on", job)


def tell(task: str, job: Job) -> None:
    """Let that task of the job end."""
    Path(f"{os.environ['FAULTS_RECORD']}-{task}-{job.pk}").touch()


def _wait_until_told(task: str, job: Job) -> None:
    told = Path(f"{os.environ['FAULTS_RECORD']}-{task}-{job.pk}")
    while not told.exists():
        time.sleep(0.01)


def swell(job: Job) -> None:
    """Make the row so large that it needs room on the disk."""
    note("swell", job)
    job.workspace["ballast"] = os.urandom(100_000).hex()


def kill_worker(job: Job) -> None:
    note("kill_worker", job)
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(job: Job) -> None:
    note("segfault", job)
    ctypes.string_at(0)


def note_failure(job: Job, error: Exception) -> None:
    note(f"-failed-{type(error).__name__}", job)


def sleep(job: Job) -> None:
    note("sleep", job)
    time.sleep(job.workspace["seconds"])


def query(job: Job) -> None:
    """Wait in the database."""
    note("query", job)
    seconds = job.workspace["seconds"]
    with connection.cursor() as cursor:
        match connection.vendor:
            case "postgresql":
                cursor.execute("SELECT pg_sleep(%s)", [seconds])
            case "mysql":
                cursor.execute("SELECT SLEEP(%s)", [seconds])
            case _:
                cursor.execute(
                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
                    " WHERE i < %s) SELECT count(*) FROM n",
                    [int(seconds * 2_000_000)],
                )


def c_call(job: Job) -> None:
    """Be long in C, where Python runs no signal handler; other threads go on."""
    note("c_call", job)
    hashlib.pbkdf2_hmac("sha256", b"", b"", int(job.workspace["seconds"] * 1_000_000))


def hold_interpreter(job: Job) -> None:
    """Be long in C, and let no other thread run either."""
    note("hold_interpreter", job)
    re.match(r"(a+)+b", "a" * 40)
