"""A function that is a step of a job, with the model of its workspace."""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from django_dbq_typed.context import JobContext
from django_dbq_typed.errors import JobDefinitionError

W = TypeVar("W", bound=BaseModel)

SyncStep = Callable[[JobContext[W]], None]
AsyncStep = Callable[[JobContext[W]], Coroutine[Any, Any, None]]

_EXAMPLE = "def my_step(context: JobContext[MyWorkspace]) -> None"


class Step(Generic[W]):
    """One step of a job; called with a context, it is the function that it was made of.

    ``timeout``: how many seconds it may take, where that is not for the job to say.
    """

    def __init__(
        self, function: SyncStep[W] | AsyncStep[W], *, timeout: float | None = None
    ) -> None:
        self.function = function
        self.timeout = timeout
        self.path = path_of(function)
        self.model: type[W] = model_of(function)
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__

    def __call__(self, context: JobContext[W]) -> Coroutine[Any, Any, None] | None:
        """Run the function on a context, as a unit test does."""
        return self.function(context)

    def __repr__(self) -> str:
        return f"<Step {self.path}>"


def path_of(function: Callable[..., object]) -> str:
    """Return the dotted path under which rows name the function.

    Raises ``JobDefinitionError`` for what no path leads to: lambdas, nested functions, methods.
    """
    if not inspect.isfunction(function):
        raise JobDefinitionError.at(
            function, f"{function!r} is no function, and only functions can be steps: {_EXAMPLE}."
        )
    if "." in function.__qualname__ or "<" in function.__qualname__:
        raise JobDefinitionError.at(
            function,
            f"{function.__qualname__} cannot be a step or hook, since the rows name it by its path:"
            " define it with `def` at the top of a module.",
        )
    return f"{function.__module__}.{function.__qualname__}"


def model_of(function: Callable[..., object]) -> Any:
    """Return the model that the annotation of the function's first argument names.

    Raises ``JobDefinitionError`` where there is no such annotation.
    """
    parameters = list(inspect.signature(function).parameters)
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise JobDefinitionError.at(
            function,
            f"The annotation of {function.__qualname__}() cannot be read: {error}. Import what it"
            " names at run time as well, and not under TYPE_CHECKING only.",
        ) from None
    annotation = hints.get(parameters[0]) if parameters else None
    model = get_args(annotation)[0] if get_origin(annotation) is JobContext else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise JobDefinitionError.at(
            function,
            f"{function.__qualname__}() does not say which workspace it works on: write {_EXAMPLE},"
            " where MyWorkspace is a pydantic model.",
        )
    return model
