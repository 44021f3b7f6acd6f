"""Mistakes in a definition are errors at its import, with file, line and what to write instead."""

from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings
from pydantic import BaseModel

import django_dbq_typed
from django_dbq import errors, registry
from django_dbq_typed import JobContext, JobDefinitionError, RetryPolicy, job, step
from tests.typed_app import jobs

if TYPE_CHECKING:
    from tests.typed_app.jobs import Count as OnlyForTheChecker


class Cat(BaseModel):
    name: str = ""


class Dog(BaseModel):
    name: str = ""


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test defines."""
    monkeypatch.setattr(registry, "_registered", dict(registry.registered()))


def feed(context: JobContext[Cat]) -> None: ...


def feed_again(context: JobContext[Cat]) -> None: ...


def walk(context: JobContext[Dog]) -> None: ...


def unannotated(context):  # type: ignore[no-untyped-def]
    ...


def of_a_dict(context: dict[str, Any]) -> None: ...


def of_no_model(context: JobContext[int]) -> None:  # type: ignore[type-var]
    ...


def without_arguments() -> None: ...


def unreadable(context: "JobContext[OnlyForTheChecker]") -> None: ...


class Steps:
    def method(self, context: JobContext[Cat]) -> None: ...


def nested() -> Any:
    def inner(context: JobContext[Cat]) -> None: ...

    return inner


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (unannotated, "does not say which workspace it works on: write def my_step"),
        (of_a_dict, "does not say which workspace"),
        (of_no_model, "does not say which workspace"),
        (without_arguments, "does not say which workspace"),
        (unreadable, "cannot be read: name 'OnlyForTheChecker' is not defined"),
        (Steps.method, "define it with `def` at the top of a module"),
        (nested(), "define it with `def` at the top of a module"),
        (lambda context: None, "define it with `def` at the top of a module"),
    ],
)
def test_a_function_that_cannot_be_a_step(function: Any, problem: str) -> None:
    place = rf"test_decorators\.py:{function.__code__.co_firstlineno}: "
    for define in (step, job(name="job")):
        with pytest.raises(JobDefinitionError, match=place) as raised:
            define(function)
        assert problem in str(raised.value)
    assert "job" not in registry.names()


def test_what_is_no_function_cannot_be_a_step() -> None:
    with pytest.raises(JobDefinitionError, match="only functions can be steps"):
        step(Steps().method)
    with pytest.raises(JobDefinitionError, match="only functions can be steps"):
        step(print)


def test_steps_have_to_agree_on_their_workspace() -> None:
    with pytest.raises(JobDefinitionError, match=r"test_decorators.py:\d+.*feed works on Cat, and"):
        job(name="mixed", steps=[step(feed), step(walk)])  # type: ignore[arg-type]


def test_a_second_job_of_the_same_name() -> None:
    with pytest.raises(
        JobDefinitionError, match=r"test_decorators.py:\d+: There is a job 'welcome'"
    ):
        job(name="welcome")(feed)


@override_settings(JOBS={"plain": ["tests.tasks.noop"]})
def test_a_job_of_a_name_that_the_settings_have() -> None:
    with pytest.raises(JobDefinitionError, match=r"already, in settings\.JOBS"):
        job(name="plain")(feed)


def test_a_step_twice_in_a_job() -> None:
    with pytest.raises(JobDefinitionError, match="twice"):
        job(name="circle", steps=[step(feed), step(feed)])


def test_a_job_without_steps_or_with_plain_functions() -> None:
    with pytest.raises(JobDefinitionError, match="has no steps"):
        job(name="empty", steps=[])
    with pytest.raises(JobDefinitionError, match="put @step above it"):
        job(name="plain functions", steps=[feed])  # type: ignore[arg-type]


def test_a_hook_of_another_workspace() -> None:
    definition = job(name="cats")(feed)
    with pytest.raises(JobDefinitionError, match=r"annotate its context as JobContext\[Cat\]"):
        definition.pre_task_hook(walk)  # type: ignore[arg-type]


def on_failure(context: JobContext[Cat], error: Exception) -> None: ...


def test_hooks_may_be_given_as_options() -> None:
    definition = job(name="cats", pre_task_hook=feed, failure_hook=on_failure)(feed)
    assert registry.get("cats").pre_task_hook == f"{__name__}.feed"
    assert registry.get("cats").failure_hook == f"{__name__}.on_failure"
    several = job(name="more cats", steps=definition.steps, failure_hook=on_failure)
    assert registry.get("more cats").failure_hook == f"{__name__}.on_failure"
    assert several.model is Cat


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(JobDefinitionError, match="no option 'quue'; options are: version, queue,"):
        job(name="cats", quue="mail")(feed)  # type: ignore[call-overload]
    with pytest.raises(JobDefinitionError, match="no option 'tasks'; options are: version, queue,"):
        job(name="cats", steps=[step(feed)], tasks=["a.b"])  # type: ignore[call-overload]


def test_a_job_may_say_how_to_deal_with_failure() -> None:
    policy = RetryPolicy(limit=2, on=[OSError])
    job(name="careful cats", retries=policy, timeout=5, on_lost="fail", atomic=True)(feed)
    spec = registry.get("careful cats")
    assert (spec.retries, spec.on_lost, spec.atomic) == (policy, "fail", True)
    assert spec.timeouts.get(f"{__name__}.feed") == 5
    job(name="stubborn cats", retries=5)(feed)
    assert registry.get("stubborn cats").retries == RetryPolicy(limit=5)


def test_a_step_may_have_a_timeout_of_its_own() -> None:
    job(name="one", steps=[step(timeout=1)(feed), step(feed_again)], timeout=5)
    job(name="two", steps=[step(timeout=1)(feed), step()(feed_again)])
    one, two = registry.get("one"), registry.get("two")
    feed_path, again_path = one.tasks
    assert (one.timeouts.get(feed_path), one.timeouts.get(again_path)) == (1, 5)
    assert (two.timeouts.get(feed_path), two.timeouts.get(again_path)) == (1, None)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"retries": -1}, r"limit must be a whole number, 0 or more, not -1. Write a number of"),
        ({"timeout": 0}, r"must be a number of seconds above 0, up to a year, not 0. Write "),
        ({"on_lost": "ignore"}, "'retry' or 'fail', not 'ignore'. Write "),
        ({"atomic": "yes"}, "True or False, not 'yes'. Write True"),
    ],
)
def test_a_wrong_option_says_where_and_what_to_write(options: Any, problem: str) -> None:
    place = rf"test_decorators\.py:{feed.__code__.co_firstlineno}: "
    with pytest.raises(JobDefinitionError, match=place + ".*" + problem):
        job(name="cats", **options)(feed)
    assert "cats" not in registry.names()


def test_a_second_hook_of_a_kind() -> None:
    definition = job(name="cats")(feed)
    definition.post_task_hook(feed)
    with pytest.raises(JobDefinitionError, match="has a post_task_hook already"):
        definition.post_task_hook(feed)


async def later(context: JobContext[Cat]) -> None: ...


def test_a_hook_that_is_a_coroutine_which_nothing_would_await() -> None:
    definition = job(name="cats")(feed)
    with pytest.raises(JobDefinitionError, match=r"test_decorators.py:\d+: later\(\) is a hook"):
        definition.pre_task_hook(later)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": "n" * 256}, "a string of 1 to 255 characters"),
        ({"name": ""}, "a string of 1 to 255 characters"),
        ({"name": 3}, "a string of 1 to 255 characters"),
        ({"name": "cats", "queue": "q" * 256}, "'queue'.* of 1 to 255 characters"),
        ({"name": "cats", "queue": ""}, "'queue'.* of 1 to 255 characters"),
        ({"name": "cats", "priority": 2**15}, "'priority'.* from -32768 to 32767"),
        ({"name": "cats", "priority": "high"}, "'priority'.* from -32768 to 32767"),
        ({"name": "cats", "version": 0}, "version of the job 'cats' is a whole number from 1"),
        ({"name": "cats", "version": "2"}, "version of the job 'cats' is a whole number from 1"),
    ],
)
def test_what_no_row_could_hold(options: Any, problem: str) -> None:
    with pytest.raises(JobDefinitionError, match=rf"test_decorators\.py:\d+: .*{problem}"):
        job(**options)(feed)
    assert options["name"] not in registry.registered()


def test_a_step_whose_path_no_row_could_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "__module__", "m" * 255)
    with pytest.raises(JobDefinitionError, match="is longer than 255 characters"):
        job(name="cats")(feed)


def test_a_second_upgrade_from_a_version() -> None:
    definition = job(name="cats", version=2)(feed)
    definition.upgrade(from_version=1)(lambda stored: stored)
    with pytest.raises(JobDefinitionError, match="one upgrade from each version"):
        definition.upgrade(from_version=1)(lambda stored: stored)


@pytest.mark.parametrize("version", [0, 2, 3])
def test_an_upgrade_from_a_version_that_needs_none(version: int) -> None:
    definition = job(name="cats", version=2)(feed)
    with pytest.raises(JobDefinitionError, match="The job 'cats' has version 2"):
        definition.upgrade(from_version=version)(lambda stored: stored)


def test_a_definition_compiles_into_what_an_entry_is() -> None:
    spec = registry.get("talk")
    entry = {"tasks": [step.path for step in jobs.talk.steps]}
    assert spec.tasks == registry.compile_entry("talk", entry).tasks
    assert registry.get("welcome").queue == "mail"


def test_what_a_step_raises_can_be_imported_beside_it() -> None:
    assert {getattr(django_dbq_typed, name).__name__ for name in django_dbq_typed.__all__} == set(
        django_dbq_typed.__all__
    )
    assert django_dbq_typed.Retry is errors.Retry
