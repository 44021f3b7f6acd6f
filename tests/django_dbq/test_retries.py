from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_dbq.errors import InvalidJob, TaskTimeout
from django_dbq.retries import JITTER, RetryPolicy, compile_retries

STEADY = RetryPolicy(delay=10, factor=2, max_delay=60, jitter=False)


class Outage(Exception):
    class Planned(Exception): ...


class TestWants:
    def test_every_exception_by_default_and_nothing_that_ends_a_process(self) -> None:
        policy = RetryPolicy()
        assert policy.wants(ValueError())
        assert policy.wants(TaskTimeout())
        for error in (SystemExit(), KeyboardInterrupt(), GeneratorExit()):
            assert not policy.wants(error)

    def test_what_ends_a_process_only_if_it_is_named(self) -> None:
        assert RetryPolicy(on=[SystemExit]).wants(SystemExit())
        assert RetryPolicy(on=["KeyboardInterrupt"]).wants(KeyboardInterrupt())

    def test_what_it_names_and_their_subclasses(self) -> None:
        policy = RetryPolicy(on=["OSError", Outage])
        assert policy.wants(FileNotFoundError())
        assert policy.wants(Outage())
        assert not policy.wants(ValueError())

    def test_giving_up_comes_first(self) -> None:
        policy = RetryPolicy(on=[OSError], give_up_on=["FileNotFoundError"])
        assert policy.wants(OSError())
        assert not policy.wants(FileNotFoundError())

    def test_nothing_for_an_empty_list(self) -> None:
        assert not RetryPolicy(on=[]).wants(ValueError())

    def test_paths_lead_also_to_classes_in_classes(self) -> None:
        assert RetryPolicy(on=[f"{__name__}.Outage"]).wants(Outage())
        assert RetryPolicy(on=[f"{__name__}.Outage.Planned"]).wants(Outage.Planned())

    def test_paths_are_not_imported_before_they_are_needed(self) -> None:
        policy = RetryPolicy(on=["tests.bomb.Error"])
        with pytest.raises(InvalidJob, match=r"on\[0\] of a job's retries is 'tests.bomb.Error'"):
            policy.wants(ValueError())


class TestUnresolved:
    @pytest.mark.parametrize(
        ("path", "problem"),
        [
            ("no.such.Error", "cannot be imported: ModuleNotFoundError"),
            ("tests.tasks.Nope", "cannot be imported: AttributeError"),
            ("tests.bomb.Error", "cannot be imported: AssertionError"),
            ("..", "cannot be imported: "),
            ("Outage", "none of Python's own: write its dotted path"),
            ("print", "which is no exception"),
            ("tests.tasks.noop", "which is no exception"),
        ],
    )
    def test_says_what_is_wrong_with_a_path(self, path: str, problem: str) -> None:
        policy = RetryPolicy(on=[ValueError, path], give_up_on=[path])
        found = list(policy.unresolved())
        assert [each[:3] for each in found] == [("on", 1, path), ("give_up_on", 0, path)]
        assert all(problem in each.problem for each in found)

    def test_is_empty_for_what_can_be_found(self) -> None:
        policy = RetryPolicy(on=["TimeoutError", f"{__name__}.Outage"], give_up_on=[ValueError])
        assert list(policy.unresolved()) == []


