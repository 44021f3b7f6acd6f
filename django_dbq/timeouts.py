"""The end of a task's time: ``TaskTimeout``, raised in the task wherever it runs, once.

- In the main thread by an alarm of the system, which also interrupts sleep and system calls.
- In other threads by a watchdog, which Python allows to raise only between two instructions: what
  a library waits for in C has to come back first.
- In a coroutine by cancelling what it awaits; the ``TaskTimeout`` comes out of it.

None of them ends a task that is stuck in C, or that goes on after an ``except Exception``.
"""

import asyncio
import ctypes
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from types import FrameType, TracebackType
from typing import Any, TypeVar

from django_dbq.errors import TaskTimeout

T = TypeVar("T")


def time_limit(seconds: float | None) -> AbstractContextManager[None]:
    """Raise ``TaskTimeout`` in the block once it has taken so long; None leaves it its time.

    Never afterwards: what comes too late for the block does not come at all. Limits in one thread
    cannot be nested. A block that sets an alarm (``SIGALRM``) of its own loses this one.
    """
    if seconds is None:
        return _UNLIMITED
    if threading.current_thread() is threading.main_thread():
        return _Alarm(seconds)
    return _Watched(seconds)


async def awaited_within(coroutine: Coroutine[Any, Any, T], seconds: float | None) -> T:
    """Return what the coroutine does, or raise ``TaskTimeout`` once it has taken so long.

    The coroutine itself is cancelled, as by ``asyncio.timeout``.
    """
    if seconds is None:
        return await coroutine
    its_own: TimeoutError | None = None
    try:
        async with asyncio.timeout(seconds):
            try:
                return await coroutine
            except TimeoutError as error:
                its_own = error
                raise
    except TimeoutError as error:
        if error is its_own:
            raise
        # The cause tells where the coroutine was.
        raise TaskTimeout.after(seconds) from error.__cause__


_UNLIMITED = nullcontext()


class _Alarm(AbstractContextManager[None]):
    """A limit for the main thread, in which a signal handler may raise."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._is_over = False

    def __enter__(self) -> None:
        self._begun = time.monotonic()
        # A timer that somebody else has set is stopped first: it would ring the wrong bell.
        self._previous_timer = signal.setitimer(signal.ITIMER_REAL, 0)
        self._previous_handler = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_: object) -> None:
        self._end()

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        if not self._is_over:
            # Here, since it may ring where nothing else would do it: on the way out of __enter__.
            self._end()
            raise TaskTimeout.after(self.seconds)

    def _end(self) -> None:
        """Put back what was there before. Up to the second line it may ring, and then not again."""
        if self._is_over:
            return
        self._is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._previous_handler is not None:  # one that was not set from Python
            signal.signal(signal.SIGALRM, self._previous_handler)
        left, interval = self._previous_timer
        if left:
            left = max(left - (time.monotonic() - self._begun), 0.000_001)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


class _Watched(AbstractContextManager[None]):
    """A limit for any other thread, in which the watchdog raises."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.thread = threading.get_ident()
        self.deadline = math.inf
        self.has_rung = False

    def __enter__(self) -> None:
        _watchdog.watch(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            _watchdog.leave(self)
        except TaskTimeout:
            # It came just now, and too late: the block has ended, and it cannot come twice.
            return
        if self.has_rung and isinstance(error, TaskTimeout):
            error.args = TaskTimeout.after(self.seconds).args


class _Watchdog:
    """One thread for the limits of all other threads. It is started for the first of them.

    A limit rings under the lock, and so does a block leave: it rings before a block has left, or
    never. What rang, but has not been raised when the block leaves, is taken back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._limits: dict[int, _Watched] = {}
        # Not the condition's own `with`, in which an exception could leave it locked.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._wakes_at = math.inf

    def watch(self, limit: _Watched) -> None:
        """Let the limit ring when its time is over."""
        with self._lock:
            limit.deadline = self.clock() + limit.seconds
            self._limits[limit.thread] = limit
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dbq-watchdog", daemon=True)
                self._thread.start()
            elif limit.deadline < self._wakes_at:
                self._changed.notify()

    def leave(self, limit: _Watched) -> None:
        """See to it that the limit does not ring any more, nor is heard if it has.

        What has rung may still be raised in here, but not afterwards.
        """
        with self._lock:
            if limit.has_rung:
                _raise_in(limit.thread, None)
            self._limits.pop(limit.thread, None)

    def _run(self) -> None:
        with self._lock:
            while True:
                now = self.clock()
                for limit in [each for each in self._limits.values() if each.deadline <= now]:
                    self._ring(limit)
                deadlines = [each.deadline for each in self._limits.values()]
                self._wakes_at = min(deadlines, default=math.inf)
                self._changed.wait(self._wakes_at - now if deadlines else None)

    def _ring(self, limit: _Watched) -> None:
        del self._limits[limit.thread]
        limit.has_rung = True
        _raise_in(limit.thread, TaskTimeout)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Have Python raise the error in that thread as soon as it can; None takes it back."""
    raised = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


_watchdog = _Watchdog()


def _begin_anew() -> None:
    global _watchdog
    _watchdog = _Watchdog()


# A child has none of its parent's threads, and perhaps a lock that one of them held.
os.register_at_fork(after_in_child=_begin_anew)
