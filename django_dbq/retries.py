"""Which failures of a task are tried again, how often, and after how long."""

# What the settings hold may be anything, until it is compiled.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import builtins
import math
import pkgutil
import random as _random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, TypeGuard

from django_dbq.errors import LONGEST_WAIT, Discard, InvalidJob, Retry, Snooze

#: The part of a wait that ``jitter=True`` takes off at most.
JITTER = 0.25

HINT = (
    'Write a number of retries, or {"limit": 5, "on": ["TimeoutError"], "give_up_on":'
    ' ["path.to.MyError"], "delay": 15, "factor": 2, "max_delay": 3600, "jitter": True}, of which'
    " every key may be left out."
)

#: A class, or the path to one: dotted, or the bare name of one of Python's own.
ExceptionName = type[BaseException] | str


class Unresolved(NamedTuple):
    """A path of a policy that leads to no exception: its key and place, and what is wrong."""

    key: str
    position: int
    path: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When a task that raised is run again.

    ``limit``: how often at most, after the first try. ``on``: what to retry on. ``give_up_on``:
    what not to retry on, even if ``on`` covers it. Both list exceptions, which stand for their
    subclasses too; paths are imported when they are first needed.

    ``delay``: seconds before the first retry; each further wait is ``factor`` times as long, but
    no more than ``max_delay``. ``jitter``: the part of each wait, from 0 to 1, that chance may take
    off, so that what failed together does not come back together; True for a quarter.

    Raises ``InvalidJob`` for values that make no sense.
    """

    limit: int = 3
    on: Sequence[ExceptionName] = (Exception,)
    give_up_on: Sequence[ExceptionName] = ()
    delay: float = 15
    factor: float = 2
    max_delay: float = 3600
    jitter: bool | float = True

    def __post_init__(self) -> None:
        for key, (wanted, is_right) in _RULES.items():
            if not is_right(value := getattr(self, key)):
                raise InvalidJob(f"{key} must be {wanted}, not {value!r}.", hint=HINT)
        for key in ("on", "give_up_on"):  # a list could be changed afterwards
            object.__setattr__(self, key, tuple(getattr(self, key)))
        if self.delay > self.max_delay:
            raise InvalidJob(
                f"delay is {self.delay!r}, and more than max_delay, {self.max_delay!r}: set"
                " max_delay to the longest wait that you want.",
                hint=HINT,
            )

    def wants(self, error: BaseException) -> bool:
        """Return whether a task that raised this is to be retried, as long as the limit allows it.

        Raises ``InvalidJob`` where a path leads to no exception.
        """
        on, give_up_on = self._classes
        return isinstance(error, on) and not isinstance(error, give_up_on)

    def seconds(self, retry_number: int, *, random: Callable[[], float] = _random.random) -> float:
        """Return how long to wait before a retry; the first has the number 1.

        ``random``: a number from 0 up to 1.
        """
        if retry_number < 1:
            raise ValueError(f"Retries are counted from 1, not from {retry_number}.")
        part = JITTER if self.jitter is True else self.jitter
        return self._full_wait(retry_number) * (1 - part * random())

    def _full_wait(self, retry_number: int) -> float:
        if not self.delay:
            return 0.0
        try:
            return min(self.delay * float(self.factor) ** (retry_number - 1), self.max_delay)
        except OverflowError:
            return self.max_delay

    def unresolved(self) -> Iterator[Unresolved]:
        """Yield each path that leads to no exception."""
        for key in ("on", "give_up_on"):
            for position, name in enumerate(getattr(self, key)):
                if isinstance(name, str):
                    try:
                        _resolve(name)
                    except ImportError as error:
                        yield Unresolved(key, position, name, str(error))

    @cached_property
    def _classes(self) -> tuple[tuple[type[BaseException], ...], ...]:
        for key, position, path, problem in self.unresolved():
            raise InvalidJob(f"{key}[{position}] of a job's retries is {path!r}, {problem}.")
        return tuple(
            tuple(_resolve(name) if isinstance(name, str) else name for name in names)
            for names in (self.on, self.give_up_on)
        )


#: How often a task is retried that asks for it, while its job's entry says nothing of retries.
LIMIT_AS_ASKED = 25


def pause_before_retry(
    error: BaseException, policy: RetryPolicy | None, *, tries: int
) -> float | None:
    """Return the seconds until a task that raised this is run again, or None if it is not.

    ``policy``: the job's, if it has one. ``tries``: how often the task was tried, this one
    included. Raises ``InvalidJob`` where a path of the policy leads to no exception.
    """
    if isinstance(error, Snooze):
        return error.seconds
    if isinstance(error, Discard):
        return None
    if isinstance(error, Retry):
        policy = policy or RetryPolicy(limit=LIMIT_AS_ASKED)
        if tries > policy.limit:
            return None
        return policy.seconds(tries) if error.seconds is None else error.seconds
    if policy is None or tries > policy.limit or not policy.wants(error):
        return None
    return policy.seconds(tries)


def compile_retries(where: str, given: object) -> RetryPolicy | None:
    """Return the policy that an entry's ``retries`` describe: a number, a dict, or a policy.

    ``where``: what to call it in messages. Raises ``InvalidJob``, saying what is wrong.
    """
    if given is None or isinstance(given, RetryPolicy):
        return given
    chosen: Any = {"limit": given} if isinstance(given, int) else given
    if not isinstance(chosen, Mapping):
        raise InvalidJob(
            f"{where} must be a number of retries, a dict or a RetryPolicy, not {given!r}.",
            hint=HINT,
        )
    keys = [field.name for field in fields(RetryPolicy)]
    if unknown := [key for key in chosen if key not in keys]:
        raise InvalidJob(
            f"{where} has the unknown key {unknown[0]!r}; known are: {', '.join(keys)}.", hint=HINT
        )
    try:
        return RetryPolicy(**chosen)
    except InvalidJob as error:
        raise InvalidJob(f"{where}: {error}", hint=error.hint) from None


def _resolve(path: str) -> type[BaseException]:
    """Return the exception of that path. Raises ``ImportError`` that says what it is instead."""
    if "." not in path and not hasattr(builtins, path):
        raise ImportError("which is none of Python's own: write its dotted path")
    try:
        # Not Django's import_string, which finds no class in a class: Model.DoesNotExist is one.
        found = pkgutil.resolve_name(path if "." in path else f"builtins.{path}")
    except Exception as error:
        raise ImportError(f"which cannot be imported: {type(error).__name__}: {error}") from error
    if not _is_exception(found):
        raise ImportError("which is no exception")
    return found


def _is_exception(value: object) -> TypeGuard[type[BaseException]]:
    return isinstance(value, type) and issubclass(value, BaseException)


def _are_exceptions(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        _is_exception(each) or (isinstance(each, str) and each != "") for each in value
    )


def is_number(value: object, least: float, most: float) -> TypeGuard[float]:
    """Return whether the value is a number in these bounds, NaN and bools being none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return least <= value <= most


def _is_wait(value: object) -> bool:
    return is_number(value, 0, LONGEST_WAIT.total_seconds())


_EXCEPTIONS = ("a list of exceptions or of their paths", _are_exceptions)
_WAIT = (f"0 or more seconds, up to {LONGEST_WAIT.days} days", _is_wait)

#: For each key what it must be, and whether a value is that.
_RULES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "limit": (
        "a whole number, 0 or more",
        lambda value: isinstance(value, int) and is_number(value, 0, math.inf),
    ),
    "on": _EXCEPTIONS,
    "give_up_on": _EXCEPTIONS,
    "delay": _WAIT,
    "max_delay": _WAIT,
    "factor": ("a number, 1 or more", lambda value: is_number(value, 1, sys.float_info.max)),
    "jitter": (
        "True, False or a part from 0 to 1",
        lambda value: isinstance(value, bool) or is_number(value, 0, 1),
    ),
}
