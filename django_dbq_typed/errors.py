"""The errors of the typed layer, in the engine's tree.

DBQError
├── JobDefinitionError    a job or step that cannot be one, found at its import (also a TypeError)
└── NoUpgrade             a stored workspace of a version from which no upgrade leads on
"""

from collections.abc import Callable

from django_dbq.errors import DBQError


class JobDefinitionError(DBQError, TypeError):
    """A job or step cannot be one; the message names file and line, and what to write instead."""

    @classmethod
    def at(cls, function: Callable[..., object], problem: str) -> "JobDefinitionError":
        """Return the error for a function, with the place where it is defined."""
        code = getattr(function, "__code__", None)
        place = f"{code.co_filename}:{code.co_firstlineno}: " if code else ""
        return cls(f"{place}{problem}")


class NoUpgrade(DBQError):
    """The row's workspace is of another version, and nothing says how to read it."""
