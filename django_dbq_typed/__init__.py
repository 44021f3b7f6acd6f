"""Jobs whose workspaces are pydantic models, validated before there is a row."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_dbq_typed.context import JobContext
    from django_dbq_typed.decorators import job, step
    from django_dbq_typed.definitions import JobDefinition
    from django_dbq_typed.errors import JobDefinitionError, NoUpgrade
    from django_dbq_typed.steps import Step

__all__ = [  # noqa: RUF022 - in the order in which a reader needs them
    # Decorators
    "job",
    "step",
    # What they make
    "JobDefinition",
    "Step",
    # What a step receives
    "JobContext",
    # Errors
    "JobDefinitionError",
    "NoUpgrade",
]

_HOMES = {
    "job": "decorators",
    "step": "decorators",
    "JobDefinition": "definitions",
    "Step": "steps",
    "JobContext": "context",
    "JobDefinitionError": "errors",
    "NoUpgrade": "errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for.

    Django imports this package before models can be, and most of these names need one.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
