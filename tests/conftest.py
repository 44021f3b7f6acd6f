"""What all tests share: the databases, and real workers on them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from pytest_django.plugin import DjangoDbBlocker


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Make the test databases, as pytest-django does, and tell the processes that tests start."""
    with django_db_blocker.unblock():
        for connection in connections.all():
            # Only those exist that the chosen tests use. The file remembers its journal mode; there
            # is no setting for it before Django 5.1.
            if connection.vendor == "sqlite" and Path(connection.settings_dict["NAME"]).exists():
                with connection.cursor() as cursor:
                    cursor.execute("PRAGMA journal_mode = WAL")
    names = {connection.alias: connection.settings_dict["NAME"] for connection in connections.all()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DBQ_TEST_DATABASES", json.dumps(names))
        patch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")
        yield


@pytest.fixture
def database() -> str:
    """The vendor of the database that the tests run on: sqlite, postgresql or mysql."""
    return connections["default"].vendor


def hears_notices() -> bool:
    """Whether they run on PostgreSQL, with the driver that passes on what it is told: psycopg 3."""
    from django_dbq.backends.arrays import psycopg  # when Django is set up

    return connections["default"].vendor == "postgresql" and psycopg is not None


def pytest_markeval_namespace() -> dict[str, Any]:
    """Return what the condition of a ``skipif`` may ask, in whichever module it stands."""
    return {"hears_notices": hears_notices}


def wait_for(condition: Callable[[], bool], timeout: float = 60) -> None:
    """Return once the condition holds; fail if it does not for so many seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Clock:
    """A clock that goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def states() -> Counter[str]:
    """Return how many jobs are in each state."""
    from django_dbq.models import Job

    return Counter(Job.objects.values_list("state", flat=True))


class WorkerProcess:
    """A real worker, ``manage.py worker``, that works on the test databases."""

    def __init__(self, arguments: list[str], *, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "django", "worker", *arguments],
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """All that it has printed or logged so far."""
        return self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 60) -> int:
        """Wait for its end, and return its exit status."""
        return self.process.wait(timeout)

    def wait_for_output(self, text: str, timeout: float = 60) -> None:
        """Wait until it has printed this text."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            ended = self.process.poll() is not None
            if (ended and text not in self.output) or time.monotonic() > deadline:
                raise AssertionError(f"The worker did not print {text!r}, but:\n{self.output}")
            time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def worker_process(
    transactional_db: None, tmp_path: Path
) -> Iterator[Callable[..., WorkerProcess]]:
    """Start a worker as a process of its own: ``worker_process("mail", "--burst", USE_TZ="0")``.

    Words are the command's arguments, keywords its environment. Whatever still runs at the end of
    the test is killed.
    """
    started: list[WorkerProcess] = []

    def start(*arguments: str, **environment: str) -> WorkerProcess:
        log = tmp_path / f"worker-{len(started)}.log"
        environment = {"DBQ_TEST_LOG_LEVEL": "INFO", **environment}
        started.append(WorkerProcess([*arguments], environment=environment, log=log))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, outside of the database, in which tasks of all processes note their start."""
    path = tmp_path / "record"
    path.touch()
    monkeypatch.setenv("DBQ_TEST_RECORD", str(path))
    return path
