"""Who takes turns in a drain: the bare loop, django-dbq in some ways, and the peers."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.peers.environments import ON_REDIS, PEERS, NoPython, python_of, script_of


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that works off jobs: a command with ``create``, ``left`` and ``work``.

    ``kind``: of job, which the command is told, if it has any. ``starts``: how many starts each job
    notes. ``jobs``: how many are a few seconds of work, where that is fewer than for the others.
    ``is_ours``: whether its command is a module here: its workers wait for the gate, and it has
    ``attend`` as well.
    """

    name: str
    command: Sequence[str]
    kind: str | None = "plain"
    starts: int = 1
    jobs: int | None = None
    is_ours: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def words(self, verb: str, *arguments: object) -> list[str]:
        """Return the command line of one of the subcommands."""
        kind = [] if self.kind is None else [self.kind]
        return [*self.command, verb, *kind, *map(str, arguments)]

    def run(self, verb: str, *arguments: object, environment: Mapping[str, str]) -> str:
        """Run one of the subcommands, and return what it prints."""
        return subprocess.run(
            self.words(verb, *arguments),
            env={**os.environ, **self.environment, **environment},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def start(self, *, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Start a worker."""
        return subprocess.Popen(
            self.words("work"), env={**os.environ, **self.environment, **environment}
        )


BARE = Contender(name="the bare loop", command=[sys.executable, "-m", "benchmarks.bare"])

_OURS = [sys.executable, "-m", "benchmarks.ours"]
PLAIN = Contender(name="plain", command=_OURS)
TYPED = Contender(name="typed", command=_OURS, kind="typed")
#: Plain jobs with the workspace that the typed ones have.
LIKE_TYPED = Contender(name="plain, workspace as typed", command=_OURS, kind="like_typed")
THREE = Contender(name="three tasks each", command=_OURS, kind="three", starts=3)
CHANGING = Contender(name="workspace changed", command=_OURS, kind="changing")
WAITING = Contender(
    name="tasks of 50 ms, --concurrency 20",
    command=_OURS,
    kind="wait",
    jobs=1000,
    environment={"DBQ_BENCHMARK_CONCURRENCY": "20"},
)

#: How many jobs each peer gets on its way.
_PEER_JOBS = {
    "django_tasks_db": 500,
    "dj_queue": 2000,
    "procrastinate": 2000,
    "oban": 8000,
    "celery": 4000,
    "huey": 8000,
}


def peer(name: str, python: str, environment: Mapping[str, str]) -> Contender:
    """Return the peer of that name as a contender."""
    return Contender(
        name=name,
        command=[python, str(script_of(name))],
        kind=None,
        jobs=_PEER_JOBS[name],
        is_ours=False,
        environment=environment,
    )


@contextmanager
def peers(redis: str | None, missing: list[str]) -> Iterator[list[Contender]]:
    """Give the peers that can run here; ``missing`` gets a line for each that cannot."""
    found: list[Contender] = []
    for name in PEERS:
        if name in ON_REDIS and redis is None:
            missing.append(f"{name}: no Redis answers, and redis-server is not installed")
            continue
        try:
            python = str(python_of(name))
        except (NoPython, subprocess.CalledProcessError) as error:
            missing.append(f"{name}: {error}")
            continue
        found.append(peer(name, python, {"REDIS_URL": redis} if redis else {}))
    yield found
