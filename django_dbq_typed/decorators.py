"""``@step`` and ``@job``: the names that are imported to describe a job."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypedDict, TypeVar, Unpack, overload

from pydantic import BaseModel

from django_dbq.errors import InvalidJob
from django_dbq.registry import DEFAULT_PRIORITY, DEFAULT_QUEUE, HOOKS
from django_dbq_typed.context import JobContext
from django_dbq_typed.definitions import JobDefinition
from django_dbq_typed.errors import JobDefinitionError
from django_dbq_typed.steps import AsyncStep, Step, SyncStep

W = TypeVar("W", bound=BaseModel)


class Hooks(TypedDict, Generic[W], total=False):
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


@overload
def step(function: SyncStep[W]) -> Step[W]: ...
@overload
def step(function: AsyncStep[W]) -> Step[W]: ...
def step(function: Any) -> Any:
    """Make a step of a function, to be listed in ``job(steps=[...])``.

    Raises ``JobDefinitionError`` for a function that is not at the top of a module, or whose
    argument is not annotated as ``JobContext[MyWorkspace]``.
    """
    return Step(function)


@overload
def job(
    *,
    name: str,
    queue: str = ...,
    priority: int = ...,
    version: int = ...,
) -> _JobDecorator: ...
@overload
def job(
    *,
    name: str,
    queue: str = ...,
    priority: int = ...,
    version: int = ...,
    **hooks: Unpack[Hooks[W]],
) -> _JobDecoratorOf[W]: ...
@overload
def job(
    *,
    name: str,
    steps: Sequence[Step[W]],
    queue: str = ...,
    priority: int = ...,
    version: int = ...,
    **hooks: Unpack[Hooks[W]],
) -> JobDefinition[W]: ...
def job(
    *,
    name: str,
    steps: Sequence[Step[Any]] | None = None,
    queue: str = DEFAULT_QUEUE,
    priority: int = DEFAULT_PRIORITY,
    version: int = 1,
    **hooks: Unpack[Hooks[Any]],
) -> Any:
    """Make a job: of the function that this decorates, or of several steps.

    ``name``: as rows and ``Job.objects.create`` know it. ``queue``, ``priority``: those of jobs
    that are created without any. ``version``: of the workspace, see ``JobDefinition.upgrade``.
    ``hooks``: functions, by the names that they have in an entry of ``JOBS``. Raises
    ``JobDefinitionError``, which says where and what to write instead.
    """
    options: dict[str, Any] = {
        "name": name,
        "queue": queue,
        "priority": priority,
        "version": version,
        "hooks": hooks,
    }
    return _JobDecorator(options) if steps is None else _define(steps=steps, **options)


def _define(
    *, steps: Sequence[Step[Any]], name: str, hooks: Hooks[Any], **options: Any
) -> JobDefinition[Any]:
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
    try:
        definition = JobDefinition(name=name, steps=steps, **options)
    except InvalidJob as error:
        raise JobDefinitionError.at(steps[0].function, str(error)) from None
    for hook, function in hooks.items():
        if hook not in HOOKS:
            raise JobDefinitionError.at(
                steps[0].function,
                f"The job {name!r} has no option {hook!r}; hooks are: {', '.join(HOOKS)}.",
            )
        getattr(definition, hook)(function)
    return definition
