"""The tables: jobs, the workers that run them, and the attempts that failed."""

from django_dbq.models.failure import Failure
from django_dbq.models.job import Job
from django_dbq.models.queries import JobManager, JobQuerySet
from django_dbq.models.worker import Worker

__all__ = ["Failure", "Job", "JobManager", "JobQuerySet", "Worker"]
