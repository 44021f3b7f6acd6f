"""How many jobs a second one or more worker processes run, from the first start to the last."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.recording import NOTE


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that works off jobs: a command with ``create``, ``work`` and ``left``.

    ``starts``: how many starts each job notes. ``has_gate``: whether its workers wait for the gate.
    """

    name: str
    command: Sequence[str]
    kind: str = "plain"
    starts: int = 1
    has_gate: bool = True

    def run(self, verb: str, *arguments: object, environment: dict[str, str]) -> str:
        """Run one of the subcommands, and return what it prints."""
        words = [*self.command, verb, self.kind, *map(str, arguments)]
        return subprocess.run(
            words, env=os.environ | environment, check=True, capture_output=True, text=True
        ).stdout


class Unaccounted(Exception):
    """Jobs were lost, or run twice: what was measured is worth nothing."""


def drain(contender: Contender, *, jobs: int, processes: int, url: str) -> float:
    """Return the starts per second; every start is reconciled with the table afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        record, gate = Path(directory, "record"), Path(directory, "gate")
        record.touch()
        environment = {
            "DATABASE_URL": url,
            "DBQ_BENCHMARK_RECORD": str(record),
            "DBQ_BENCHMARK_GATE": str(gate),
        }
        contender.run("create", jobs, environment=environment)
        workers = [
            subprocess.Popen(
                [*contender.command, "work", contender.kind], env=os.environ | environment
            )
            for _ in range(processes)
        ]
        try:
            if contender.has_gate:
                _wait(lambda: len(list(Path(directory).glob("gate.*"))) == processes)
            gate.touch()
            _wait(lambda: record.stat().st_size > 0)
            begin = time.perf_counter()
            _wait(lambda: record.stat().st_size >= jobs * contender.starts * NOTE)
            seconds = time.perf_counter() - begin
            _wait(lambda: int(contender.run("left", environment=environment)) == 0)
        finally:
            _end(workers)
        notes = record.read_text().split()
        if len(notes) != jobs * contender.starts or len(set(notes)) != jobs:
            raise Unaccounted(f"{contender.name}: {jobs} jobs, {len(notes)} starts")
        return jobs * contender.starts / seconds


def _wait(condition: object, timeout: float = 120) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the contender does not get on")
        time.sleep(0.002)


def _end(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        try:
            worker.wait(timeout=15)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