class TestSeconds:
    def test_waits_grow_by_the_factor_up_to_the_longest(self) -> None:
        waits = [STEADY.seconds(number) for number in range(1, 6)]
        assert waits == [10, 20, 40, 60, 60]

    def test_no_number_is_too_large(self) -> None:
        for factor in (1, 2, 2.5, 1e308):
            policy = RetryPolicy(factor=factor, jitter=False)
            assert policy.seconds(10_000) == (15 if factor == 1 else 3600)
            assert policy.seconds(2**31) == (15 if factor == 1 else 3600)
            assert RetryPolicy(delay=0, factor=factor).seconds(10_000) == 0

    def test_jitter_takes_off_what_chance_says(self) -> None:
        policy = RetryPolicy(delay=100, jitter=True)
        assert policy.seconds(1, random=lambda: 0) == 100
        assert policy.seconds(1, random=lambda: 1) == 100 * (1 - JITTER)
        assert RetryPolicy(delay=100, jitter=1).seconds(1, random=lambda: 0.5) == 50

    def test_waits_differ_by_default(self) -> None:
        assert len({RetryPolicy().seconds(1) for _ in range(10)}) > 1

    def test_retries_are_counted_from_1(self) -> None:
        with pytest.raises(ValueError, match="counted from 1, not from 0"):
            STEADY.seconds(0)

    @given(
        delay=st.floats(0, 1000),
        factor=st.floats(1, 1e308),
        max_delay=st.floats(1000, 1e6),
        jitter=st.booleans() | st.floats(0, 1),
        number=st.integers(1, 10**6),
        chance=st.floats(0, 1),
    )
    def test_a_wait_is_never_above_the_longest_nor_jittered_away(
        self,
        delay: float,
        factor: float,
        max_delay: float,
        jitter: bool | float,
        number: int,
        chance: float,
    ) -> None:
        bounds: dict[str, Any] = {"delay": delay, "factor": factor, "max_delay": max_delay}
        wait = RetryPolicy(jitter=jitter, **bounds).seconds(number, random=lambda: chance)
        full = RetryPolicy(jitter=False, **bounds).seconds(number)
        part = JITTER if jitter is True else jitter
        assert full * (1 - part) <= wait <= full <= max_delay


class TestCompile:
    @pytest.mark.parametrize(
        ("given", "policy"),
        [
            (None, None),
            (5, RetryPolicy(limit=5)),
            (0, RetryPolicy(limit=0)),
            ({}, RetryPolicy()),
            (STEADY, STEADY),
            (
                {"limit": 1, "on": ["OSError"], "give_up_on": [ValueError], "delay": 1.5},
                RetryPolicy(limit=1, on=["OSError"], give_up_on=[ValueError], delay=1.5),
            ),
        ],
    )
    def test_an_entry_may_have_a_number_a_dict_or_a_policy(self, given: Any, policy: Any) -> None:
        assert compile_retries("retries", given) == policy

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            (-1, "retries: limit must be a whole number, 0 or more, not -1"),
            (True, "limit must be a whole number"),
            ("3", "retries must be a number of retries, a dict or a RetryPolicy, not '3'"),
            (1.5, "must be a number of retries"),
            ([ValueError], "must be a number of retries"),
            (
                {"tries": 3},
                "has the unknown key 'tries'; known are: limit, on, give_up_on, delay,",
            ),
            ({"limit": 1.5}, "limit must be a whole number"),
            ({"on": "OSError"}, "on must be a list of exceptions or of their paths, not 'OSError'"),
            ({"on": [3]}, "on must be a list of exceptions"),
            ({"on": [str]}, "on must be a list of exceptions"),
            ({"on": [""]}, "on must be a list of exceptions"),
            ({"give_up_on": OSError}, "give_up_on must be a list of exceptions"),
            ({"delay": -1}, "delay must be 0 or more seconds"),
            ({"delay": "1"}, "delay must be 0 or more seconds"),
            ({"max_delay": float("nan")}, "max_delay must be 0 or more seconds"),
            ({"max_delay": float("inf")}, "max_delay must be 0 or more seconds"),
            ({"delay": 7200}, "delay is 7200, and more than max_delay, 3600: set max_delay to"),
            ({"factor": 0.5}, "factor must be a number, 1 or more"),
            ({"factor": float("inf")}, "factor must be a number"),
            ({"jitter": 2}, "jitter must be True, False or a part from 0 to 1"),
            ({"jitter": None}, "jitter must be"),
        ],
    )
    def test_a_mistake_says_where_and_what_to_write(self, given: Any, problem: str) -> None:
        with pytest.raises(InvalidJob) as raised:
            compile_retries("retries", given)
        assert problem in str(raised.value)
        assert str(raised.value).startswith("retries")
        assert '"give_up_on"' in raised.value.hint

    def test_a_policy_made_by_hand_is_checked_as_well(self) -> None:
        with pytest.raises(InvalidJob, match="^limit must be"):
            RetryPolicy(limit=-1)

    def test_a_policy_is_a_value(self) -> None:
        names: list[Any] = [ValueError]
        policy = RetryPolicy(on=names)
        names.append(OSError)
        assert policy == RetryPolicy(on=(ValueError,))
        assert hash(policy) == hash(RetryPolicy(on=[ValueError]))
