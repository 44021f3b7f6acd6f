"""The plain job: a task that does nothing."""

from django_dbq.models import Job


def noop(job: Job) -> None:
    """Do nothing."""
