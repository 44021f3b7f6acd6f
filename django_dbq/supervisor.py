"""``--processes N``: workers as child processes, kept at their number."""

import logging
import math
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NamedTuple, NoReturn

from django.db import connections

from django_dbq.backends import LostJobs, backend_for
from django_dbq.deadlines import Deadlines
from django_dbq.logs import logfmt
from django_dbq.models import Worker
from django_dbq.stopping import PATIENCE, SIGNALS

logger = logging.getLogger(__name__)

#: Seconds between two looks at the children.
INTERVAL = 0.05
#: Seconds that a worker has to live not to count as one that cannot start.
SHORTEST_LIFE = 5
#: Seconds before a worker that could not start is replaced: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30


class Child(NamedTuple):
    """A worker process: the id by which rows name it, when it was started, what it must keep."""

    worker_id: uuid.UUID
    begun: float
    deadlines: Deadlines


class Supervisor:
    """Runs workers in processes of their own, and replaces those that die.

    ``processes``: how many. ``work``: runs the worker of that id, in its process; its tasks note
    their deadlines, and it is killed when one is over. ``using``: the
    database. ``grace``: for how many seconds running tasks may go on when asked to stop.
    ``replacing``: whether a worker that has ended by itself, without an error, is
    replaced as well. What a dead worker held is handed on at once. Signals are passed on. The
    terminal's Ctrl-C reaches the supervisor alone, so that a worker hears of it once.
    """

    def __init__(
        self,
        *,
        processes: int,
        work: Callable[[uuid.UUID, Deadlines], object],
        using: str,
        replacing: bool,
        grace: float | None = None,
    ) -> None:
        self.wanted = processes
        self.work = work
        self.using = using
        self.replacing = replacing
        self.grace = grace
        self.requests = 0
        #: When a worker that was asked to stop, and is still there, is killed.
        self._kill_at = math.inf
        self.failed = False
        self._held_back: list[int] | None = None
        self._children: dict[int, Child] = {}
        self._pause = 0.0
        self._next_start = 0.0
        # The system closes the writing end when the supervisor is gone, however it went.
        self._lifeline, self._writing_end = os.pipe()

    def run(self) -> int:
        """Supervise until no worker is left; return the exit status: 1 if one failed to stop."""
        backend_for(self.using).prepare_process()  # for what it does when a worker dies
        previous = {number: signal.signal(number, self._pass_on) for number in SIGNALS}
        try:
            while self.wanted:
                if self.requests:
                    self.wanted = len(self._children)
                    self._kill_those_stuck()
                elif len(self._children) < self.wanted and time.monotonic() >= self._next_start:
                    self._start()
                    continue
                self._kill_those_overdue()
                if not self._reap():
                    time.sleep(INTERVAL)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(self._writing_end)
            os.close(self._lifeline)
        return int(self.failed)

    def _start(self) -> None:
        worker_id, deadlines = uuid.uuid4(), Deadlines()
        _close_connections()
        # A signal between the fork and the note of the child would be passed on to all others.
        with self._signals_held_back():
            if self.requests:  # since the last look: those who were there have been told
                return
            pid = os.fork()
            if pid == 0:
                self._be_worker(worker_id, deadlines)
            self._children[pid] = Child(worker_id, time.monotonic(), deadlines)

    def _be_worker(self, worker_id: uuid.UUID, deadlines: Deadlines) -> NoReturn:
        """Run a worker in this process, which has just been forked, and end it."""
        status = 1
        try:
            os.setpgid(0, 0)  # out of the terminal's reach
            os.close(self._writing_end)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            threading.Thread(target=self._end_with_supervisor, daemon=True).start()
            self.work(worker_id, deadlines)
            status = 0
        except BaseException:
            logger.exception("%s", logfmt(event="worker_failed", pid=os.getpid()))
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # of a pipe that nobody reads any more
                    stream.flush()
            os._exit(status)

    def _end_with_supervisor(self) -> None:
        os.read(self._lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _reap(self) -> bool:
        """Take note of a worker that has ended; return whether there was one."""
        # A signal in between would be passed on to a process that is not there any more.
        with self._signals_held_back():
            pid, status = os.waitpid(-1, os.WNOHANG) if self._children else (0, 0)
            child = self._children.pop(pid, None)
        if child is None:
            return pid != 0
        code = os.waitstatus_to_exitcode(status)
        # One that was asked to stop before it listened to signals had not claimed anything yet.
        if code == 0 or (self.requests and -code in SIGNALS):
            self.wanted -= not (self.replacing and not self.requests)
            return True
        logger.error("%s", logfmt(event="worker_died", pid=pid, exit_status=code))
        has_worked = self._rescue(child)
        self.failed |= self.requests > 0
        if has_worked or time.monotonic() - child.begun >= SHORTEST_LIFE:
            self._pause = 0
        else:
            self._pause = min(self._pause * 2, LONGEST_PAUSE) or FIRST_PAUSE
        self._next_start = time.monotonic() + self._pause
        return True

    def _rescue(self, child: Child) -> bool:
        """Let other workers have what a dead one held, without waiting for its lease.

        Its row stays, for its last statement may still be carried out. Returns whether it had one:
        then it could start, and was killed at its work.
        """
        row = None
        try:
            row = Worker.objects.using(self.using).filter(pk=child.worker_id).first()
            count = LostJobs(backend_for(self.using)).rescue(row) if row else 0
        except Exception:
            # Whoever lives will do it when the worker has not reported for long.
            logger.exception("event=rescue_failed")
        else:
            logger.warning("%s", logfmt(event="jobs_rescued", count=count, worker=row))
        finally:
            connections.close_all()
        return row is not None

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        """Pass a signal on to all workers. This is the signal handler."""
        if self._held_back is not None:
            self._held_back.append(number)
            return
        self.requests += 1
        patience = 0.0 if self.requests > 1 else self.grace
        if patience is not None:
            self._kill_at = min(self._kill_at, time.monotonic() + patience + 2 * PATIENCE)
        for pid in list(self._children):
            _send(pid, number)

    @contextmanager
    def _signals_held_back(self) -> Generator[None, None, None]:
        """Pass on at the end of the block what signals come meanwhile.

        They are blocked for the sake of a child that is being forked; but another thread, if there
        is one, still lets them through to the handler.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._held_back = []
        try:
            yield
        finally:
            held, self._held_back = self._held_back, None
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for number in held:
                self._pass_on(number, None)

    def _kill_those_stuck(self) -> None:
        """Kill what did not end by itself, because it is stuck where it hears no signal."""
        if time.monotonic() >= self._kill_at:
            for pid in self._children:
                _kill(pid, "it did not stop")
            self._kill_at = math.inf

    def _kill_those_overdue(self) -> None:
        """Kill whose task has not reacted to its timeout; its jobs count as lost."""
        now = time.monotonic()
        for pid, child in self._children.items():
            if now > child.deadlines.earliest:
                _kill(pid, "a task did not react to its timeout")


def _close_connections() -> None:
    """Close all connections, those of pools included: no two processes may share one."""
    connections.close_all()
    for connection in connections.all(initialized_only=True):
        close_pool: Callable[[], None] | None = getattr(connection, "close_pool", None)
        if close_pool is not None:
            close_pool()


def _kill(pid: int, reason: str) -> None:
    logger.error("%s", logfmt(event="worker_killed", pid=pid, reason=reason))
    _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
