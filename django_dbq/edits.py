"""What a task or hook did to its job, taken over only as far as a row can hold it."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Field

from django_dbq.claims import JobValues
from django_dbq.errors import DBQError, InvalidEdit, WorkspaceError
from django_dbq.models import Job
from django_dbq.workspace import decode_workspace, encode_workspace, unstorable

#: What is to be cleaned, with its place among the values.
_COLUMNS = [pair for pair in enumerate(JobValues._fields) if pair[1] != "workspace"]


def accept_edits(job: Job, last: JobValues) -> JobValues:
    """Return the job's values as they are now; ``last`` are the ones that were in order before.

    Raises ``WorkspaceError`` or ``InvalidEdit`` for a value that no row can hold. Such values are
    set back on the job to the last good ones first, and the others are kept: called again, it
    passes.
    """
    problems: list[DBQError] = []
    workspace = last.workspace
    if "workspace" in vars(job):  # as of a claimed job only if somebody has asked for it
        try:
            workspace = encode_workspace(job.workspace, stored=workspace)
        except WorkspaceError as problem:
            problems.append(problem)
            job.workspace = decode_workspace(last.workspace)
    values = (
        job.state, job.next_task, workspace, job.priority, job.run_after, job.queue_name,
        job.version,  # the typed layer's, which brings old workspaces up to date
    )  # fmt: skip
    if not problems:
        if values == last:
            return last
        if values == (unchanged := last.with_workspace(workspace)):
            return unchanged
    accepted: list[Any] = list(values)
    for position, name in _COLUMNS:
        if values[position] is last[position]:
            continue
        try:
            accepted[position] = _clean(job, name)
        except DBQError as problem:
            problems.append(problem)
            accepted[position] = last[position]
        setattr(job, name, accepted[position])
    if problems:
        raise problems[0]
    return JobValues._make(accepted)


def _clean(job: Job, name: str) -> object:
    value = getattr(job, name)
    field = Job._meta.get_field(name)
    assert isinstance(field, Field)
    try:
        cleaned: object = field.get_prep_value(field.clean(value, job))
    except (ValidationError, TypeError, ValueError, OverflowError) as problem:
        reason = "; ".join(getattr(problem, "messages", [str(problem)]))
        raise InvalidEdit(
            f"job.{name} was set to {value!r}, which is refused: {reason}"
        ) from problem
    if isinstance(cleaned, str) and (found := unstorable(cleaned)):
        raise InvalidEdit(f"job.{name} was set to {value!r}, which holds {found}.")
    return cleaned
