import pickle
from datetime import timedelta
from typing import Any

import pytest

from django_dbq import errors
from django_dbq.errors import DBQError, Discard, Retry, Snooze, TaskTimeout

REQUESTS = [Retry(), Retry("why", in_=5), Snooze("why", in_=5), Discard("why"), Discard()]


def test_the_tree_in_the_docstring_is_complete() -> None:
    defined = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, DBQError)
    ]
    drawn = [line.strip("├└─│ ").split(" ")[0] for line in str(errors.__doc__).splitlines()[2:]]
    assert drawn == defined


@pytest.mark.parametrize("request_", [Retry, Snooze])
@pytest.mark.parametrize(
    ("in_", "seconds"), [(0, 0), (5, 5), (0.5, 0.5), (timedelta(minutes=2), 120)]
)
def test_a_task_may_ask_for_seconds_or_a_timedelta(request_: Any, in_: Any, seconds: float) -> None:
    asked = request_(in_=in_).seconds
    assert (type(asked), asked) == (float, seconds)


def test_a_retry_may_leave_its_time_to_the_policy() -> None:
    assert Retry().seconds is None
    assert Discard().seconds is None


@pytest.mark.parametrize("request_", [Retry, Snooze])
@pytest.mark.parametrize(
    ("in_", "error"),
    [
        (-1, ValueError),
        (timedelta(seconds=-1), ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (10**400, ValueError),
        (1e300, ValueError),
        (timedelta.max, ValueError),
        ("5", TypeError),
        (True, TypeError),
        ([5], TypeError),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(
    request_: Any, in_: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match="^in_ must be .*, not "):
        request_(in_=in_)


def test_a_snooze_needs_a_time() -> None:
    with pytest.raises(TypeError, match="in_"):
        Snooze()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="in_"):
        Snooze(in_=None)  # type: ignore[arg-type]


def test_the_message_is_the_reason_or_else_says_what_was_asked_for() -> None:
    assert str(Snooze("still encoding", in_=5)) == "still encoding"
    assert str(Discard()) == "The task gave its job up."
    assert str(Retry()) == "The task asked to be run again, as one more try."


def test_what_a_timeout_says() -> None:
    assert str(TaskTimeout.after(5)) == "The task took longer than its timeout of 5 seconds."
    assert str(TaskTimeout.after(1)) == "The task took longer than its timeout of 1 second."
    assert str(TaskTimeout.after(0.5)) == "The task took longer than its timeout of 0.5 seconds."
    assert "86400 seconds" in str(TaskTimeout.after(86400.0))
    assert str(pickle.loads(pickle.dumps(TaskTimeout.after(5)))) == str(TaskTimeout.after(5))
