"""Everything that is measured on one database, as series."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.claims import BASELINE as SMALL_TABLE
from benchmarks.contenders import (
    BARE,
    CHANGING,
    LIKE_TYPED,
    PLAIN,
    THREE,
    TYPED,
    WAITING,
    Contender,
)
from benchmarks.drain import drains
from benchmarks.enqueue import BASELINE as INSERT
from benchmarks.enqueue import BULK_BASELINE
from benchmarks.results import Series

ONE, TWO = "drain, 1 process", "drain, 2 processes"
PEERS = "drain, 1 process, beside the peers"
WAITS = "tasks that wait"
PICKUP = "pickup by an idle worker"
CLAIM = "claim of 100"
MEMORY = "memory of a worker"
#: What memory is compared to.
SETUP = "a bare process"

#: What is drained, by whom, and with how many processes, each of which has its part of the starts.
_DRAINS: Sequence[tuple[str, Sequence[Contender], int]] = [
    (ONE, [BARE, PLAIN, LIKE_TYPED, TYPED, THREE, CHANGING], 1),
    (TWO, [BARE, PLAIN, TYPED], 2),
    (WAITS, [WAITING], 1),
]
#: How many times the rounds a drain has that is near to what is wanted of it, unless it is a part.
_TIMES_THE_ROUNDS = {("postgresql", ONE): 2, ("postgresql", TWO): 4}
#: How many starts a drain is long, for each process: a second or more of the quickest.
_STARTS = {"postgresql": 100_000, "sqlite": 150_000, "mariadb": 40_000}


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured; ``part`` of the usual number of jobs, in so many rounds."""

    rounds: int = 5
    part: float = 1.0

    def rounds_of(self, database: str, measurement: str) -> int:
        """Return how many rounds a drain has: more, if it is all of the jobs and near the limit."""
        times = _TIMES_THE_ROUNDS.get((database, measurement), 1) if self.part == 1 else 1
        return self.rounds * times

    def of(self, usual: int) -> int:
        """Return that part of the usual number."""
        return max(1, round(usual * self.part))

    def for_each(self, contenders: Sequence[Contender]) -> list[Contender]:
        """Return them with that part of the jobs, where they have a number of their own."""
        return [replace(each, jobs=each.jobs and self.of(each.jobs)) for each in contenders]


def measure(database: str, url: str, effort: Effort, peers: Sequence[Contender]) -> list[Series]:
    """Return all that is measured on that database, of django-dbq and of the peers."""
    series = drained(database, url, effort)
    if peers:
        series += beside_peers(database, url, effort, peers)
    series += enqueued(database, url, effort)
    series += picked_up(database, url, effort)
    if database == "postgresql":
        series += grown(database, url)
        series += remembered(database, url)
    return series


def drained(database: str, url: str, effort: Effort) -> list[Series]:
    """Return the drains, with one process and with two, and with tasks that wait."""
    starts = effort.of(_STARTS[database])
    series: list[Series] = []
    for measurement, contenders, processes in _DRAINS:
        series += drains(
            effort.for_each(contenders),
            database=database,
            measurement=measurement,
            jobs=starts * processes,
            processes=processes,
            rounds=effort.rounds_of(database, measurement),
            url=url,
        )
    return series


def beside_peers(
    database: str, url: str, effort: Effort, peers: Sequence[Contender]
) -> list[Series]:
    """Return the drains of the peers, who take turns with the bare loop and with ours."""
    return drains(
        effort.for_each([BARE, PLAIN, *peers]),
        database=database,
        measurement=PEERS,
        jobs=effort.of(_STARTS[database]),
        processes=1,
        rounds=effort.rounds,
        url=url,
    )


def enqueued(database: str, url: str, effort: Effort) -> list[Series]:
    """Return how many jobs a second are created."""
    answer = ask("enqueue", effort.rounds, effort.of(500), url=url)
    return [
        Series(
            database=database,
            measurement=measurement,
            contender=way,
            unit="jobs/s",
            values=rates,
            baseline=INSERT if INSERT in ways else BULK_BASELINE,
        )
        for measurement, ways in answer.items()
        for way, rates in ways.items()
    ]


def picked_up(database: str, url: str, effort: Effort) -> list[Series]:
    """Return the times from a job's commit, from its creation, or when it is due, to its start."""
    answer = ask("latency", effort.of(100), url=url)
    return _single(database, PICKUP, answer, unit="ms")


def grown(database: str, url: str) -> list[Series]:
    """Return what claims, commands and the rescue take, by the size of the table."""
    series: list[Series] = []
    for measurement, times in ask("claims", url=url).items():
        series += _single(database, measurement, times, unit="ms", baseline=SMALL_TABLE)
    return series


def remembered(database: str, url: str) -> list[Series]:
    """Return how much memory a worker has, by how many jobs it has run."""
    answer = ask("memory", 50_000, 4, url=url)
    return _single(database, MEMORY, answer, unit="MB", baseline=SETUP)


def _single(
    database: str,
    measurement: str,
    values: dict[str, float | list[float]],
    *,
    unit: str,
    baseline: str | None = None,
) -> list[Series]:
    return [
        Series(
            database=database,
            measurement=measurement,
            contender=name,
            unit=unit,
            values=value if isinstance(value, list) else [value],
            baseline=baseline,
        )
        for name, value in values.items()
    ]


def ask(module: str, *arguments: object, url: str) -> Any:
    """Run one of the other measurements in a process of its own; return what its JSON says."""
    words = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    environment = os.environ | {"DATABASE_URL": url}
    ran = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(ran.stdout.splitlines()[-1])
