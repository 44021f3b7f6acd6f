"""A supervisor's narrow moments; what it does all day is in ``tests/test_concurrency.py``."""

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from django.db import connection, connections
from django.utils import timezone

from django_dbq.backends import LostJobs, Wanted, backend_for
from django_dbq.deadlines import Deadlines
from django_dbq.models import Job, Worker
from django_dbq.stopping import SIGNALS
from django_dbq.supervisor import Supervisor

pytestmark = pytest.mark.django_db(transaction=True)


def nap(_: uuid.UUID, __: Deadlines) -> None:
    time.sleep(0.1)


def supervisor(processes: int = 2) -> Supervisor:
    return Supervisor(processes=processes, work=nap, using="default", replacing=False)


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    handlers = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {*SIGNALS}


@pytest.fixture
def bystander() -> Iterator[threading.Thread]:
    """A thread that blocks no signals."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    yield thread
    done.set()
    thread.join()


@pytest.mark.parametrize("to_bystander", [False, True])
def test_a_signal_while_a_child_is_reaped_is_not_sent_to_it(
    monkeypatch: pytest.MonkeyPatch, bystander: threading.Thread, to_bystander: bool
) -> None:
    receiver = bystander if to_bystander else threading.main_thread()
    own, waitpid, pids = supervisor(), os.waitpid, list[int]()

    def waitpid_and_signal(pid: int, options: int) -> tuple[int, int]:
        reaped = waitpid(pid, options)
        if reaped[0] and not pids:
            pids.append(reaped[0])
            signal.pthread_kill(receiver.ident or 0, signal.SIGTERM)
            time.sleep(0.05)
        return reaped

    sent: list[int] = []
    kill = os.kill

    def noted_kill(pid: int, number: int) -> None:
        sent.append(pid)
        kill(pid, number)

    monkeypatch.setattr(os, "waitpid", waitpid_and_signal)
    monkeypatch.setattr(os, "kill", noted_kill)
    assert own.run() == 0
    assert own.requests == 1
    assert pids[0] not in sent


def test_no_child_is_started_by_one_that_was_just_asked_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody would tell it, and the supervisor would wait for its end for ever."""
    forks: list[int] = []
    fork = os.fork

    def noted_fork() -> int:
        forks.append(1)
        return fork()

    monkeypatch.setattr(os, "fork", noted_fork)
    monkeypatch.setattr(
        "django_dbq.supervisor._close_connections", lambda: signal.raise_signal(signal.SIGTERM)
    )
    assert supervisor().run() == 0
    assert forks == []


def test_a_child_that_is_gone_is_no_error() -> None:
    own = supervisor(1)
    own._start()
    [pid] = own._children
    os.waitpid(pid, 0)
    own._pass_on(signal.SIGTERM, None)
    own._kill_at = 0
    own._kill_those_stuck()
    own._children.clear()
    assert own.run() == 0


def test_a_fork_that_fails_leaves_no_signal_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError("too many processes")

    monkeypatch.setattr(os, "fork", fail)
    with pytest.raises(BlockingIOError):
        supervisor().run()


def test_a_worker_ends_as_it_did_though_nobody_reads_what_it_prints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(sys.stdout, "flush", fail)
    assert supervisor().run() == 0


@pytest.fixture
def _without_transaction_mode(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connect as projects do that do not set it, or whose Django has no such option."""
    connection.close()
    options = connection.settings_dict["OPTIONS"]
    monkeypatch.delitem(options, "transaction_mode", raising=False)
    yield
    connection.close()
    vars(connection).pop("_start_transaction_under_autocommit", None)


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="only SQLite locks the whole file")
@pytest.mark.usefixtures("_without_transaction_mode")
def test_a_rescue_begins_with_the_lock_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads first, and would be refused when others have written meanwhile."""
    Job.objects.create(name="noop")
    is_still_lost, threads = LostJobs._is_still_lost, list[threading.Thread]()

    def write() -> None:
        Job.objects.create(name="noop")
        connections.close_all()

    def is_still_lost_and_write(self: LostJobs, row: Worker) -> bool:
        found = is_still_lost(self, row)
        if not threads:
            threads.append(threading.Thread(target=write))
            threads[0].start()
            threads[0].join(0.5)
        return found

    def die_once(worker_id: uuid.UUID, _: Deadlines) -> None:
        if Worker.objects.exists():
            return
        now = timezone.now()
        Worker.objects.create(
            id=worker_id, host="here", pid=7, queues=[], version="0", started=now, last_seen=now,
            held_since=now, lease=40,
        )  # fmt: skip
        backend_for("default").claim(Wanted(["default"], ["noop"], 1, worker_id))
        os._exit(3)

    monkeypatch.setattr(LostJobs, "_is_still_lost", is_still_lost_and_write)
    own = Supervisor(processes=1, work=die_once, using="default", replacing=False)
    assert own.run() == 0
    threads[0].join()
    assert sorted(Job.objects.values_list("state", "losses")) == [("NEW", 0), ("READY", 1)]
