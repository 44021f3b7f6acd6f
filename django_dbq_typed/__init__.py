"""Jobs whose workspaces are pydantic models, validated before there is a row."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_dbq.errors import Discard, JobCancelled, JobLost, Retry, Snooze, TaskTimeout
    from django_dbq.retries import RetryPolicy
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
    # Failures: which to try again, what a step may ask for, what its failure hook may get
    "RetryPolicy",
    "Retry",
    "Snooze",
    "Discard",
    "TaskTimeout",
    "JobLost",
    "JobCancelled",
    # Errors
    "JobDefinitionError",
    "NoUpgrade",
]

_HOMES = {
    "job": "django_dbq_typed.decorators",
    "step": "django_dbq_typed.decorators",
    "JobDefinition": "django_dbq_typed.definitions",
    "Step": "django_dbq_typed.steps",
    "JobContext": "django_dbq_typed.context",
    "RetryPolicy": "django_dbq.retries",
    "Retry": "django_dbq.errors",
    "Snooze": "django_dbq.errors",
    "Discard": "django_dbq.errors",
    "TaskTimeout": "django_dbq.errors",
    "JobLost": "django_dbq.errors",
    "JobCancelled": "django_dbq.errors",
    "JobDefinitionError": "django_dbq_typed.errors",
    "NoUpgrade": "django_dbq_typed.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for.

    Django imports this package before models can be, and most of these names need one.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
