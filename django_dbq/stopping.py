"""How a worker is asked to stop: signals that count, and an end to waiting for it."""

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from types import FrameType

from django_dbq.bell import Bell, pipe_of, wait_for_files

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: Seconds that a second request gives the worker to hand back what it has.
PATIENCE = 5
#: The exit status of a worker that did not wait for its tasks to end.
CUT_SHORT = 1

_LOOK, _END = b"\xfe", b"\xff"


class StopRequests:
    """How often this process was asked to stop; each request rings the bell.

    The system writes the number of each signal to a pipe, which a thread reads: so a request is
    heard while the main thread is busy in C, where no handler of Python's could run, and nothing
    has to be done between two of its instructions. ``grace``: seconds after which the first
    request counts as a second one; None for never.
    """

    def __init__(self, bell: Bell, *, grace: float | None = None) -> None:
        self.bell = bell
        self.grace = grace
        self.count = 0
        self._first = self._second = 0.0
        self._reader, self._writer = pipe_of(self)
        os.set_blocking(self._writer, False)

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def seconds(self) -> float:
        """For how long there has been a request; 0 if there is none."""
        return time.monotonic() - self._first if self.count else 0.0

    def request(self) -> None:
        """Ask the worker to stop; asked again, to leave at once."""
        now = time.monotonic()
        self._first = self._first or now
        self.count += 1
        if self.count == 2:
            self._second = now
        os.write(self._writer, _LOOK)
        self.bell.ring()

    @contextmanager
    def watched(self) -> Generator[None, None, None]:
        """Listen to the signals; see to it that a second request does end the process.

        Where this is no main thread, which alone can have signal handlers, ``request`` has to be
        called instead.
        """
        thread = threading.Thread(target=self._watch, name="dbq-stop", daemon=True)
        thread.start()
        is_main = threading.current_thread() is threading.main_thread()
        try:
            with self._heard_signals() if is_main else nullcontext():
                yield
        finally:
            os.write(self._writer, _END)
            thread.join()

    @contextmanager
    def _heard_signals(self) -> Generator[None, None, None]:
        """Have the system write the signals to the pipe, and do nothing else about them."""
        # The pipe is there before the handlers and after them, which would let a signal get lost.
        pipe = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        _pipes.append(self._writer)
        previous = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            for number in SIGNALS:
                signal.signal(number, _hear)
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(pipe)
            _pipes.remove(self._writer)

    def _watch(self) -> None:
        """Count the requests; leave, if who was asked to leave at once does not."""
        while _END not in (heard := self._heard()):
            for number in heard:
                if number in SIGNALS:
                    self.request()
            if heard:
                continue
            if self.count > 1:  # the database may not answer, or the main thread not come back
                leave_at_once()
            self.request()

    def _heard(self) -> bytes:
        """Return what the pipe has; nothing, when the time for what was asked is over."""
        until = None
        if self.count > 1:
            until = self._second + PATIENCE
        elif self.count and self.grace is not None:
            until = self._first + self.grace
        seconds = None if until is None else max(0.0, until - time.monotonic())
        return os.read(self._reader, 4096) if wait_for_files(seconds, self._reader) else b""


def _hear(number: int, frame: FrameType | None) -> None:
    """Do nothing: a handler there must be, for the signal to be written to the pipe."""


class _Mask(threading.local):
    """The signals that a thread had blocked before it forked, while that is under way."""

    before: set[int] | None = None


_mask = _Mask()
#: Those to which signals are written in this process.
_pipes: list[int] = []


def _before_fork() -> None:
    # Else one that the child gets too soon would be written to the pipe, and go no further.
    if _pipes:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _after_fork() -> None:
    if _mask.before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)
        _mask.before = None


def _after_fork_in_child() -> None:
    """Let signals end a process that a task has forked; the worker's pipe is not for them."""
    if _pipes:
        # Unless the task listens by a pipe of its own, as an event loop does.
        if (pipe := signal.set_wakeup_fd(-1)) not in _pipes:
            signal.set_wakeup_fd(pipe)
        _pipes.clear()
        for number in SIGNALS:
            if signal.getsignal(number) is _hear:
                signal.signal(number, signal.SIG_DFL)
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)


def leave_at_once() -> None:
    """End the process without waiting for the tasks that run in it."""
    os._exit(CUT_SHORT)
