"""The table of jobs."""

from django_dbq.models.job import Job
from django_dbq.models.queries import JobManager, JobQuerySet

__all__ = ["Job", "JobManager", "JobQuerySet"]
