"""Mistakes that a type checker has to refuse; each line fails as soon as it is accepted.

An unused ``type: ignore`` is an error to mypy, and an unused ``pyright: ignore`` one to pyright.
"""

from typing import Any

from django_dbq_typed import JobContext, Retry, RetryPolicy, Snooze, job, step
from tests.types.correct import CatsImport, Welcome, cats, download, welcome, welcome_later


async def wrong_workspaces() -> None:
    welcome.enqueue(workspace=CatsImport(url=""))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    welcome.enqueue(workspace={"user_id": 1})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    welcome.enqueue(Welcome(user_id=1))  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    welcome.enqueue()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    welcome.enqueue(workspace=None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await welcome.aenqueue(workspace=CatsImport(url=""))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await welcome.aenqueue(workspace={"user_id": 1})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await welcome.aenqueue(Welcome(user_id=1))  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    await welcome.aenqueue()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    welcome.aenqueue(workspace=Welcome(user_id=1))  # type: ignore[unused-coroutine] # pyright: ignore[reportUnusedCoroutine]
    welcome.bulk_enqueue([{"user_id": 1}])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    welcome.bulk_enqueue([Welcome(user_id=1), CatsImport(url="")])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    welcome.enqueue(workspace=Welcome)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Welcome(usr_id=1)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    welcome.bulk_enqueue([CatsImport(url="")])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    welcome.enqueue(workspace=Welcome(user_id=1), run_after=5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    welcome.enqueue(workspace=Welcome(user_id=1), quue="")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Welcome(user_id=1).snt  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] # noqa: B018
    download(JobContext(workspace=Welcome(user_id=1)))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@step
def walk(context: JobContext[Welcome]) -> None:
    context.workspace.snt = True  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    context.workspace.sent = "yes"  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]


def returning(context: JobContext[Welcome]) -> int:
    return 1


def returning_later(context: JobContext[Welcome]) -> str:
    return "done"


def untyped_hook(context: JobContext[CatsImport]) -> None: ...


def hook_of_another(context: JobContext[CatsImport], error: Exception) -> None: ...


def welcome_again(context: JobContext[Welcome]) -> None: ...


async def returning_async(context: JobContext[Welcome]) -> int:
    return 1


def returning_hook(context: JobContext[Welcome]) -> bool:
    return True


def hook_without_error(context: JobContext[Welcome]) -> None: ...


def hook_with_error(context: JobContext[Welcome], error: Exception) -> None: ...


async def async_hook(context: JobContext[Welcome]) -> None: ...


def no_context() -> None: ...


def to_list(stored: dict[str, Any]) -> list[Any]:
    return [stored]


step(returning_async)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType, reportCallIssue]
step(no_context)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType, reportCallIssue]
job(name="wrong_hook", failure_hook=hook_of_another)(welcome_again)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
welcome.failure_hook(hook_without_error)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
welcome.pre_task_hook(hook_with_error)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
welcome.creation_hook(returning_hook)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
welcome.post_task_hook(async_hook)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
cats.creation_hook(hook_without_error)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
welcome_later.upgrade(from_version=1)(to_list)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
job(name="careful", retries="3")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType, reportCallIssue]
job(name="careful", timeout="60")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType, reportCallIssue]
job(name="careful", on_lost="ignore")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType, reportCallIssue]
job(name="careful", atomic="yes")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType, reportCallIssue]
job(name="careful", steps=[download], retries="3")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
job(name="careful", timeout=5)(returning_later)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
step(timeout="60")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
step(timeout=60)(returning)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
RetryPolicy(3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
RetryPolicy(on=[str])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
RetryPolicy(on=OSError)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Retry(in_="5 minutes")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Retry("too busy", 5)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
Snooze("too busy")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
job(name="misspelt", quue="mail")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
step(returning)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
job(name="returning")(returning_later)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
welcome.pre_task_hook(untyped_hook)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
welcome.failure_hook(hook_of_another)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
welcome.failure_hook(walk)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
job(name="hooked", steps=[download], pre_task_hook=walk)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
job(name="no steps", steps=[untyped_hook])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
job("positional")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
mixed = job(name="mixed", steps=[download, walk])  # type: ignore[arg-type, var-annotated] # pyright: ignore[reportArgumentType]
