import pytest
from django.test import override_settings

from django_dbq import registry
from django_dbq.errors import UnknownJob, UnknownTask


def test_an_entry_may_be_a_dict_or_just_a_list() -> None:
    with override_settings(JOBS={"short": ["a.b"], "long": {"tasks": ["a.b"]}}):
        assert registry.get("short").tasks == registry.get("long").tasks == ("a.b",)


def test_overridden_settings_take_effect_at_once() -> None:
    with override_settings(JOBS={"job": ["a.b"]}):
        assert registry.get("job").tasks == ("a.b",)
        with override_settings(JOBS={"job": ["c.d"]}):
            assert registry.get("job").tasks == ("c.d",)
        assert registry.get("job").tasks == ("a.b",)


def test_an_entry_replaced_in_place_takes_effect_at_once() -> None:
    jobs = {"job": ["a.b"]}
    with override_settings(JOBS=jobs):
        assert registry.get("job").tasks == ("a.b",)
        jobs["job"] = ["c.d"]
        assert registry.get("job").tasks == ("c.d",)


def test_an_unknown_name_lists_what_is_known() -> None:
    with (
        override_settings(JOBS={"b": ["a.b"], "a": ["a.b"]}),
        pytest.raises(UnknownJob, match=r"no job 'c'.*Known jobs: a, b\b"),
    ):
        registry.get("c")


def test_only_well_formed_jobs_are_offered_to_workers() -> None:
    with override_settings(JOBS={"good": ["a.b"], "bad": []}):
        assert "good" in registry.names()
        assert "bad" not in registry.names()


def test_a_task_that_is_not_listed_is_refused() -> None:
    spec = registry.compile_entry("job", ["a.b"])
    with pytest.raises(UnknownTask, match=r"no task 'os.system'; its tasks are: a\.b"):
        spec.listed("os.system")


def test_a_blank_task_is_the_first_one() -> None:
    assert registry.compile_entry("job", ["a.b", "c.d"]).listed("") == "a.b"
