"""Requests to stop, at any time and in whatever a task is doing."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import Signals

from django.db import connections

from django_dbq.models import Job, Worker
from django_dbq.stopping import PATIENCE
from tests.conftest import WorkerProcess
from tests.faults.harness import Failed, Run, expect, scenario, wait_for

#: Seconds that everything may take besides what was asked for, on a machine that is busy.
LEEWAY = 20


@scenario(10, "SIGTERM at random instants, once and twice, in sleep, query and C")
def requests_to_stop(run: Run) -> None:
    run.heartbeat = 0.5
    run.create("work", run.scaled(20_000, 1_600))
    with ThreadPoolExecutor(4) as pool:
        instants = [run.random.uniform(0, 1.5) for _ in range(run.scaled(300, 24))]
        for _ in pool.map(lambda seconds: _stop_after(run, seconds), instants):
            pass
        for _ in pool.map(
            lambda seconds: _stop_supervisor(run, seconds), instants[: len(instants) // 3]
        ):
            pass
    _expect_nothing_held(run)
    rows = Worker.objects.count()
    expect(not rows, f"{rows} workers have ended, and left a row behind")
    run.start_many(2)
    run.wait_until_done()
    run.stop_all()
    for name in ("sleep", "query", "c_call"):
        _stop_in(run, name)
    _stop_the_deaf(run)
    run.figures |= {"requests at random": len(instants)}


def _stop_after(run: Run, seconds: float) -> None:
    """Ask a worker once, after so many seconds of work: it ends what runs, and exits with 0."""
    try:
        worker = run.start(options=["--grace", "30"])
        run.wait_until_known(worker)
        time.sleep(seconds)
        worker.signal(Signals.SIGTERM)
        status = _status(worker, LEEWAY)
        expect(status == 0, f"one SIGTERM, and exit status {status}:\n{worker.output}")
    finally:
        connections.close_all()


def _stop_supervisor(run: Run, seconds: float) -> None:
    """Ask a supervisor once, while its workers start up: they are forked, and soon there."""
    supervisor = run.start(options=["--processes", "2", "--grace", "30"])
    children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
    wait_for(lambda: len(children.read_text().split()) == 2, "the supervisor had workers", pause=0)
    time.sleep(seconds / 100)
    supervisor.signal(Signals.SIGTERM)
    status = _status(supervisor, LEEWAY)
    expect(status == 0, f"one SIGTERM, and exit status {status}:\n{supervisor.output}")


def _stop_in(run: Run, name: str) -> None:
    """Ask workers in the middle of a task that does not end: by grace, and twice in a row."""
    for options, requests in ((["--grace", "1"], 1), ([], 2)):
        worker = _start_in(run, name, options)
        for _ in range(requests):
            worker.signal(Signals.SIGTERM)
            time.sleep(0.05)
        status = _status(worker, 1 + PATIENCE + LEEWAY)
        expect(status == 1, f"cut short in {name}, and exit status {status}")
        _expect_nothing_held(run)
        expect(Job.objects.filter(state__in=Job.WAITING).count() == 1, "the job waits again")
        # One that ends in time is let.
        Job.objects.filter(state__in=Job.WAITING).update(workspace={"seconds": 0.5})
        worker = _start_in(run, name, ["--grace", "30"], again=True)
        worker.signal(Signals.SIGTERM)
        expect(_status(worker, LEEWAY + 30) == 0, f"the {name} has ended, and so has the worker")
        run.expect_states(COMPLETE=len(run.created))


def _stop_the_deaf(run: Run) -> None:
    """Ask a worker in C code that lets no other thread run: its supervisor kills it."""
    worker = _start_in(run, "deaf", ["--grace", "1", "--processes", "2"])
    worker.signal(Signals.SIGTERM)
    status = _status(worker, 1 + 2 * PATIENCE + LEEWAY)
    expect(status == 1, f"killed in C, and exit status {status}")
    _expect_nothing_held(run)
    waiting = Job.objects.filter(state__in=Job.WAITING)
    expect(waiting.count() == 1, "the supervisor handed the job on")
    Job.objects.filter(name="deaf").delete()
    run.created.pop()


def _start_in(run: Run, name: str, options: list[str], *, again: bool = False) -> WorkerProcess:
    """Start a worker and return when it is in the task."""
    if not again:
        run.create(name, workspace={"seconds": 300})
    before = len(run.starts())
    worker = run.start(options=options)
    wait_for(lambda: len(run.starts()) > before, f"{name} had started")
    time.sleep(0.1)
    return worker


def _status(worker: WorkerProcess, seconds: float) -> int:
    try:
        return worker.wait(seconds)
    except Exception as error:
        raise Failed(f"a worker did not end within {seconds} s:\n{worker.output}") from error


def _expect_nothing_held(run: Run) -> None:
    held = Job.objects.filter(state__in=Job.RUNNING)
    expect(not held.exists(), f"{held.count()} jobs are still {held.values_list('state').first()}")
