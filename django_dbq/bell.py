"""A bell that one thread waits for, together with other files, and any thread rings."""

import os
import select


class Bell:
    """Wakes the one thread that waits for it. Rung while nobody waits, it is heard later."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
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
        readable = select.select([self._reader, *files], [], [], seconds)[0]
        if self._reader in readable:
            os.read(self._reader, 4096)
            # After the read: a ring in between is heard by what the caller looks at next.
            self._rung = False
        return bool(readable)

    def close(self) -> None:
        """Give the files back."""
        os.close(self._reader)
        os.close(self._writer)
