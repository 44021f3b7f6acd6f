"""Workers that are taken for dead and wake up again, and rescues that race with the finish."""

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from signal import Signals
from typing import Any, TypeVar

from django.db import Error, OperationalError, connections, transaction

from django_dbq.backends import Backend, LostJobs, backend_for
from django_dbq.backends.base import Wanted
from django_dbq.claims import Claim
from django_dbq.clock import DatabaseNow
from django_dbq.execution import Execution
from django_dbq.models import Job, Worker
from tests.conftest import WorkerProcess
from tests.faults.harness import Run, expect, scenario, wait_for
from tests.faults.tasks import tell

T = TypeVar("T")


@scenario(6, "SIGSTOP past the lease, then SIGCONT")
def asleep_past_the_lease(run: Run) -> None:
    run.heartbeat = 1
    rounds, each = run.scaled(13, 3), 4
    victims = [run.start(f"victim {number}") for number in range(each)]
    for victim in victims:
        run.wait_until_known(victim)
    run.start_many(1, "healthy")
    for _ in range(rounds):
        _let_sleep(run, victims)
    for _ in range(run.scaled(20, 2)):
        _let_sleep_with_a_batch(run, victims)
    for _ in range(run.scaled(10, 2)):
        _let_sleep_before_the_next_task(run, victims[0])
    run.stop_all()
    run.expect_states(COMPLETE=len(run.created))
    for job in Job.objects.filter(name="linger"):
        last = [start.pid for start in run.starts() if start.job == job.pk][-1]
        expect(job.workspace["by"] == last, "a late worker's workspace is in the row")
    # On a machine with other work, too, a worker may be late without having been stopped.
    superseded = sum(start.task == "linger" for start in run.starts()) - rounds * each
    expect(superseded >= rounds * each, f"{superseded} of {rounds * each} were taken for dead")
    saves = len(run.events("-late"))
    expect(saves == superseded, f"{saves} of {superseded} late saves were refused")
    late = sum(map(_late_outcomes, run.workers))
    expect(late == superseded, f"{late} of {superseded} late outcomes were refused")
    run.figures |= {"late writes": late + saves}


def _let_sleep(run: Run, victims: list[WorkerProcess]) -> None:
    """Stop workers in the middle of a task, and wake them up when others have done their jobs."""
    jobs = [
        job
        for number in range(len(victims))
        for job in run.create("linger", queue_name=f"victim {number}", workspace={"seconds": 3})
    ]
    wait_for(lambda: all(run.starts_of(job) for job in jobs), "all tasks had started")
    _stop(victims, jobs)
    run.wait_until_done()
    for victim in victims:
        victim.signal(Signals.SIGCONT)
    wait_for(
        lambda: all(_late_saves(run, job) == run.starts_of(job) - 1 > 0 for job in jobs),
        "the late saves were refused",
    )


def _let_sleep_with_a_batch(run: Run, victims: list[WorkerProcess]) -> None:
    """Stop workers that hold jobs ahead: awake again, they start none that others have had."""
    before = len(run.starts())
    jobs = [
        job
        for number in range(len(victims))
        for job in run.create("count", 200, queue_name=f"victim {number}")
    ]
    wait_for(lambda: len(run.starts()) > before + 200, "the batches had grown")
    _stop(victims, jobs)
    run.wait_until_done()
    before = len(run.starts())
    for victim in victims:
        victim.signal(Signals.SIGCONT)
    numbers = range(len(victims))
    probes = [run.create("quick", queue_name=f"victim {number}")[0] for number in numbers]
    wait_for(lambda: all(run.starts_of(job) for job in probes), "the victims worked again")
    stale = Counter(start.pid for start in run.starts()[before:] if start.task == "count")
    # Each may have been stopped just before a start, which nothing could keep it from.
    expect(max(stale.values(), default=0) <= 1, f"{stale.total()} jobs of others were started")


def _let_sleep_before_the_next_task(run: Run, victim: WorkerProcess) -> None:
    """Stop a worker in a task, and wake it up while another worker runs the job's next one.

    The row is PROCESSING then, and in the late worker's own queue: by the token alone it can know
    that the job is not the one to go on with.
    """
    [job] = run.create("handover", queue_name="victim 0")
    late = _late_outcomes(victim, "handover")
    wait_for(lambda: run.starts_of(job) == 1, "the first task had started")
    _stop([victim], [job])
    wait_for(lambda: run.starts_of(job) >= 3, "another worker ran the next task")
    Job.objects.filter(pk=job.pk).update(queue_name="victim 0")
    reports = Worker.objects.filter(pid=victim.pid).values_list("last_seen", flat=True)
    asleep = reports.get()
    victim.signal(Signals.SIGCONT)
    # With a lease again it claims, and finishes together with that. The second report is behind it.
    wait_for(lambda: reports.get() > asleep, "the late worker reported")
    awake = reports.get()
    wait_for(lambda: reports.get() > awake, "the late worker reported again")
    tell("hold", job)
    wait_for(
        lambda: _late_outcomes(victim, "handover") > late or run.starts_of(job) > 3,
        "the late outcome was refused",
    )
    tell("hold_on", job)
    run.wait_until_done()
    starts = Counter(start.task for start in run.starts() if start.job == job.pk)
    expect(starts == {"hold": 2, "hold_on": 1, "quick": 1}, f"a late worker went on: {starts}")
    refused = _late_outcomes(victim, "handover") - late
    expect(refused == 1, f"{refused} late outcomes of one job were refused")


