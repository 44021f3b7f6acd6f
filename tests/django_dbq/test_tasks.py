import pytest
from django.test import override_settings

from django_dbq import tasks
from django_dbq.errors import UnknownJob, UnknownTask

HOOKED = {
    "tasks": ["a.one", "a.two"],
    "creation_hook": "h.creation",
    "pre_task_hook": "h.pre",
    "post_task_hook": "h.post",
    "failure_hook": "h.failure",
}


@pytest.fixture(autouse=True)
def _jobs() -> object:
    with override_settings(JOBS={"hooked": HOOKED, "plain": ["a.one"]}):
        yield


def test_the_next_task_of_a_job() -> None:
    assert tasks.get_next_task_name("hooked") == "a.one"
    assert tasks.get_next_task_name("hooked", "a.one") == "a.two"
    assert tasks.get_next_task_name("hooked", "a.two") is None


def test_the_hooks_of_a_job() -> None:
    assert tasks.get_creation_hook_name("hooked") == "h.creation"
    assert tasks.get_pre_task_hook_name("hooked") == "h.pre"
    assert tasks.get_post_task_hook_name("hooked") == "h.post"
    assert tasks.get_failure_hook_name("hooked") == "h.failure"


def test_a_job_without_hooks_has_none() -> None:
    assert tasks.get_creation_hook_name("plain") is None
    assert tasks.get_pre_task_hook_name("plain") is None
    assert tasks.get_post_task_hook_name("plain") is None
    assert tasks.get_failure_hook_name("plain") is None


def test_unknown_names_are_errors() -> None:
    with pytest.raises(UnknownJob):
        tasks.get_next_task_name("nope")
    with pytest.raises(UnknownTask):
        tasks.get_next_task_name("plain", "a.nope")
    with pytest.raises(UnknownJob):
        tasks.get_failure_hook_name("nope")
