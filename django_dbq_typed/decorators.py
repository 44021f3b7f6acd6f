"""``@step`` and ``@job``: the names that are imported to describe a job."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar, Unpack, overload

from pydantic import BaseModel

from django_dbq.errors import InvalidJob
from django_dbq.registry import HOOKS
from django_dbq_typed.context import JobContext
from django_dbq_typed.definitions import JobDefinition, Options
from django_dbq_typed.errors import JobDefinitionError
from django_dbq_typed.steps import AsyncStep, Step, SyncStep

W = TypeVar("W", bound=BaseModel)


class Hooks(Options, Generic[W], total=False):
    """The hooks of a job, given as options; ``@my_job.failure_hook`` and so on do the same."""

    creation_hook: Callable[[JobContext[W]], None]
    pre_task_hook: Callable[[JobContext[W]], None]
    post_task_hook: Callable[[JobContext[W]], None]
    failure_hook: Callable[[JobContext[W], Exception], None]


class _JobDecorator:
    """What ``job(name=...)`` returns: it makes a job of the one function that it decorates."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    @overload
    def __call__(self, function: SyncStep[W]) -> JobDefinition[W]: ...
    @overload
    def __call__(self, function: AsyncStep[W]) -> JobDefinition[W]: ...
    def __call__(self, function: Any) -> Any:
        return _define(steps=[Step(function)], **self.options)


class _JobDecoratorOf(Protocol[W]):
    """What ``job(name=..., failure_hook=...)`` returns: its hooks have settled the workspace."""

    @overload
    def __call__(self, function: SyncStep[W]) -> JobDefinition[W]: ...
    @overload
    def __call__(self, function: AsyncStep[W]) -> JobDefinition[W]: ...


class _StepDecorator:
    """What ``step(timeout=...)`` returns: it makes a step of the function that it decorates."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout

    @overload
    def __call__(self, function: SyncStep[W]) -> Step[W]: ...
    @overload
    def __call__(self, function: AsyncStep[W]) -> Step[W]: ...
    def __call__(self, function: Any) -> Any:
        return Step(function, timeout=self.timeout)


@overload
def step(function: SyncStep[W]) -> Step[W]: ...
@overload
def step(function: AsyncStep[W]) -> Step[W]: ...
@overload
def step(*, timeout: float | None = ...) -> _StepDecorator: ...
def step(function: Any = None, *, timeout: float | None = None) -> Any:
    """Make a step of a function, to be listed in ``job(steps=[...])``.

    ``timeout``: how many seconds the step may take; without it the job's own timeout counts.
    Raises ``JobDefinitionError`` for a function that is not at the top of a module, or whose
    argument is not annotated as ``JobContext[MyWorkspace]``.
    """
    return _StepDecorator(timeout) if function is None else Step(function)


@overload
def job(*, name: str, version: int = ..., **options: Unpack[Options]) -> _JobDecorator: ...
@overload
def job(*, name: str, version: int = ..., **options: Unpack[Hooks[W]]) -> _JobDecoratorOf[W]: ...
@overload
def job(
    *,
    name: str,
    steps: Sequence[Step[W]],
    version: int = ...,
    **options: Unpack[Hooks[W]],
) -> JobDefinition[W]: ...
def job(
    *,
    name: str,
    steps: Sequence[Step[Any]] | None = None,
    version: int = 1,
    **options: Unpack[Hooks[Any]],
) -> Any:
    """Make a job: of the function that this decorates, or of several steps.

    ``name``: as rows and ``Job.objects.create`` know it. ``version``: of the workspace, see
    ``JobDefinition.upgrade``. ``options``: see ``Options``; and hooks, functions by the names that
    they have in an entry of ``JOBS``. Raises ``JobDefinitionError``, which says where and what to
    write instead.
    """
    described: dict[str, Any] = {"name": name, "version": version, **options}
    return _JobDecorator(described) if steps is None else _define(steps=steps, **described)


def _define(*, steps: Sequence[Step[Any]], name: str, **options: Any) -> JobDefinition[Any]:
    if not steps:
        raise JobDefinitionError(f"The job {name!r} has no steps: write steps=[my_step, ...].")
    for position, each in enumerate(steps):
        if not isinstance(each, Step):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise JobDefinitionError(
                f"steps[{position}] of the job {name!r} is {each!r}, and no step: put"
                " @step above it."
            )
        if each.model is not steps[0].model:
            raise JobDefinitionError.at(
                each.function,
                f"The steps of the job {name!r} disagree on its workspace: {steps[0].path} works"
                f" on {steps[0].model.__name__}, and {each.path} on {each.model.__name__}. Give"
                " them the same model.",
            )
    known = ("version", *Hooks.__annotations__)
    if unknown := [option for option in options if option not in known]:
        raise JobDefinitionError.at(
            steps[0].function,
            f"The job {name!r} has no option {unknown[0]!r}; options are: {', '.join(known)}.",
        )
    hooks = {hook: options.pop(hook) for hook in HOOKS if hook in options}
    try:
        definition = JobDefinition(name=name, steps=steps, **options)
    except InvalidJob as error:
        raise JobDefinitionError.at(steps[0].function, f"{error} {error.hint}".strip()) from None
    for hook, function in hooks.items():
        getattr(definition, hook)(function)
    return definition
