"""How a worker is asked to stop: signals that count, and a thread that acts on them at once."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class StopRequests:
    """How often this process was asked to stop, and a sleep that a request cuts short.

    A signal handler runs between any two instructions of the main thread, so this one only counts
    and puts: locks might be held by the very code that it interrupts, while ``SimpleQueue.put`` may
    even interrupt itself.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sleeper: SimpleQueue[int] = SimpleQueue()
        self._watcher: SimpleQueue[int] = SimpleQueue()

    def __bool__(self) -> bool:
        return self.count > 0

    def request(self, signum: int = signal.SIGTERM, _: FrameType | None = None) -> None:
        """Ask the worker to stop; asked again, to leave at once. This is the signal handler."""
        self.count += 1
        self._sleeper.put(self.count)
        self._watcher.put(self.count)

    def sleep(self, seconds: float) -> None:
        """Return after that many seconds, or as soon as a stop is requested."""
        with suppress(Empty):
            self._sleeper.get(timeout=seconds)

    @contextmanager
    def watched(self, act: Callable[[int], None]) -> Generator[None, None, None]:
        """Listen to the signals, and call ``act`` with the count of each request, in a thread.

        The thread can act while the main one is inside a task. Where this is no main thread, which
        alone can have signal handlers, ``request`` has to be called instead.
        """
        thread = threading.Thread(target=self._watch, args=[act], name="dbq-stop", daemon=True)
        thread.start()
        is_main = threading.current_thread() is threading.main_thread()
        previous = {number: signal.signal(number, self.request) for number in SIGNALS if is_main}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._watcher.put(0)
            thread.join()

    def _watch(self, act: Callable[[int], None]) -> None:
        while count := self._watcher.get():
            act(count)


def leave_at_once() -> None:
    """End the process without waiting for the task that runs in its main thread."""
    os._exit(1)
