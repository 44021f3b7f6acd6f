"""The typed job: a step that does nothing, on a workspace of some fields."""

from pydantic import BaseModel

from benchmarks.recording import record
from django_dbq_typed import JobContext, job


class Nothing(BaseModel):
    """As much as a usual workspace has."""

    user_id: int = 1
    message: str = "Hello"
    sent: bool = False


@job(name="typed")
def noop(context: JobContext[Nothing]) -> None:
    """Do nothing."""
    record(context.job.id.hex)
