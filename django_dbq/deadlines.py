"""When the tasks of a worker must have ended at the latest, for its supervisor to see."""

import math
import mmap
import struct
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

#: Seconds over its timeout after which a task, that did not react to it, ends with its process.
REACTION_SECONDS = 5

_FORMAT = struct.Struct("d")


class Deadlines:
    """The earliest deadline of a worker's tasks, in memory that it shares with its parent.

    Made before the fork; written by the child, read by the parent. Both have the same clock.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _FORMAT.size)
        self._times: dict[object, float] = {}
        self._lock = threading.Lock()
        self._write()

    @property
    def earliest(self) -> float:
        """The time, of ``time.monotonic()``, at which a task is overdue; infinity for none."""
        time_: float = _FORMAT.unpack_from(self._memory)[0]
        return time_

    @contextmanager
    def task(self, seconds: float) -> Generator[None, None, None]:
        """Note the deadline of a task that may take so many seconds, while the block lasts."""
        key = object()
        try:
            with self._lock:
                self._times[key] = time.monotonic() + seconds + REACTION_SECONDS
                self._write()
            yield
        finally:
            with self._lock:
                self._times.pop(key, None)
                self._write()

    def _write(self) -> None:
        _FORMAT.pack_into(self._memory, 0, min(self._times.values(), default=math.inf))
