"""A job twice over: as a plain entry of JOBS, and as a typed job that does the same."""

from pydantic import BaseModel

from django_dbq.models import Job
from django_dbq_typed import JobContext, job, step
from tests import tasks


class Twin(BaseModel):
    fail_in: str = ""
    done: list[str] = []


def do(name: str, fail_in: str, done: list[str], state: str) -> None:
    tasks.record(f"{name} {state}")
    done.append(name)
    # What fails to be retried, or with a failing failure hook, is the first task.
    if fail_in == name or (name == "one" and fail_in in ("retry", "failure")):
        raise ValueError(f"{name} failed")


def plain_one(job: Job) -> None:
    do("one", job.workspace["fail_in"], job.workspace["done"], job.state)


def plain_two(job: Job) -> None:
    do("two", job.workspace["fail_in"], job.workspace["done"], job.state)


def plain_creation_hook(job: Job) -> None:
    do("creation", "", job.workspace["done"], job.state)


def plain_pre_task_hook(job: Job) -> None:
    do("pre", job.workspace["fail_in"], job.workspace["done"], job.state)


def plain_post_task_hook(job: Job) -> None:
    do("post", job.workspace["fail_in"], job.workspace["done"], job.state)


def plain_failure_hook(job: Job, error: Exception) -> None:
    do(f"failure {error}", job.workspace["fail_in"], job.workspace["done"], job.state)
    if job.workspace["fail_in"] == "retry":
        job.state = Job.STATES.READY
    if job.workspace["fail_in"] == "failure":
        raise ValueError("the failure hook failed")


PLAIN = {
    "twin": {
        "tasks": ["tests.typed_app.twins.plain_one", "tests.typed_app.twins.plain_two"],
        "creation_hook": "tests.typed_app.twins.plain_creation_hook",
        "pre_task_hook": "tests.typed_app.twins.plain_pre_task_hook",
        "post_task_hook": "tests.typed_app.twins.plain_post_task_hook",
        "failure_hook": "tests.typed_app.twins.plain_failure_hook",
    }
}


@step
def typed_one(context: JobContext[Twin]) -> None:
    do("one", context.workspace.fail_in, context.workspace.done, context.job.state)


@step
def typed_two(context: JobContext[Twin]) -> None:
    do("two", context.workspace.fail_in, context.workspace.done, context.job.state)


typed_twin = job(name="typed_twin", steps=[typed_one, typed_two])


@typed_twin.creation_hook
def typed_creation_hook(context: JobContext[Twin]) -> None:
    do("creation", "", context.workspace.done, context.job.state)


@typed_twin.pre_task_hook
def typed_pre_task_hook(context: JobContext[Twin]) -> None:
    do("pre", context.workspace.fail_in, context.workspace.done, context.job.state)


@typed_twin.post_task_hook
def typed_post_task_hook(context: JobContext[Twin]) -> None:
    do("post", context.workspace.fail_in, context.workspace.done, context.job.state)


@typed_twin.failure_hook
def typed_failure_hook(context: JobContext[Twin], error: Exception) -> None:
    workspace = context.workspace
    do(f"failure {error}", workspace.fail_in, workspace.done, context.job.state)
    if workspace.fail_in == "retry":
        context.job.state = Job.STATES.READY
    if workspace.fail_in == "failure":
        raise ValueError("the failure hook failed")
