"""The row that a worker keeps while it lives."""

from __future__ import annotations

import os
import socket
import uuid
from datetime import datetime
from typing import Any

from django.db import models

from django_dbq.conf import NAME_LENGTH


class Worker(models.Model):
    """A worker process that lives, or was lost and has not been forgotten yet.

    All times are the database's. A worker that ends takes its row with it.
    """

    id: models.UUIDField[uuid.UUID, uuid.UUID] = models.UUIDField(primary_key=True)
    host: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    pid: models.IntegerField[int, int] = models.IntegerField()
    queues: models.JSONField[Any, Any] = models.JSONField()
    #: Of django-dbq.
    version: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    started: models.DateTimeField[datetime, datetime] = models.DateTimeField()
    #: A lost worker is one in whose row this has not changed for its lease.
    last_seen: models.DateTimeField[datetime, datetime] = models.DateTimeField()
    #: Seconds.
    lease: models.FloatField[float, float] = models.FloatField()
    #: No job that the worker held when it was last seen was claimed before this.
    held_since: models.DateTimeField[datetime, datetime] = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


def name_of_this_process() -> str:
    """Return the name by which records speak of this worker: its host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"
