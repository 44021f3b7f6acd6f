"""What scenarios are made of: a run with its jobs, workers, figures, and the settlement."""

import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any, TypeVar

from django.db import Error, connections

from django_dbq.models import Job, Worker
from tests.conftest import WorkerProcess
from tests.faults import reckoning
from tests.faults.reckoning import Reckoning, Start
from tests.faults.servers import Server

T = TypeVar("T")

ALL = ("sqlite", "postgresql", "mariadb")
SERVERS = ("postgresql", "mariadb")


class Failed(Exception):
    """A scenario did not show what it must show."""


class Skipped(Exception):
    """A scenario, or a part of it, cannot be played on this machine."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One line of the table: its number, its name, and where it applies."""

    number: int
    name: str
    on: Sequence[str]
    play: Callable[["Run"], None]


SCENARIOS: list[Scenario] = []


def scenario(
    number: int, name: str, *, on: Sequence[str] = ALL
) -> Callable[[Callable[["Run"], None]], Callable[["Run"], None]]:
    """Register a function as a scenario."""

    def register(play: Callable[["Run"], None]) -> Callable[["Run"], None]:
        SCENARIOS.append(Scenario(number=number, name=name, on=on, play=play))
        return play

    return register


def expect(holds: object, otherwise: str) -> None:
    """Fail the scenario unless something holds."""
    if not holds:
        raise Failed(otherwise)


def patiently(ask: Callable[[], T], *, seconds: float = 60) -> T:
    """Return what the database answers, though it may be away for a while."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except Error:
            with suppress(Error):
                connections["default"].close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_for(
    condition: Callable[[], object], what: str, *, seconds: float = 120, pause: float = 0.05
) -> None:
    """Return once the condition holds; it may ask the database."""
    deadline = time.monotonic() + seconds
    while not patiently(condition, seconds=seconds):
        expect(time.monotonic() < deadline, f"waited {seconds} s in vain until {what}")
        time.sleep(pause)


@dataclass(kw_only=True)
class Run:
    """One scenario on one database.

    ``long``: with the full figures. ``random``: seeded. ``heartbeat``: of the workers, in seconds;
    None for the default. ``figures``: what the report says besides the counts.
    """

    server: Server
    directory: Path
    long: bool
    random: random.Random
    heartbeat: float | None = None
    figures: dict[str, object] = field(default_factory=dict)
    workers: list[WorkerProcess] = field(default_factory=list)
    created: list[uuid.UUID] = field(default_factory=list)
    #: What could not be played here, and why.
    omitted: list[str] = field(default_factory=list)

    @property
    def vendor(self) -> str:
        return self.server.name

    @property
    def record(self) -> Path:
        """The file in which tasks note that they started."""
        return self.directory / "record"

    def scaled(self, full: int, short: int) -> int:
        """Return how often to do something, in the long form and in the short one."""
        return full if self.long else short

    # Jobs

    def create(self, name: str, count: int = 1, **values: Any) -> list[Job]:
        """Create jobs, to be accounted for at the end."""
        jobs = [Job(name=name, **values) for _ in range(count)]
        Job.objects.bulk_enqueue(jobs)
        self.created += [job.pk for job in jobs]
        return jobs

    def starts(self) -> list[Start]:
        return reckoning.read_record(self.record)

    def starts_of(self, job: Job) -> int:
        return sum(start.job == job.pk for start in self.starts())

    def events(self, what: str) -> list[str]:
        """Return the lines of the record about another event than a start."""
        return [line for line in self.record.read_text().splitlines() if line.startswith(what)]

    def left(self) -> int:
        """Return how many jobs have not ended."""
        return Job.objects.exclude(state__in=Job.FINISHED).count()

    def wait_until_done(self, *, seconds: float = 180) -> None:
        """Return when all jobs have ended."""
        wait_for(lambda: not self.left(), "all jobs had ended", seconds=seconds)

    def expect_states(self, **expected: int) -> None:
        """Fail unless so many jobs are in each state."""
        states = Counter(Job.objects.values_list("state", flat=True))
        error = Job.objects.exclude(error=None).values_list("error", flat=True).first()
        expect(states == expected, f"states are {dict(states)}, not {expected}; an error: {error}")

    # Workers

    def start(self, *queues: str, options: Sequence[str] = (), **environment: str) -> WorkerProcess:
        """Start a worker without a rate limit."""
        given = {"DATABASE_URL": self.server.url, "FAULTS_RECORD": str(self.record)}
        if self.heartbeat is not None:
            given["FAULTS_HEARTBEAT"] = str(self.heartbeat)
        worker = WorkerProcess(
            [*queues, "--rate_limit", "0", *options],
            environment={**given, **environment},
            log=self.directory / f"worker-{len(self.workers)}.log",
        )
        self.workers.append(worker)
        return worker

    def start_many(self, count: int, *queues: str, **environment: str) -> list[WorkerProcess]:
        """Start workers, and wait until each has reported."""
        workers = [self.start(*queues, **environment) for _ in range(count)]
        for worker in workers:
            self.wait_until_known(worker)
        return workers

    def wait_until_known(self, worker: WorkerProcess) -> uuid.UUID:
        """Wait until a worker has its row, and return its id."""
        rows = Worker.objects.filter(pid=worker.pid).order_by("-started")

        def is_known() -> bool:
            expect(worker.process.poll() is None, f"a worker died at its start: {worker.output}")
            return rows.exists()

        wait_for(is_known, "a worker had its row")
        return rows.values_list("pk", flat=True)[0]

    def expect_all_alive(self, workers: Iterable[WorkerProcess] | None = None) -> None:
        """Fail if one of these workers has ended."""
        for worker in self.workers if workers is None else workers:
            status = worker.process.poll()
            expect(status is None, f"a worker ended with {status}:\n{worker.output[-2000:]}")

    def stop_all(self, *, seconds: float = 90) -> None:
        """Stop those workers that still live, which is to go well."""
        alive = [worker for worker in self.workers if worker.process.poll() is None]
        for worker in alive:
            worker.signal(Signals.SIGTERM)
        deadline = time.monotonic() + seconds
        for worker in alive:
            try:
                status = worker.wait(max(0.1, deadline - time.monotonic()))
            except Exception as error:
                raise Failed(f"a worker did not stop:\n{worker.output[-2000:]}") from error
            expect(status == 0, f"a stopped worker ended with {status}:\n{worker.output[-2000:]}")

    def kill_all(self) -> None:
        """Leave nothing behind, whatever happened."""
        for worker in self.workers:
            worker.kill()

    # The end

    def settle(self) -> Reckoning:
        """Settle accounts, and fail if something is left over."""
        accounts = reckoning.settle(self.created, self.record)
        for what in ("unaccounted", "illegal", "second"):
            found: list[str] = getattr(accounts, what)
            expect(not found, f"{len(found)} {what}: {'; '.join(found[:3])}")
        ownerless = Job.objects.filter(state__in=Job.RUNNING).count()
        expect(not ownerless, f"{ownerless} jobs are PROCESSING, and no worker is left")
        return accounts


@contextmanager
def prepared(
    server: Server, directory: Path, *, long: bool, seed: int, number: int
) -> Iterator[Run]:
    """Provide a run with no jobs and no workers; none are left afterwards."""
    patiently(reckoning.clear)
    run = Run(
        server=server, directory=directory, long=long, random=random.Random(f"{seed} {number}")
    )
    run.record.touch()
    os.environ["FAULTS_RECORD"] = str(run.record)
    try:
        yield run
    finally:
        run.kill_all()
