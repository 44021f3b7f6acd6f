"""Typed jobs as users write them. Nothing of this is ever run."""

import uuid
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from pydantic import BaseModel

from django_dbq.models import Job, JobQuerySet
from django_dbq_typed import (
    Discard,
    JobContext,
    JobDefinition,
    Retry,
    RetryPolicy,
    Snooze,
    Step,
    job,
    step,
)


class Welcome(BaseModel):
    user_id: int
    sent: bool = False


class CatsImport(BaseModel):
    url: str
    rows: int = 0


@job(name="types_welcome", queue="mail", priority=1)
def welcome(context: JobContext[Welcome]) -> None:
    assert_type(context.workspace, Welcome)
    assert_type(context.workspace.user_id, int)
    assert_type(context.job, Job)
    assert_type(context.id, uuid.UUID)
    assert_type(context.name, str)
    assert_type(context.attempt, int)
    assert_type(context.stopping, bool)
    assert_type(context.still_mine, bool)
    assert_type(context.cancelled, bool)
    context.workspace.sent = True


@job(name="types_async", version=2)
async def welcome_later(context: JobContext[Welcome]) -> None:
    context.workspace.sent = True


@step
def download(context: JobContext[CatsImport]) -> None:
    context.workspace.rows += 1


@step
async def parse(context: JobContext[CatsImport]) -> None:
    context.workspace.rows += 1


def plain_hook(context: JobContext[CatsImport]) -> None: ...


cats = job(name="types_cats", steps=[download, parse], pre_task_hook=plain_hook)


@job(name="types_careful", retries=5, timeout=30, on_lost="fail", atomic=True)
def careful(context: JobContext[Welcome]) -> None:
    if context.attempt == 1:
        raise Retry("The mail server is busy.", in_=timedelta(minutes=5))
    if not context.workspace.sent:
        raise Snooze(in_=0.5)
    raise Discard("There is no such user.")


@step(timeout=60)
def unpack(context: JobContext[CatsImport]) -> None: ...


@step(timeout=0.5)
async def unpack_later(context: JobContext[CatsImport]) -> None: ...


careful_cats = job(
    name="types_careful_cats",
    steps=[download, unpack, unpack_later],
    retries=RetryPolicy(limit=3, on=[OSError, "cats.errors.CatError"], give_up_on=["KeyError"]),
    timeout=None,
)


def goodbye_failed(context: JobContext[Welcome], error: Exception) -> None: ...


@job(name="types_goodbye", failure_hook=goodbye_failed)
def goodbye(context: JobContext[Welcome]) -> None: ...


@job(name="types_goodbye_later", failure_hook=goodbye_failed)
async def goodbye_later(context: JobContext[Welcome]) -> None: ...


@welcome.creation_hook
def created(context: JobContext[Welcome]) -> None: ...


@welcome.pre_task_hook
def before(context: JobContext[Welcome]) -> None: ...


@welcome.post_task_hook
def after(context: JobContext[Welcome]) -> None: ...


@welcome.failure_hook
def failed(context: JobContext[Welcome], error: Exception) -> None: ...


@welcome_later.upgrade(from_version=1)
def upgraded(stored: dict[str, Any]) -> dict[str, Any]:
    return {**stored, "sent": False}


async def use(row: Job) -> None:
    assert_type(welcome, JobDefinition[Welcome])
    assert_type(welcome_later, JobDefinition[Welcome])
    assert_type(goodbye, JobDefinition[Welcome])
    assert_type(goodbye_later, JobDefinition[Welcome])
    assert_type(careful, JobDefinition[Welcome])
    assert_type(careful_cats, JobDefinition[CatsImport])
    assert_type(download, Step[CatsImport])
    assert_type(unpack, Step[CatsImport])
    assert_type(unpack_later, Step[CatsImport])
    assert_type(cats, JobDefinition[CatsImport])
    assert_type(welcome.enqueue(workspace=Welcome(user_id=1)), Job)
    welcome.enqueue(
        workspace=Welcome(user_id=1),
        run_after=timedelta(minutes=5),
        priority=2,
        queue="bulk",
        using="other",
    )
    welcome.enqueue(workspace=Welcome(user_id=1), run_after=datetime.now(UTC))
    assert_type(await welcome.aenqueue(workspace=Welcome(user_id=1), queue="bulk"), Job)
    assert_type(welcome.bulk_enqueue([Welcome(user_id=i) for i in range(3)]), list[Job])
    welcome.bulk_enqueue(
        (Welcome(user_id=i) for i in range(3)),
        run_after=timedelta(minutes=5),
        priority=2,
        queue="bulk",
        using="other",
        batch_size=100,
    )
    assert_type(welcome.workspace_of(row), Welcome)
    assert_type(welcome.workspace_of(row).sent, bool)
    assert_type(cats.workspace_of(row).rows, int)
    assert_type(
        download(JobContext(workspace=CatsImport(url=""))), Coroutine[Any, Any, None] | None
    )
    welcome(JobContext(workspace=Welcome(user_id=1)))


def read(row: Job) -> None:
    assert_type(row.name, str)
    assert_type(row.error, str | None)
    assert_type(Job.objects.create(name="types_welcome"), Job)
    assert_type(Job.objects.waiting().due(), JobQuerySet)
    assert_type(Job.objects.filter(name="types_welcome").waiting(), JobQuerySet)
    assert_type(Job.objects.exclude(name="types_welcome").due(), JobQuerySet)
    assert_type(Job.objects.order_by("created").waiting(), JobQuerySet)
