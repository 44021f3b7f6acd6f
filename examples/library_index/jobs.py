"""The typed job ``sum_up_package``, beside the plain one that the settings list.

Its workspace is a pydantic model: what the job is told, and what it finds out. Wrong ones are
refused when the job is created, and the type checker knows what is in it.
"""

from django.db.models import Count, Q, Sum
from pydantic import BaseModel, Field

from django_dbq_typed import JobContext, job
from examples.library_index.models import Module


class PackageSummary(BaseModel):
    """A package, and how much of it the index holds."""

    package: str = Field(min_length=1)
    modules: int = 0
    lines: int = 0


# Jobs of a lower priority wait until the files, whose job has the usual 0, are indexed.
@job(name="sum_up_package", priority=-1)
def sum_up_package(context: JobContext[PackageSummary]) -> None:
    """Count what the index holds of the package."""
    summary = context.workspace
    inside = Q(name=summary.package) | Q(name__startswith=f"{summary.package}.")
    found = Module.objects.filter(inside).aggregate(
        modules=Count("*"), lines=Sum("lines", default=0)
    )
    summary.modules, summary.lines = found["modules"], found["lines"]
