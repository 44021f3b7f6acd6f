"""A step or hook as the engine calls it: with the job, where the function takes a context."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import async_to_sync
from pydantic import BaseModel, ValidationError

from django_dbq.models import Job
from django_dbq_typed import workspaces
from django_dbq_typed.context import JobContext
from django_dbq_typed.flat import all_are_flat
from django_dbq_typed.secrets import has_secrets
from django_dbq_typed.workspaces import AsRead, as_read, has_changed

if TYPE_CHECKING:
    from django_dbq_typed.definitions import JobDefinition

W = TypeVar("W", bound=BaseModel)


def synchronous(function: Callable[..., Any]) -> Callable[..., object]:
    """Return the function in a form that ends when its work does."""
    if inspect.iscoroutinefunction(function):
        called: Callable[..., object] = async_to_sync(function)
        return called
    return function


def as_engine_function(
    definition: "JobDefinition[W]", function: Callable[..., Any]
) -> Callable[..., object]:
    """Return a task or hook that runs the function on the typed workspace of a job.

    What the function makes of the workspace goes back to the job, also when it raises. Raises what
    the function raises, or pydantic's ``ValidationError`` for a workspace that the model refuses,
    before or afterwards; the job keeps the last valid one. A coroutine function gives another.
    """
    model, version = definition.model, definition.version
    # Whether the workspaces are flat is asked of each validator: a model gets another one when it
    # is completed or built anew.
    asked: object = None
    are_flat = False

    # Each step pays for this: so it does itself what workspace_of(), as_read() and _write_back() do
    # for coroutines.
    def run(job: Job, *error: BaseException) -> None:
        nonlocal asked, are_flat
        validator = model.__pydantic_validator__
        text = job.unread_workspace
        if text is None or job.version != version:
            workspace = definition.workspace_of(job)
        else:
            try:
                workspace = validator.validate_json(text, by_alias=False, by_name=True)
            except ValidationError as refused:
                raise workspaces.without_input(refused) from None
        if asked is not validator:
            are_flat, asked = all_are_flat(model), validator
        before = workspace.__dict__.copy() if are_flat else as_read(workspace)
        context = JobContext(workspace, job)
        try:
            if error:
                function(context, *error)
            else:
                function(context)
        except BaseException as raised:
            _write_back_after(raised, definition, context, workspace, before)
            raise
        if (
            context.workspace is not workspace
            or context.job.version != version
            or has_changed(workspace, before)
        ):
            _store(definition, context, workspace)

    async def run_later(job: Job, *error: BaseException) -> None:
        workspace = definition.workspace_of(job)
        before = as_read(workspace)
        context = JobContext(workspace, job)
        try:
            await function(context, *error)
        except BaseException as raised:
            _write_back_after(raised, definition, context, workspace, before)
            raise
        _write_back(definition, context, workspace, before)

    return run_later if inspect.iscoroutinefunction(function) else run


def _write_back_after(
    raised: BaseException,
    definition: "JobDefinition[W]",
    context: JobContext[W],
    workspace: W,
    before: AsRead,
) -> None:
    """Do what ``_write_back`` does; raise what may be shown of an error that tells secrets."""
    try:
        _write_back(definition, context, workspace, before)
    except Exception as invalid:  # noqa: BLE001 - the first error is the one to tell
        raised.add_note(f"What it made of the workspace was dropped: {invalid}")
    if has_secrets(definition.model) and isinstance(raised, ValidationError):
        raise _without_input(raised) from None


def _without_input(raised: ValidationError) -> ValidationError:
    """Return the error of a function whose workspace has secrets, as its record may show it."""
    shown = workspaces.without_input(raised).with_traceback(raised.__traceback__)
    for note in getattr(raised, "__notes__", ()):
        shown.add_note(note)
    return shown


def _write_back(
    definition: "JobDefinition[W]", context: JobContext[W], workspace: W, before: AsRead
) -> None:
    """Give the job the context's workspace, if that has changed since it was read.

    What is as it was read is valid; and is stored, unless it had to be upgraded.
    """
    if (
        context.workspace is not workspace
        or context.job.version != definition.version
        or has_changed(workspace, before)
    ):
        _store(definition, context, workspace)


def _store(definition: "JobDefinition[W]", context: JobContext[W], workspace: W) -> None:
    """Give the job the context's workspace, or raise what is wrong with it."""
    is_another = context.workspace is not workspace
    if is_another and not isinstance(context.workspace, definition.model):
        raise TypeError(
            f"context.workspace was set to a {type(context.workspace).__name__}, and has to be a"
            f" {definition.model.__name__}."
        )
    context.job.workspace = workspaces.check(definition.model, context.workspace)
    context.job.version = definition.version
