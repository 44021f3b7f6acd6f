"""The figures that were wanted, and whether a run has reached them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.claims import AFTER_VACUUM, FINISHED, TABLES, UPKEEP
from benchmarks.claims import BASELINE as SMALL_TABLE
from benchmarks.contenders import BARE, CHANGING, LIKE_TYPED, PLAIN, THREE, TYPED, WAITING
from benchmarks.latency import LATER
from benchmarks.measure import CLAIM, MEMORY, ONE, PEERS, PICKUP, SETUP, TWO, WAITS
from benchmarks.peers.environments import ON_REDIS
from benchmarks.peers.environments import PEERS as NAMES
from benchmarks.results import Results

Measured = Callable[[Results], float | None]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number that was wanted: at least that, or else at most."""

    text: str
    wanted: float
    measured: Measured
    at_least: bool = True

    def verdict(self, results: Results) -> str:
        """Return a row of the table."""
        value = self.measured(results)
        sign = "≥" if self.at_least else "≤"
        if value is None:
            return f"| {self.text} | {sign} {self.wanted:g} | | not measured |"
        reached = value >= self.wanted if self.at_least else value <= self.wanted
        answer = "yes" if reached else "**no**"
        return f"| {self.text} | {sign} {self.wanted:g} | {value:,.3g} | {answer} |"


def ratio(database: str, measurement: str, contender: str, other: str) -> Measured:
    """Return the median of the ratios of two contenders that took turns."""

    def measured(results: Results) -> float | None:
        one = results.find(database, measurement, contender)
        two = results.find(database, measurement, other)
        return statistics.median(one.ratios_to(two)) if one and two else None

    return measured


def value(database: str, measurement: str, contender: str) -> Measured:
    """Return the median of one contender."""

    def measured(results: Results) -> float | None:
        found = results.find(database, measurement, contender)
        return found.median if found else None

    return measured


def least_to_peers(names: Sequence[str]) -> Measured:
    """Return the ratio to the fastest of these peers."""

    def measured(results: Results) -> float | None:
        each = (ratio("postgresql", PEERS, PLAIN.name, name)(results) for name in names)
        return min((found for found in each if found is not None), default=None)

    return measured


def largest(measurements: Sequence[str], names: Sequence[str], other: str) -> Measured:
    """Return the largest ratio of several to one, of some measurements on PostgreSQL."""

    def measured(results: Results) -> float | None:
        each = (
            ratio("postgresql", measurement, name, other)(results)
            for measurement in measurements
            for name in names
        )
        return max((found for found in each if found is not None), default=None)

    return measured


def memory(results: Results, *, compare_to_first: bool) -> float | None:
    """Return the worker's memory at the end, to a bare process or to its own at first."""
    found = [each for each in results.series if each.measurement == MEMORY]
    workers = [each.median for each in found if each.contender != SETUP]
    bare = [each.median for each in found if each.contender == SETUP]
    if not workers or not bare:
        return None
    return workers[-1] / (workers[0] if compare_to_first else bare[0])


_PG = "postgresql"
TITLES = [("PostgreSQL", _PG), ("SQLite", "sqlite"), ("MariaDB", "mariadb")]
FIGURES = [
    Figure(
        text="PostgreSQL, one process: plain to the bare loop",
        wanted=1.5,
        measured=ratio(_PG, ONE, PLAIN.name, BARE.name),
    ),
    Figure(
        text="PostgreSQL, two processes: plain to two bare loops",
        wanted=1.5,
        measured=ratio(_PG, TWO, PLAIN.name, BARE.name),
    ),
    *(
        Figure(
            text=f"typed to plain on {title}, with the same workspace",
            wanted=0.85,
            measured=ratio(database, ONE, TYPED.name, LIKE_TYPED.name),
        )
        for title, database in TITLES
    ),
    Figure(
        text="typed to plain on PostgreSQL, whose workspace is empty",
        wanted=0.85,
        measured=ratio(_PG, ONE, TYPED.name, PLAIN.name),
    ),
    Figure(
        text="starts of three-task jobs to one-task jobs",
        wanted=0.8,
        measured=ratio(_PG, ONE, THREE.name, PLAIN.name),
    ),
    Figure(
        text="jobs that change their workspace to those that do not",
        wanted=0.7,
        measured=ratio(_PG, ONE, CHANGING.name, PLAIN.name),
    ),
    Figure(
        text="to the fastest peer in Python on a database",
        wanted=10,
        measured=least_to_peers([name for name in NAMES if name not in ON_REDIS]),
    ),
    Figure(text="to django-tasks-db", wanted=50, measured=least_to_peers(["django_tasks_db"])),
    *(
        Figure(
            text=f"pickup on {title}, {quantile} from the commit, ms",
            wanted=wanted,
            at_least=False,
            measured=value(database, PICKUP, quantile),
        )
        for title, database, quantile, wanted in (
            ("PostgreSQL", _PG, "p50", 3),
            ("PostgreSQL", _PG, "p99", 15),
            ("SQLite", "sqlite", "p50", 15),
            ("MariaDB", "mariadb", "p50", 60),
        )
    ),
    *(
        Figure(
            text=f"start of a job for later on {title}, p99 from its time, ms",
            wanted=50,
            at_least=False,
            measured=value(database, PICKUP, LATER),
        )
        for title, database in TITLES
    ),
    Figure(
        text="SQLite: plain to the bare loop",
        wanted=0.4,
        measured=ratio("sqlite", ONE, PLAIN.name, BARE.name),
    ),
    Figure(
        text="MariaDB: plain to the bare loop",
        wanted=0.6,
        measured=ratio("mariadb", ONE, PLAIN.name, BARE.name),
    ),
    Figure(
        text="claim of 100 with the worst of the large tables, to 10,000 rows",
        wanted=2,
        at_least=False,
        measured=largest([CLAIM], list(TABLES), SMALL_TABLE),
    ),
    Figure(
        text="claim of 100 after half a million jobs and autovacuum, to 10,000 rows",
        wanted=3,
        at_least=False,
        measured=largest([CLAIM], [AFTER_VACUUM], SMALL_TABLE),
    ),
    Figure(
        text="the worst of `queue_depth`, `delete_old_jobs` and the rescue among a million finished"
        " jobs, to 10,000 rows",
        wanted=2,
        at_least=False,
        measured=largest(list(UPKEEP), [FINISHED], SMALL_TABLE),
    ),
    Figure(
        text="tasks of 50 ms with `--concurrency 20`, per second",
        wanted=300,
        measured=value(_PG, WAITS, WAITING.name),
    ),
    Figure(
        text="a worker's memory after 200,000 jobs, to after 50,000",
        wanted=1.05,
        at_least=False,
        measured=lambda results: memory(results, compare_to_first=True),
    ),
    Figure(
        text="a worker's memory to a bare process with `django.setup()`",
        wanted=1.3,
        at_least=False,
        measured=lambda results: memory(results, compare_to_first=False),
    ),
]


def verdicts(results: Results) -> str:
    """Return the table of all figures, in Markdown."""
    rows = [figure.verdict(results) for figure in FIGURES]
    return "\n".join(["| | wanted | measured | reached |", "| --- | ---: | ---: | --- |", *rows])
