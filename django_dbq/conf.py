"""The optional ``DBQ`` setting, read into a frozen, typed object."""

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

#: Characters that the name of a job or a queue may have, and the path of a task.
NAME_LENGTH = 255
#: The least and the largest priority that a row can hold.
PRIORITIES = (-(2**15), 2**15 - 1)


@dataclass(frozen=True, kw_only=True)
class Conf:
    """What ``settings.DBQ`` may say, with the defaults of what it leaves out.

    ``MAX_WORKSPACE_BYTES``: the largest workspace that is accepted, as JSON text, in bytes. Larger
    things belong into a table or a file of their own, with their key in the workspace. The default
    stays below the smallest packet that any supported database server accepts.

    ``MAX_LOSSES``: how often a job is run again whose worker was lost while it had it. Once more,
    and the job is FAILED.

    ``HEARTBEAT_SECONDS``: how often a worker reports. One that has missed four reports is lost, and
    what it held goes to others; so a task must not hold the interpreter for longer than that.
    """

    MAX_WORKSPACE_BYTES: int = 4 * 1024 * 1024
    MAX_LOSSES: int = 3
    HEARTBEAT_SECONDS: float = 10

    @property
    def lease(self) -> float:
        """For how many seconds after a report its worker is taken to be there."""
        return 4 * self.HEARTBEAT_SECONDS


@cache
def conf() -> Conf:
    """Return the engine's settings.

    Raises ``ImproperlyConfigured`` for a key that is not known or a value of the wrong type.
    """
    given: Any = getattr(settings, "DBQ", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"DBQ must be a dict of settings, not {type(given).__name__}.")
    known = {field.name: field.type for field in fields(Conf)}
    chosen = cast("dict[str, Any]", given)
    for key, value in chosen.items():
        if key not in known:
            raise ImproperlyConfigured(
                f"DBQ[{key!r}] is not a setting of django-dbq; known are: {', '.join(known)}."
            )
        kind = known[key]
        number = "a number" if kind is float else "a whole number"
        allowed = (int, float) if kind is float else int
        # A bool is an int to Python, but never a number of bytes to whoever wrote the setting.
        if not isinstance(value, allowed) or isinstance(value, bool) or not 0 < value < math.inf:
            raise ImproperlyConfigured(f"DBQ[{key!r}] must be {number} above 0, not {value!r}.")
    return Conf(**chosen)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "DBQ":
        conf.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_dbq.conf")
