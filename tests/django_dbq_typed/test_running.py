"""What a worker makes of typed steps: what goes back to the row, and what does not."""

import math
import os
import signal
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from pydantic import (
    BaseModel,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from django_dbq.models import Job
from django_dbq_typed import JobContext, job, step
from tests import tasks
from tests.conftest import wait_for

pytestmark = pytest.mark.django_db


def finished(row: Job, **options: Any) -> Job:
    call_command("worker", **{"burst": True, "rate_limit": 0, "stdout": StringIO(), **options})
    row.refresh_from_db()
    return row


class Walk(BaseModel):
    steps: list[str] = []
    fail: bool = False
    number: float | None = None
    even: int = 0

    @field_validator("even")
    @classmethod
    def is_even(cls, value: int) -> int:
        if value % 2:
            raise PydanticCustomError("odd", "not even {of} them")
        return value


@step
async def wander(context: JobContext[Walk]) -> None:
    context.workspace.steps.append("wandered")
    if context.workspace.fail:
        raise ValueError("lost")


@step
async def come_home(context: JobContext[Walk]) -> None:
    context.workspace = Walk(steps=[*context.workspace.steps, "home"])


walk = job(name="walk", steps=[wander, come_home])


class TestAsyncSteps:
    def test_change_the_workspace(self) -> None:
        row = finished(walk.enqueue(workspace=Walk()))
        assert row.state == Job.STATES.COMPLETE
        assert walk.workspace_of(row).steps == ["wandered", "home"]

    def test_change_it_also_when_they_fail(self) -> None:
        row = finished(walk.enqueue(workspace=Walk(fail=True)))
        assert row.state == Job.STATES.FAILED
        assert str(row.error).endswith("ValueError: lost")
        assert walk.workspace_of(row).steps == ["wandered"]


class Nest(BaseModel):
    eggs: "list[Egg]" = []


@job(name="lay")
def lay(context: JobContext[Nest]) -> None:
    context.workspace.eggs.append(Egg())


class Egg(BaseModel):
    hatched: bool = False


def test_a_model_may_be_completed_behind_its_job() -> None:
    row = finished(lay.enqueue(workspace=Nest()))
    assert row.workspace == {"eggs": [{"hatched": False}]}


class Growing(BaseModel):
    a: int = 1


@job(name="grow")
def grow(context: JobContext[Growing]) -> None:
    match vars(context.workspace):
        case {"b": list(b)}:
            b.append(1)
        case _:
            context.workspace.a += 1


def test_a_model_may_be_built_anew() -> None:
    assert finished(grow.enqueue(workspace=Growing())).workspace == {"a": 2}
    Growing.model_fields["b"] = FieldInfo(annotation=list[int], default=[])
    Growing.model_rebuild(force=True)
    assert finished(grow.enqueue(workspace=Growing())).workspace == {"a": 1, "b": [1]}


class Insect(BaseModel):
    legs: int


class Animal(BaseModel):
    legs: int

    @model_validator(mode="wrap")
    @classmethod
    def of_its_kind(cls, data: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        return Insect(legs=handler(data).legs)


@job(name="limp")
def limp(context: JobContext[Animal]) -> None:
    context.workspace.legs -= 1


def test_what_a_validator_made_of_the_workspace_is_stored() -> None:
    row = finished(Job.objects.create(name="limp", workspace={"legs": 6}))
    assert (row.state, row.workspace) == (Job.STATES.COMPLETE, {"legs": 5})


@job(name="spoil_and_fail")
def spoil_and_fail(context: JobContext[Walk]) -> None:
    context.workspace.steps = "many"  # type: ignore[assignment]
    raise ValueError("lost")


def test_the_error_of_a_step_is_told_before_what_it_made_of_the_workspace() -> None:
    row = finished(spoil_and_fail.enqueue(workspace=Walk(steps=["one"])))
    assert (row.state, row.workspace["steps"]) == (Job.STATES.FAILED, ["one"])
    assert "ValueError: lost\nWhat it made of the workspace was dropped" in str(row.error)
    assert "1 validation error for Walk" in str(row.error)


@job(name="lose_count")
def lose_count(context: JobContext[Walk]) -> None:
    context.workspace.number = math.nan


def test_a_nan_in_the_place_of_a_none_fails_the_job_as_any_other() -> None:
    row = finished(lose_count.enqueue(workspace=Walk()))
    assert (row.state, row.workspace["number"]) == (Job.STATES.FAILED, None)
    assert "workspace['number'] is nan" in str(row.error)


@job(name="replace")
def replace(context: JobContext[Walk]) -> None:
    context.workspace = {"steps": []}  # type: ignore[assignment]


@pytest.mark.parametrize("stored", [None, "null"])
def test_a_null_is_read_as_an_empty_workspace(stored: str | None) -> None:
    """As it is for plain jobs: only a statement of somebody else's can write one."""
    row = walk.enqueue(workspace=Walk(even=2))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_dbq_job SET workspace = %s", [stored])
    finished(row)
    assert (row.state, row.workspace["steps"]) == ("COMPLETE", ["wandered", "home"])
    assert row.workspace["even"] == 0


def test_what_is_no_model_of_the_job_fails_it() -> None:
    row = finished(replace.enqueue(workspace=Walk()))
    assert row.state == Job.STATES.FAILED
    assert "context.workspace was set to a dict, and has to be a Walk." in str(row.error)


class LongWalk(Walk):
    miles: int = 7


def test_what_a_subclass_adds_is_not_stored() -> None:
    row = walk.enqueue(workspace=LongWalk())
    assert "miles" not in row.workspace


@job(name="make_odd")
def make_odd(context: JobContext[Walk]) -> None:
    context.workspace.even = 1


def test_errors_of_the_model_s_own_kinds_are_told() -> None:
    row = finished(make_odd.enqueue(workspace=Walk()))
    assert (row.state, row.workspace["even"]) == (Job.STATES.FAILED, 0)
    assert "even\n  not even {of} them [type=odd" in str(row.error)


@job(name="spoilt_at_creation")
def spoilt_at_creation(context: JobContext[Walk]) -> None: ...


@spoilt_at_creation.creation_hook
def spoil(context: JobContext[Walk]) -> None:
    context.workspace.even = 1


def test_a_creation_hook_that_makes_the_workspace_invalid_leaves_no_row() -> None:
    with pytest.raises(ValidationError, match="not even"):
        spoilt_at_creation.enqueue(workspace=Walk())
    with pytest.raises(ValidationError, match="not even"):
        spoilt_at_creation.bulk_enqueue([Walk()])
    assert not Job.objects.exists()


@job(name="untyped_creation_hook")
def untyped(context: JobContext[Walk]) -> None: ...


@untyped.creation_hook
def spoil_the_row(context: JobContext[Walk]) -> None:
    context.job.workspace["even"] = 1


def test_nor_may_it_do_so_past_the_model() -> None:
    with pytest.raises(ValidationError, match="not even"):
        untyped.enqueue(workspace=Walk())
    assert not Job.objects.exists()


@job(name="note_attempt")
def note_attempt(context: JobContext[Walk]) -> None:
    context.workspace.steps.append(f"attempt {context.attempt}")
    raise ValueError("again")


@note_attempt.failure_hook
def try_again(context: JobContext[Walk], error: Exception) -> None:
    if context.attempt < 3:
        context.job.state = Job.STATES.READY


def test_a_step_is_told_its_attempt() -> None:
    row = finished(note_attempt.enqueue(workspace=Walk()))
    assert row.state == Job.STATES.FAILED
    assert row.workspace["steps"] == ["attempt 1", "attempt 2", "attempt 3"]


@job(name="stop_and_wait")
def stop_and_wait(context: JobContext[Walk]) -> None:
    tasks.record(f"stopping {context.stopping}")
    os.kill(os.getpid(), signal.SIGTERM)
    wait_for(lambda: context.stopping, timeout=20)
    tasks.record(f"stopping {context.stopping}")


@pytest.mark.django_db(transaction=True)
def test_a_step_is_told_that_its_worker_stops() -> None:
    tasks.events.clear()
    row = finished(stop_and_wait.enqueue(workspace=Walk()), burst=False)
    assert row.state == Job.STATES.COMPLETE, row.error
    assert tasks.events == ["stopping False", "stopping True"]
