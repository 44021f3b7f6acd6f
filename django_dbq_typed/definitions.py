"""A typed job: what it is made of, and the ways to create and read its rows."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from asgiref.sync import sync_to_async
from django.utils import timezone
from pydantic import BaseModel

from django_dbq import registry
from django_dbq.errors import InvalidJob
from django_dbq.models import Job, JobQuerySet
from django_dbq.registry import NAME_LENGTH, OnLost, WorkspaceRules
from django_dbq.retries import RetryPolicy
from django_dbq_typed import workspaces
from django_dbq_typed.context import JobContext
from django_dbq_typed.errors import JobDefinitionError, NoUpgrade
from django_dbq_typed.running import as_engine_function, synchronous
from django_dbq_typed.steps import Step, model_of, path_of

W = TypeVar("W", bound=BaseModel)
Hook = TypeVar("Hook", bound=Callable[..., None])
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


class Options(TypedDict, total=False):
    """What may be said of a job; by the names, and with the defaults, of an entry of ``JOBS``.

    ``queue``, ``priority``: those of jobs that are created without any. ``retries``: how often a
    step that failed is run again, or a policy that says on what and when. ``timeout``: how many
    seconds each step may take, if the step does not say so itself. ``on_lost``: whether the job
    runs again when its worker has died. ``atomic``: whether what a step writes to the jobs'
    database commits together with its outcome.
    """

    queue: str
    priority: int
    retries: int | RetryPolicy | None
    timeout: float | None
    on_lost: OnLost
    atomic: bool


class JobDefinition(Generic[W]):
    """One typed job. Made by ``@job`` or ``job(steps=[...])``, and registered under its name.

    ``steps``: in the order in which they run, all of one model. ``version``: of the workspace;
    raise it when a workspace that was stored before would no longer validate, and say with
    ``upgrade`` how to read that.
    """

    def __init__(
        self,
        *,
        name: str,
        steps: Sequence[Step[W]],
        version: int = 1,
        **options: Unpack[Options],
    ) -> None:
        _check_row(name, steps, version)
        self.name = name
        self.steps = tuple(steps)
        self.model = steps[0].model
        self.version = version
        self._upgrades: dict[int, Upgrade] = {}
        entry = {
            **options,
            "tasks": [step.path for step in steps],
            "timeout": _timeouts(steps, options.get("timeout")),
        }
        self._spec = replace(
            registry.compile_entry(name, entry),
            version=version,
            workspace=WorkspaceRules(
                model=f"{self.model.__module__}.{self.model.__qualname__}",
                validate=self._validate,
                read=self._read,
                conceal=self._conceal,
                schema=self.model.model_json_schema,
            ),
            functions={step.path: as_engine_function(self, step.function) for step in steps},
        )
        registry.register(self._spec)

    def __call__(self, context: JobContext[W]) -> None:
        """Run the steps one after the other on a context, as a unit test does."""
        for step in self.steps:
            synchronous(step.function)(context)

    def __repr__(self) -> str:
        return f"<JobDefinition {self.name} of {self.model.__name__}>"

    # Creating

    def enqueue(
        self,
        *,
        workspace: W,
        run_after: datetime | timedelta | None = None,
        priority: int | None = None,
        queue: str | None = None,
        using: str | None = None,
    ) -> Job:
        """Create a job, and return it. Its workspace is validated, as JSON, before there is a row.

        ``run_after``: not before that time, or that long from now. ``priority``, ``queue``: the
        definition's, unless given. ``using``: the database. Raises pydantic's ``ValidationError``.
        """
        columns = self._columns(run_after=run_after, priority=priority, queue=queue)
        return JobQuerySet(Job, using=using).create(workspace=self._checked(workspace), **columns)

    async def aenqueue(
        self,
        *,
        workspace: W,
        run_after: datetime | timedelta | None = None,
        priority: int | None = None,
        queue: str | None = None,
        using: str | None = None,
    ) -> Job:
        """Do what ``enqueue`` does, from an async view."""
        return await sync_to_async(self.enqueue)(
            workspace=workspace, run_after=run_after, priority=priority, queue=queue, using=using
        )

    def bulk_enqueue(
        self,
        workspaces: Iterable[W],
        *,
        run_after: datetime | timedelta | None = None,
        priority: int | None = None,
        queue: str | None = None,
        using: str | None = None,
        batch_size: int = 1000,
    ) -> list[Job]:
        """Create a job for each workspace: all of them or, if one is not valid, none."""
        columns = self._columns(run_after=run_after, priority=priority, queue=queue)
        prepared = [Job(workspace=self._checked(workspace), **columns) for workspace in workspaces]
        return JobQuerySet(Job, using=using).bulk_enqueue(prepared, batch_size=batch_size)

    def _columns(
        self, *, run_after: datetime | timedelta | None, priority: int | None, queue: str | None
    ) -> dict[str, Any]:
        if isinstance(run_after, timedelta):
            run_after = timezone.now() + run_after
        columns = {"run_after": run_after, "priority": priority, "queue_name": queue}
        given = {name: value for name, value in columns.items() if value is not None}
        return {"name": self.name, **given}

    def _checked(self, workspace: W) -> workspaces.Checked:
        if not isinstance(workspace, self.model):
            raise TypeError(
                f"The workspace of a {self.name!r} job is a {self.model.__name__}, not"
                f" {type(workspace).__name__}."
            )
        return workspaces.Checked(workspaces.check(self.model, workspace))

    # Reading

    def workspace_of(self, job: Job) -> W:
        """Return the workspace of a job of this definition, upgraded to its present version.

        Raises pydantic's ``ValidationError`` for one that the model refuses, or ``NoUpgrade``.
        """
        text = job.unread_workspace
        if text is None or job.version != self.version:
            return self._read(job.workspace, job.version)
        return workspaces.load_text(self.model, text)

    def _read(self, stored: Any, version: int) -> W:
        return workspaces.load(self.model, self._upgraded(stored, version))

    def _upgraded(self, stored: Any, version: int) -> Any:
        if version > self.version:
            raise NoUpgrade(
                f"The workspace is of version {version} of the job {self.name!r}, and this code has"
                f" version {self.version}: it was written by newer code."
            )
        if version != self.version:
            # An upgrade may change what it is given; the row's own is to stay as it is.
            stored = deepcopy(stored)
        while version != self.version:
            if version not in self._upgrades:
                raise NoUpgrade(
                    f"A workspace of version {version} of the job {self.name!r} cannot be read as"
                    f" version {self.version}: say how with @{self.name}.upgrade(from_version="
                    f"{version})."
                )
            stored = self._upgrades[version](stored)
            version += 1
        return stored

    def _validate(self, given: Any) -> Any:
        return workspaces.check(self.model, given)

    def _conceal(self, stored: Any) -> Any:
        return workspaces.conceal(self.model, stored)

    # Hooks and upgrades: decorators, which return their function as it is

    def creation_hook(
        self, function: Callable[[JobContext[W]], None]
    ) -> Callable[[JobContext[W]], None]:
        """Run the function when a job was created, in the process that creates it."""
        return self._add_hook("creation_hook", function)

    def pre_task_hook(
        self, function: Callable[[JobContext[W]], None]
    ) -> Callable[[JobContext[W]], None]:
        """Run the function before each step."""
        return self._add_hook("pre_task_hook", function)

    def post_task_hook(
        self, function: Callable[[JobContext[W]], None]
    ) -> Callable[[JobContext[W]], None]:
        """Run the function after each step, also after one that failed."""
        return self._add_hook("post_task_hook", function)

    def failure_hook(
        self, function: Callable[[JobContext[W], Exception], None]
    ) -> Callable[[JobContext[W], Exception], None]:
        """Run the function when a step or pre-task hook has failed, with what it raised."""
        return self._add_hook("failure_hook", function)

    def upgrade(self, *, from_version: int) -> Callable[[Upgrade], Upgrade]:
        """Read workspaces of that version with the function: a dict in, the next version's out."""

        def add(function: Upgrade) -> Upgrade:
            if not 0 < from_version < self.version or from_version in self._upgrades:
                raise JobDefinitionError.at(
                    function,
                    f"The job {self.name!r} has version {self.version}: there can be one upgrade"
                    f" from each version below it, and none from {from_version}.",
                )
            self._upgrades[from_version] = function
            return function

        return add

    def _add_hook(self, hook: str, function: Hook) -> Hook:
        path = path_of(function)
        if inspect.iscoroutinefunction(function):
            raise JobDefinitionError.at(
                function,
                f"{function.__name__}() is a hook, and nothing awaits hooks: write `def`, and call"
                " what is async in it with asgiref's async_to_sync().",
            )
        if model_of(function) is not self.model:
            raise JobDefinitionError.at(
                function,
                f"{function.__name__}() is a hook of the job {self.name!r}: annotate its context as"
                f" JobContext[{self.model.__name__}], after the job's workspace.",
            )
        if getattr(self._spec, hook):
            raise JobDefinitionError.at(
                function,
                f"The job {self.name!r} has a {hook} already: {getattr(self._spec, hook)}.",
            )
        functions = {**self._spec.functions, path: as_engine_function(self, function)}
        changes: dict[str, Any] = {hook: path, "functions": functions}
        self._spec = replace(self._spec, **changes)
        registry.register(self._spec, replacing=True)
        return function


def _check_row(name: object, steps: Iterable[Step[Any]], version: object) -> None:
    """Raise ``InvalidJob`` for what no row could hold."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH:
        raise InvalidJob(
            f"The name of a job is a string of 1 to {NAME_LENGTH} characters, not {name!r:.80}."
        )
    for step in steps:
        if len(step.path) > NAME_LENGTH:
            raise InvalidJob(
                f"The path {step.path[:80]!r}... of a step of the job {name!r} is longer than"
                f" {NAME_LENGTH} characters: it is stored in each row, so give it a shorter one."
            )
    if not isinstance(version, int) or not 0 < version < 2**15:
        raise InvalidJob(
            f"The version of the job {name!r} is a whole number from 1 on, not {version!r}."
        )


def _timeouts(steps: Sequence[Step[Any]], default: float | None) -> dict[str, float]:
    seconds = {step.path: default if step.timeout is None else step.timeout for step in steps}
    return {path: timeout for path, timeout in seconds.items() if timeout is not None}
