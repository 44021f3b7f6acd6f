"""How a worker is asked to stop: signals that count, and an end to waiting for it."""

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType

from django_dbq.bell import Bell

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: Seconds that a second request gives the worker to hand back what it has.
PATIENCE = 5


class StopRequests:
    """How often this process was asked to stop; each request rings the bell.

    A signal handler runs between any two instructions of the main thread, so this one only counts,
    puts and rings: locks might be held by the very code that it interrupts, while
    ``SimpleQueue.put`` may even interrupt itself.
    """

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.count = 0
        self._first = 0.0
        self._counts: SimpleQueue[int] = SimpleQueue()

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def seconds(self) -> float:
        """For how long there has been a request; 0 if there is none."""
        return time.monotonic() - self._first if self.count else 0.0

    def request(self, signum: int = signal.SIGTERM, _: FrameType | None = None) -> None:
        """Ask the worker to stop; asked again, to leave at once. This is the signal handler."""
        self._first = self._first or time.monotonic()
        self.count += 1
        self._counts.put(self.count)
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
        previous = {number: signal.signal(number, self.request) for number in SIGNALS if is_main}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._counts.put(0)
            thread.join()

    def _watch(self) -> None:
        """Leave, if who was asked to leave at once does not: the database may not answer it."""
        while count := self._counts.get():
            if count > 1:
                try:
                    ended = self._counts.get(timeout=PATIENCE) == 0
                except Empty:
                    ended = False
                if not ended:
                    leave_at_once()
                return


def leave_at_once() -> None:
    """End the process without waiting for the tasks that run in it."""
    os._exit(1)
