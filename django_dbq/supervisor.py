"""``--processes N``: workers as child processes, kept at their number."""

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple, NoReturn

from django.db import connections

from django_dbq.backends import backend_for
from django_dbq.logs import logfmt
from django_dbq.models import Worker
from django_dbq.stopping import SIGNALS

logger = logging.getLogger(__name__)

#: Seconds between two looks at the children.
INTERVAL = 0.05
#: Seconds that a worker has to live not to count as one that cannot start.
SHORTEST_LIFE = 5
#: Seconds before a worker that could not start is replaced: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30


class Child(NamedTuple):
    """A worker process: the id by which rows name it, and when it was started."""

    worker_id: uuid.UUID
    begun: float


class Supervisor:
    """Runs workers in processes of their own, and replaces those that die.

    ``processes``: how many. ``work``: runs the worker of that id, in its process. ``using``: the
    database. ``replacing``: whether a worker that has ended by itself, without an error, is
    replaced as well. What a dead worker held is handed on at once. Signals are passed on. The
    terminal's Ctrl-C reaches the supervisor alone, so that a worker hears of it once.
    """

    def __init__(
        self, *, processes: int, work: Callable[[uuid.UUID], object], using: str, replacing: bool
    ) -> None:
        self.wanted = processes
        self.work = work
        self.using = using
        self.replacing = replacing
        self.stopping = False
        self.failed = False
        self._children: dict[int, Child] = {}
        self._pause = 0.0
        self._next_start = 0.0
        # The system closes the writing end when the supervisor is gone, however it went.
        self._lifeline, self._writing_end = os.pipe()

    def run(self) -> int:
        """Supervise until no worker is left; return the exit status: 1 if one failed to stop."""
        previous = {number: signal.signal(number, self._pass_on) for number in SIGNALS}
        try:
            while self.wanted:
                if self.stopping:
                    self.wanted = len(self._children)
                elif len(self._children) < self.wanted and time.monotonic() >= self._next_start:
                    self._start()
                    continue
                if not self._reap():
                    time.sleep(INTERVAL)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(self._writing_end)
            os.close(self._lifeline)
        return int(self.failed)

    def _start(self) -> None:
        worker_id = uuid.uuid4()
        connections.close_all()  # no two processes may share one
        # A signal between the fork and the note of the child would be passed on to all others.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._be_worker(worker_id)
        self._children[pid] = Child(worker_id, time.monotonic())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _be_worker(self, worker_id: uuid.UUID) -> NoReturn:
        """Run a worker in this process, which has just been forked, and end it."""
        status = 1
        try:
            os.setpgid(0, 0)  # out of the terminal's reach
            os.close(self._writing_end)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            threading.Thread(target=self._end_with_supervisor, daemon=True).start()
            self.work(worker_id)
            status = 0
        except BaseException:
            logger.exception("%s", logfmt(event="worker_failed", pid=os.getpid()))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _end_with_supervisor(self) -> None:
        os.read(self._lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _reap(self) -> bool:
        """Take note of a worker that has ended; return whether there was one."""
        pid, status = os.waitpid(-1, os.WNOHANG) if self._children else (0, 0)
        if not pid:
            return False
        child = self._children.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        # One that was asked to stop before it listened to signals had not claimed anything yet.
        if code == 0 or (self.stopping and -code in SIGNALS):
            self.wanted -= not (self.replacing and not self.stopping)
            return True
        logger.error("%s", logfmt(event="worker_died", pid=pid, exit_status=code))
        has_worked = self._rescue(child)
        self.failed |= self.stopping
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
            count = backend_for(self.using).rescue(row) if row else 0
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
        self.stopping = True
        for pid in self._children:
            os.kill(pid, number)
