"""The plain jobs: tasks that do nothing but note their start."""

from benchmarks.recording import record
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