def _late_saves(run: Run, job: Job) -> int:
    return sum(str(job.pk) in line for line in run.events("-late"))


def _late_outcomes(worker: WorkerProcess, name: str = "linger") -> int:
    return worker.output.count(f"event=outcome_too_late name={name}")


def _stop(victims: list[WorkerProcess], jobs: list[Job]) -> None:
    """Stop workers, and let the healthy one have what they have not done of these jobs.

    None is to be stopped in the middle of a transaction, whose locks nobody could get past.
    """
    unfinished = Job.objects.filter(pk__in=[job.pk for job in jobs])
    unfinished = unfinished.exclude(state__in=Job.FINISHED)
    while True:
        for victim in victims:
            victim.signal(Signals.SIGSTOP)
        # What they had sent by then the server carries out, and may take locks for it.
        time.sleep(0.2)
        try:
            _wait_for_no_lock_long()
            unfinished.update(queue_name="healthy")
            return
        except OperationalError:
            for victim in victims:
                victim.signal(Signals.SIGCONT)
            time.sleep(0.01)
        finally:
            connections["default"].close()


def _wait_for_no_lock_long() -> None:
    """Have this connection give up after a second."""
    connection = connections["default"]
    limit = {
        "sqlite": "PRAGMA busy_timeout = 1000",
        "postgresql": "SET lock_timeout = 1000",
        "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    }
    with connection.cursor() as cursor:
        cursor.execute(limit[connection.vendor])


@scenario(7, "rescue and finish race")
def rescue_against_finish(run: Run) -> None:
    count = run.scaled(1_000, 150)
    backend = backend_for("default")
    won: list[str] = []
    for number in range(count):
        queue = f"race {number}"
        [job] = run.create("quick", queue_name=queue)
        row = _add_worker()
        [claim] = backend.claim(Wanted([queue], ["quick"], 1, row.pk))
        orders = (_at_once, _finish_first, _rescue_first)
        late, rescued = orders[number % 3](backend, claim, row)
        expect(late == rescued, f"{late} outcomes late, {rescued} jobs rescued")
        won.append("rescue" if rescued else "finish")
        job.refresh_from_db()
        expected = "READY" if rescued else "COMPLETE"
        expect(job.state == expected, f"the {won[-1]} won, and the job is {job.state}")
    first, second = won[1::3].count("finish"), won[2::3].count("rescue")
    expect(first == len(won[1::3]), f"the finish was first, and won {first} times")
    expect(second == len(won[2::3]), f"the rescue was first, and won {second} times")
    Worker.objects.all().delete()
    Job.objects.filter(state="READY").update(queue_name="default")
    run.start_many(1)
    run.wait_until_done()
    run.figures |= {"races": count, "won by the rescue": won.count("rescue")}


def _add_worker() -> Worker:
    """Add the row of a worker that has been silent for long."""
    now: Any = DatabaseNow()
    row = Worker.objects.create(
        id=uuid.uuid4(), host="lost", pid=os.getpid(), queues=["default"], version="0",
        started=now, last_seen=now, held_since=now, lease=1,
    )  # fmt: skip
    row.refresh_from_db()
    return row


def _at_once(backend: Backend, claim: Claim, row: Worker) -> tuple[int, int]:
    barrier = threading.Barrier(2)

    def finish() -> int:
        barrier.wait()
        return _finish(backend, claim)

    def rescue() -> int:
        barrier.wait()
        return _rescue(backend, row)

    return _both(finish, rescue)


def _finish_first(backend: Backend, claim: Claim, row: Worker) -> tuple[int, int]:
    """Let the rescue come while the finish has written, and is not committed."""
    written = threading.Event()

    def finish() -> int:
        with transaction.atomic():
            late = _finish(backend, claim)
            written.set()
            time.sleep(0.01)
        return late

    def rescue() -> int:
        written.wait()
        return _rescue(backend, row)

    return _both(finish, rescue)


def _rescue_first(backend: Backend, claim: Claim, row: Worker) -> tuple[int, int]:
    """Let the finish come while the rescue has written, and is not committed."""
    written = threading.Event()

    def finish() -> int:
        written.wait()
        return _finish(backend, claim)

    def rescue() -> int:
        with transaction.atomic():
            rescued = _rescue(backend, row)
            written.set()
            time.sleep(0.01)
        return rescued

    return _both(finish, rescue)


def _finish(backend: Backend, claim: Claim) -> int:
    """Return how many outcomes came too late: one or none."""
    outcome = Execution(claim).run()
    return len(_again(lambda: backend.finish([outcome])))


def _rescue(backend: Backend, row: Worker) -> int:
    return _again(lambda: LostJobs(backend).rescue(row))


def _again(write: Callable[[], T]) -> T:
    """Do as workers do when the database has sacrificed them to end a deadlock."""
    while True:
        try:
            return write()
        except Error:
            if connections["default"].in_atomic_block:
                raise
            connections["default"].close()


def _both(finish: Callable[[], int], rescue: Callable[[], int]) -> tuple[int, int]:
    """Return what the two threads do."""

    def alone(do: Callable[[], int]) -> int:
        try:
            return do()
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(2) as pool:
        finishing, rescuing = pool.submit(alone, finish), pool.submit(alone, rescue)
        return finishing.result(timeout=60), rescuing.result(timeout=60)
