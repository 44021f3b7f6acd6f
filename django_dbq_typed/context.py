"""What a step or hook of a typed job receives."""

import uuid
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

from django_dbq.models import Job

W = TypeVar("W", bound=BaseModel)


@dataclass
class JobContext(Generic[W]):
    """The typed workspace, and the job that it belongs to.

    What a step changes in ``workspace`` is saved when it ends. In a unit test a context is made of
    a workspace alone; there is no database then, and the job is an unsaved one.
    """

    workspace: W
    job: Job = field(default_factory=Job)

    @property
    def id(self) -> uuid.UUID:
        """The id of the job."""
        return self.job.pk

    @property
    def name(self) -> str:
        """The name of the job."""
        return self.job.name

    @property
    def attempt(self) -> int:
        """How often this step was started, this time included: 1 at first."""
        return max(1, self.job.attempts)

    @property
    def stopping(self) -> bool:
        """Whether the worker was asked to stop: a long step does well to come to an end."""
        return self.job.stopping

    @property
    def still_mine(self) -> bool:
        """Whether the worker still has the job: what one that lost it writes is dropped."""
        return self.job.still_mine()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the job to be cancelled: a long step does well to end."""
        return self.job.is_cancelled()
