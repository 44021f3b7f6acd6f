"""Machines whose clocks are hours off: only the database's counts."""

from datetime import timedelta
from pathlib import Path

from django.db.models import F
from django.utils import timezone

from django_dbq.models import Job
from tests.conftest import WorkerProcess
from tests.faults.harness import SERVERS, Run, Skipped, expect, scenario

OFFSETS = ("-5h", "+0h", "+5h")


@scenario(8, "clocks that are five hours off", on=SERVERS)
def wrong_clocks(run: Run) -> None:
    run.heartbeat = 1
    workers = [_start_off_by(run, offset) for offset in OFFSETS]
    for worker in workers:
        run.wait_until_known(worker)
    due = [timezone.now() + timedelta(seconds=run.random.uniform(1, 8)) for _ in range(50)]
    for offset in OFFSETS:
        queue = _queue(offset)
        run.create("linger", 2, queue_name=queue, workspace={"seconds": 5})
        for when in due:
            run.create("quick", queue_name=queue, run_after=when)
    run.wait_until_done(seconds=120)
    run.expect_states(COMPLETE=len(OFFSETS) * (2 + len(due)))
    early = Job.objects.filter(started__lt=F("run_after")).count()
    expect(not early, f"{early} jobs were started before they were due")
    extra = len(run.starts()) - len(run.created)
    expect(not extra, f"{extra} tasks were started again, though all workers lived")
    run.expect_all_alive()
    run.figures |= {"jobs for later": len(OFFSETS) * len(due)}


def _start_off_by(run: Run, offset: str) -> WorkerProcess:
    """Start a worker, for a queue of its own, whose machine's clock is so far off."""
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not libraries:
        raise Skipped("libfaketime is not installed (on Debian: apt-get install faketime)")
    return run.start(
        _queue(offset),
        LD_PRELOAD=str(libraries[0]),
        FAKETIME=offset,
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )


def _queue(offset: str) -> str:
    return f"clock {offset}"
