"""The plain jobs: tasks that do nothing but note their start."""

import time

from benchmarks.recording import note, record
from django_dbq.models import Job


def noop(job: Job) -> None:
    """Do nothing."""
    record(job.id.hex)


def change(job: Job) -> None:
    """Change the workspace."""
    record(job.id.hex)
    job.workspace["count"] = job.workspace.get("count", 0) + 1


def first(job: Job) -> None:
    """Do nothing, as the first of three."""
    record(job.id.hex)


def second(job: Job) -> None:
    """Do nothing, as the second of three."""
    record(job.id.hex)


def third(job: Job) -> None:
    """Do nothing, as the last of three."""
    record(job.id.hex)


def stamp(job: Job) -> None:
    """Note the time as well."""
    note(f"{job.id.hex} {time.time_ns()}")


def wait(job: Job) -> None:
    """Wait for 50 milliseconds, as for an answer."""
    record(job.id.hex)
    time.sleep(0.05)
