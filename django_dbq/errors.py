"""Every error that django-dbq raises.

DBQError
├── InvalidJob          an entry of settings.JOBS that cannot be a job
├── UnknownJob          a job name that the registry does not list (also a LookupError)
├── UnknownTask         a task that the job's entry does not list (also a LookupError)
├── WorkspaceError      a workspace that the database could not hold (also a ValueError)
├── InvalidEdit         another column of a job, set to what its row cannot hold (also a ValueError)
└── ClaimLost           a worker's write to a job that is no longer its own
"""


class DBQError(Exception):
    """The root of all errors of django-dbq."""


class InvalidJob(DBQError):
    """An entry of ``settings.JOBS`` does not describe a job."""


class UnknownJob(DBQError, LookupError):
    """No job of that name is known to this code."""


class UnknownTask(DBQError, LookupError):
    """The job's entry does not list that task, so it is neither imported nor run."""


class WorkspaceError(DBQError, ValueError):
    """The workspace cannot be stored as JSON in every supported database."""


class InvalidEdit(DBQError, ValueError):
    """A task or hook set a column of its job to a value that the row cannot hold."""


class ClaimLost(DBQError):
    """The job was given to another worker meanwhile, so nothing was written."""
