"""The database goes away, comes back, takes no writes, has no room: workers live through it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import connection
from django.utils import timezone

from django_dbq.models import Job
from tests.faults.harness import SERVERS, Run, expect, patiently, scenario, wait_for
from tests.faults.servers import Unmountable

#: Seconds after the return of the database within which jobs have to be claimed again.
RECOVERY_SECONDS = 30


@scenario(4, "all sessions killed every 500 ms", on=SERVERS)
def killed_sessions(run: Run) -> None:
    seconds = run.scaled(60, 10)
    workers = run.start_many(4)
    with _work_flowing(run, seconds):
        killed = 0
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            killed += patiently(run.server.kill_sessions)
            time.sleep(0.5)
    run.wait_until_done()
    _expect_exactly_once(run)
    run.expect_all_alive(workers)
    run.figures |= {"sessions killed": killed}


@scenario(5, "immediate restarts, and an outage", on=SERVERS)
def restarts(run: Run) -> None:
    count, outage = run.scaled(10, 3), run.scaled(60, 14)
    # An outage longer than the lease: nobody could report, and nobody is lost.
    run.heartbeat = 10 if run.long else 2
    workers = run.start_many(4)
    with _work_flowing(run, 4 * count):
        for _ in range(count):
            time.sleep(run.random.uniform(0.5, 1.5))
            run.server.crash()
            run.server.start()
            _expect_recovery(run)
        run.server.crash()
        time.sleep(outage)
        run.server.start()
        _expect_recovery(run)
    run.wait_until_done()
    _expect_exactly_once(run)
    run.expect_all_alive(workers)
    run.figures |= {"restarts": count, "s outage": outage}


@scenario(12, "read-only, locked, and a full disk")
def no_writes(run: Run) -> None:
    run.heartbeat = 10 if run.long else 2
    is_sqlite = run.vendor == "sqlite"
    workers = run.start_many(2, **({"FAULTS_LOCK_TIMEOUT": "1"} if is_sqlite else {}))
    if is_sqlite:
        with _work_flowing(run, 3):
            _lock_for(run, 3.5)
            _expect_recovery(run)
    else:
        with _work_flowing(run, 5):
            run.server.set_read_only(True)
            time.sleep(run.scaled(60, 8))
            run.server.set_read_only(False)
            _expect_recovery(run)
    run.wait_until_done()
    _expect_exactly_once(run)
    try:
        _fill_disk(run)
    except Unmountable as error:
        run.omitted.append(f"the full disk: {error}")
    run.expect_all_alive(workers)


def _lock_for(run: Run, seconds: float) -> None:
    """Keep SQLite's one lock to write."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        cursor.execute("ROLLBACK")


def _fill_disk(run: Run) -> None:
    """Let the disk be full while jobs run that need more of it."""
    with run.server.fillable() as ballast:
        lead = run.scaled(15, 5)
        due = timezone.now() + timedelta(seconds=lead)
        run.create("swell", run.scaled(400, 100), run_after=due)
        # On a machine with other work, too, all is full before they are due; and it stays so when
        # the database gives back what it does not need.
        while timezone.now() < due:
            ballast.fill()
            time.sleep(0.2)
        time.sleep(run.scaled(30, 8))
        left = patiently(run.left)
        expect(left, "the disk was not full: all jobs have ended")
        ballast.drop()
        _expect_recovery(run)
        run.wait_until_done()
        _expect_exactly_once(run)
        run.figures |= {"jobs kept waiting by the full disk": left}


@contextmanager
def _work_flowing(run: Run, seconds: float) -> Iterator[None]:
    """Have enough to do for four workers for so many seconds."""
    run.create("work", int(4 * seconds / 0.011))
    wait_for(lambda: len(run.starts()) > 20, "the work had begun")
    yield


def _expect_recovery(run: Run) -> None:
    """Fail unless workers claim again, soon after the database has returned."""
    before = len(run.starts())
    wait_for(
        lambda: len(run.starts()) > before + 1 or not run.left(),
        "jobs were claimed again",
        seconds=RECOVERY_SECONDS,
    )


def _expect_exactly_once(run: Run) -> None:
    """Fail unless each job was run, once: the workers have lived all the time."""
    run.expect_states(COMPLETE=len(run.created))
    extra = len(run.starts()) - len(run.created)
    expect(not extra, f"{extra} extra starts, though all workers lived")
    retried = Job.objects.filter(losses__gt=0).count()
    expect(not retried, f"{retried} jobs were taken from workers that lived")
