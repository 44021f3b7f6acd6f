"""Ids of new rows: UUIDv7 (RFC 9562), so that what is created together lies together on disk."""

import os
import time
import uuid


def uuid7() -> uuid.UUID:
    """Return a UUID that begins with the time in microseconds, and is random for the rest."""
    micros, nanos = divmod(time.time_ns(), 1000)
    millis, micros = divmod(micros, 1000)
    # Where version 7 allows for more of the time: 12 bits of the millisecond (6.2, method 3).
    fraction = (micros * 1000 + nanos) * 4096 // 1_000_000
    random = int.from_bytes(os.urandom(8)) & (1 << 62) - 1
    return uuid.UUID(int=millis << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | random)
