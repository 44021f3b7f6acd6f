"""One process that creates and counts the jobs of many drains, each of which is over in a second.

To start a process for each, with Django in it, took longer than the drains themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:  # the workers import this too, and their memory is measured
    from benchmarks.contenders import Contender


class Attendant:
    """Runs what contenders do beside the work, on the database at ``url``: a context manager.

    Those of ours that have the same command share one process, which stays and has the environment
    of none of them; the others are run once for each verb.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._processes: dict[Sequence[str], subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.communicate()  # which ends its input, and so the process

    def run(self, contender: Contender, verb: str, *arguments: object) -> str:
        """Run one of the contender's verbs, and return what it says."""
        environment = {"DATABASE_URL": self.url, "DBQ_BENCHMARK_RECORD": os.devnull}
        if not contender.is_ours:
            return contender.run(verb, *arguments, environment=environment)
        command = tuple(contender.command)
        if command not in self._processes:
            self._processes[command] = subprocess.Popen(
                [*command, "attend"],
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        process = self._processes[command]
        assert process.stdin
        assert process.stdout
        answer = ""
        with suppress(BrokenPipeError):  # it has ended already
            print(verb, contender.kind, *arguments, file=process.stdin, flush=True)
            answer = process.stdout.readline()
        if not answer:
            del self._processes[command]
            process.communicate()
            status = process.returncode
            raise RuntimeError(f"{contender.name}: {verb} has failed, with exit status {status}")
        return answer


def attend(run: Callable[[list[str]], object]) -> None:
    """Be the process that stays: run each line of the input, and print a line with what it gave.

    ``run`` is to leave no connection open: drains are to begin as if it were not there.
    """
    for line in sys.stdin:
        with redirect_stdout(sys.stderr):  # what else is printed is no answer
            answer = run(line.split())
        print(answer, flush=True)
