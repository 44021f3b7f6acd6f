"""The attempts that failed."""

from __future__ import annotations

from datetime import datetime

from django.db import models

from django_dbq.conf import NAME_LENGTH
from django_dbq.models.job import Job


class Failure(models.Model):
    """One attempt at a task that failed, or whose worker was lost.

    Written together with the outcome of the attempt; an attempt that succeeds leaves none. It goes
    when its job is deleted.
    """

    job: models.ForeignKey[Job, Job] = models.ForeignKey(
        # No constraint in the database: who deletes jobs in SQL, or empties the table, can go on.
        Job,
        on_delete=models.CASCADE,
        related_name="failures",
        db_constraint=False,
    )
    failed: models.DateTimeField[datetime, datetime] = models.DateTimeField()
    #: Host and process id.
    worker: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    task: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    attempt: models.IntegerField[int, int] = models.IntegerField()
    #: What went wrong, in one line.
    exception: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    traceback: models.TextField[str, str] = models.TextField()

    def __str__(self) -> str:
        return f"attempt {self.attempt} at {self.task}: {self.exception}"
