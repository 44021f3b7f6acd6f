from typing import Any

import pytest

from django_dbq.entries import read_entry
from django_dbq.errors import InvalidJob
from django_dbq.registry import compile_entry
from django_dbq.retries import RetryPolicy

TASKS = ["a.b", "c.d"]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("a.b", "must be a dict"),
        ({}, "'tasks'.*must be a list"),
        ([], "must be a list of one or more"),
        ({"tasks": "a.b"}, "must be a list"),
        ({"tasks": ["a.b", 3]}, r"\['tasks'\]\[1\] must be a dotted path"),
        ({"tasks": ["a.b"], "failure_hok": "c.d"}, "unknown key 'failure_hok'"),
        ({"tasks": ["a.b"], "failure_hook": 3}, "'failure_hook'.*must be a dotted path"),
        ({"tasks": ["a.b", "c.d", "a.b"]}, "'a.b' twice"),
        ({"tasks": ["a.b"], "queue": ""}, r"\['queue'\] must be the name of a queue"),
        ({"tasks": ["a.b"], "priority": "high"}, r"\['priority'\] must be a whole number"),
    ],
)
def test_a_malformed_entry_says_what_is_wrong(entry: object, problem: str) -> None:
    with pytest.raises(InvalidJob, match=problem):
        read_entry("job", entry)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("retries", -1, "['retries']: limit must be a whole number, 0 or more, not -1"),
        ("retries", "3", "['retries'] must be a number of retries, a dict or a RetryPolicy"),
        ("timeout", 0, "['timeout'] must be a number of seconds above 0, up to a year, not 0"),
        ("timeout", -1, "['timeout'] must be a number of seconds"),
        ("timeout", True, "['timeout'] must be a number of seconds"),
        ("timeout", "60", "['timeout'] must be a number of seconds"),
        ("timeout", float("nan"), "['timeout'] must be a number of seconds"),
        ("timeout", float("inf"), "['timeout'] must be a number of seconds"),
        ("timeout", {"a.b": 0}, "['timeout']['a.b'] must be a number of seconds"),
        ("timeout", {"a.b": None}, "['timeout']['a.b'] must be a number of seconds"),
        ("timeout", {"e.f": 5}, "names 'e.f', which is none of the job's tasks: a.b, c.d."),
        ("on_lost", "give up", "['on_lost'] must be 'retry' or 'fail', not 'give up'"),
        ("on_lost", None, "['on_lost'] must be 'retry' or 'fail', not None"),
        ("on_lost", ["fail"], "['on_lost'] must be 'retry' or 'fail'"),
        ("atomic", 1, "['atomic'] must be True or False, not 1"),
    ],
)
def test_a_mistake_in_what_deals_with_failure(key: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidJob) as raised:
        read_entry("job", {"tasks": TASKS, key: value})
    assert str(raised.value).startswith("JOBS['job']['" + key)
    assert problem in str(raised.value)


def test_without_more_a_failure_is_final_and_a_loss_is_not() -> None:
    spec = compile_entry("job", TASKS)
    assert spec.retries is None
    assert spec.timeouts.get("a.b") is None
    assert (spec.on_lost, spec.atomic) == ("retry", False)


def test_an_entry_may_say_how_to_deal_with_failure() -> None:
    spec = compile_entry(
        "job", {"tasks": TASKS, "retries": 5, "timeout": 60, "on_lost": "fail", "atomic": True}
    )
    assert spec.retries == RetryPolicy(limit=5)
    assert spec.timeouts.get("a.b") == spec.timeouts.get("c.d") == 60.0
    assert (spec.on_lost, spec.atomic) == ("fail", True)


def test_tasks_may_have_timeouts_of_their_own() -> None:
    spec = compile_entry("job", {"tasks": TASKS, "timeout": {"c.d": 0.5}})
    assert spec.timeouts.get("a.b") is None
    assert spec.timeouts.get("c.d") == 0.5


def test_none_stands_for_no_retries_and_no_timeout() -> None:
    spec = compile_entry("job", {"tasks": TASKS, "retries": None, "timeout": None})
    assert spec == compile_entry("job", TASKS)
