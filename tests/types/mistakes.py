"""Mistakes that a type checker has to refuse; each line fails as soon as it is accepted.

An unused ``type: ignore`` is an error to mypy, and an unused ``pyright: ignore`` one to pyright.
"""

from django_dbq_typed import JobContext, job, step
from tests.types.correct import CatsImport, Welcome, download, welcome


async def wrong_workspaces() -> None:
    welcome.enqueue(workspace=CatsImport(url=""))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    welcome.enqueue(workspace={"user_id": 1})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    welcome.enqueue(Welcome(user_id=1))  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    welcome.enqueue()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    welcome.enqueue(workspace=None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await welcome.aenqueue(workspace=CatsImport(url=""))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
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


step(returning)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
job(name="returning")(returning_later)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
welcome.pre_task_hook(untyped_hook)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
welcome.failure_hook(hook_of_another)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
welcome.failure_hook(walk)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
job(name="hooked", steps=[download], pre_task_hook=walk)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
job(name="no steps", steps=[untyped_hook])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
job("positional")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
mixed = job(name="mixed", steps=[download, walk])  # type: ignore[arg-type, var-annotated] # pyright: ignore[reportArgumentType]
