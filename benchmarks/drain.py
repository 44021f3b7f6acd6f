"""How many jobs a second one or more worker processes start, from the first start to the last."""

import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.attendant import Attendant
from benchmarks.contenders import Contender
from benchmarks.recording import NOTE
from benchmarks.results import Series


class Unaccounted(Exception):
    """Jobs were lost, or run twice: what was measured is worth nothing."""


def take_turns(
    contenders: Sequence[Contender], *, jobs: int, processes: int, rounds: int, url: str
) -> dict[str, list[float]]:
    """Return the starts per second, by contender and round; all of them take turns.

    ``jobs``: starts for each, unless a contender has a number of its own.
    """
    rates: dict[str, list[float]] = {each.name: [] for each in contenders}
    with Attendant(url) as attendant:
        for number in range(rounds):
            # The one that goes first finds the machine in another state than the others.
            first = number % len(contenders)
            for each in [*contenders[first:], *contenders[:first]]:
                count = each.jobs or jobs // each.starts
                rate = drain(each, jobs=count, processes=processes, attendant=attendant)
                rates[each.name].append(round(rate))
    return rates


def drains(
    contenders: Sequence[Contender],
    *,
    database: str,
    measurement: str,
    jobs: int,
    processes: int,
    rounds: int,
    url: str,
) -> list[Series]:
    """Return the series of contenders that take turns; the first is what they are compared to."""
    rates = take_turns(contenders, jobs=jobs, processes=processes, rounds=rounds, url=url)
    return [
        Series(
            database=database,
            measurement=measurement,
            contender=name,
            unit="starts/s",
            values=values,
            baseline=contenders[0].name if len(contenders) > 1 else None,
        )
        for name, values in rates.items()
    ]


def drain(contender: Contender, *, jobs: int, processes: int, attendant: Attendant) -> float:
    """Return the starts per second; every start is reconciled with the table afterwards."""
    with tempfile.TemporaryDirectory(prefix="dbq-drain-") as directory:
        record, gate = Path(directory, "record"), Path(directory, "gate")
        record.touch()
        environment = {
            "DATABASE_URL": attendant.url,
            "DBQ_BENCHMARK_RECORD": str(record),
            "DBQ_BENCHMARK_GATE": str(gate),
        }
        attendant.run(contender, "create", jobs)
        workers = [contender.start(environment=environment) for _ in range(processes)]
        try:
            if contender.is_ours:
                _wait(lambda: len(list(Path(directory).glob("gate.*"))) == processes, workers)
            gate.touch()
            _wait(lambda: record.stat().st_size > 0, workers)
            begin, already = time.perf_counter(), record.stat().st_size // NOTE
            _wait(lambda: record.stat().st_size >= jobs * contender.starts * NOTE, workers)
            seconds = time.perf_counter() - begin
            _wait(lambda: int(attendant.run(contender, "left")) == 0, workers, pause=0.05)
        finally:
            _end(workers)
        starts = Counter(record.read_text().split())
        if len(starts) != jobs or set(starts.values()) != {contender.starts}:
            raise Unaccounted(
                f"{contender.name}: {jobs} jobs, {starts.total()} starts of {len(starts)}, from"
                f" {min(starts.values())} to {max(starts.values())} of one"
            )
        return (jobs * contender.starts - already) / seconds


def _wait(
    condition: Callable[[], bool],
    workers: Sequence["subprocess.Popen[bytes]"],
    *,
    pause: float = 0.002,
    timeout: float = 120,
) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the contender does not get on")
        # The bare loop ends with the last job.
        if any(worker.poll() for worker in workers):
            raise RuntimeError("a worker of the contender has failed")
        time.sleep(pause)


def _end(workers: Sequence["subprocess.Popen[bytes]"]) -> None:
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        try:
            worker.wait(timeout=15)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
