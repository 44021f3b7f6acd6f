"""A bell that one thread waits for, together with other files, and any thread rings."""

import os
import select
import weakref


def pipe_of(owner: object) -> tuple[int, int]:
    """Return a pipe's two files, to read from and to write to, which are closed with the owner."""
    files = os.pipe()
    for file in files:
        weakref.finalize(owner, os.close, file)
    return files


def wait_for_files(seconds: float | None, *files: int) -> set[int]:
    """Return which of the files can be read, once some can, or none after so many seconds."""
    # Not select(), which knows no file whose number is above 1023.
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    milliseconds = None if seconds is None else min(seconds * 1000, 2**31 - 1)
    return {file for file, _ in poll.poll(milliseconds)}


class Bell:
    """Wakes the one thread that waits for it. Rung while nobody waits, it is heard later."""

    def __init__(self) -> None:
        self._reader, self._writer = pipe_of(self)
        self._rung = False

    def ring(self) -> None:
        """Let ``wait`` return; a bell that rings already is left alone, which costs nothing."""
        if not self._rung:
            self._rung = True
            os.write(self._writer, b"!")

    def wait(self, seconds: float | None, *files: int) -> bool:
        """Wait for the bell, or for one of the files, and return whether it came in that time.

        ``seconds``: how long, or None for ever. ``files``: numbers of files that may become
        readable. One thread may wait at a time.
        """
        readable = wait_for_files(seconds, self._reader, *files)
        if self._reader in readable:
            os.read(self._reader, 4096)
            # After the read: a ring in between is heard by what the caller looks at next.
            self._rung = False
        return bool(readable)
