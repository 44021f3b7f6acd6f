"""An entry of ``settings.JOBS``, key by key: what each may hold, and how it is read."""

# What the settings hold may be anything, until it is read.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from django_dbq.conf import NAME_LENGTH, PRIORITIES
from django_dbq.errors import InvalidJob
from django_dbq.retries import compile_retries, is_number

#: What becomes of a job whose worker died: it runs again, or is FAILED.
OnLost = Literal["retry", "fail"]

HOOKS = ("creation_hook", "pre_task_hook", "post_task_hook", "failure_hook")
KEYS = ("tasks", *HOOKS, "queue", "priority", "retries", "timeout", "on_lost", "atomic")

DEFAULT_QUEUE = "default"
DEFAULT_PRIORITY = 0

#: Seconds. A longer timeout is a mistake in the unit, and no timer need hold it.
LONGEST_TIMEOUT = 365 * 24 * 60 * 60


def read_entry(name: str, entry: object) -> dict[str, Any]:
    """Return what the entry says, under the names of the fields of a ``JobSpec``.

    Raises ``InvalidJob``, saying what is wrong with the entry.
    """
    if isinstance(entry, list | tuple):
        entry = {"tasks": entry}
    if not isinstance(entry, Mapping):
        raise InvalidJob(
            f"JOBS[{name!r}] must be a dict with the key 'tasks', or a list of task paths,"
            f" not {type(entry).__name__}."
        )
    if unknown := [key for key in entry if key not in KEYS]:
        raise InvalidJob(
            f"JOBS[{name!r}] has the unknown key {unknown[0]!r}; known are: {', '.join(KEYS)}."
        )
    tasks = _tasks(name, entry.get("tasks"))
    return {
        "tasks": tasks,
        **{hook: _hook(name, hook, entry.get(hook)) for hook in HOOKS},
        "queue": _queue(name, entry.get("queue", DEFAULT_QUEUE)),
        "priority": _priority(name, entry.get("priority", DEFAULT_PRIORITY)),
        "retries": compile_retries(f"JOBS[{name!r}]['retries']", entry.get("retries")),
        "timeouts": _timeouts(name, tasks, entry.get("timeout")),
        "on_lost": _on_lost(name, entry.get("on_lost", "retry")),
        "atomic": _atomic(name, entry.get("atomic", False)),
    }


def _tasks(name: str, tasks: object) -> tuple[str, ...]:
    if not isinstance(tasks, list | tuple) or not tasks:
        raise InvalidJob(
            f"JOBS[{name!r}]['tasks'] must be a list of one or more task paths, not {tasks!r}."
        )
    for position, task in enumerate(tasks):
        if not isinstance(task, str) or not task:
            raise InvalidJob(
                f"JOBS[{name!r}]['tasks'][{position}] must be a dotted path, not {task!r}."
            )
        if task in tasks[:position]:
            raise InvalidJob(
                f"JOBS[{name!r}] lists the task {task!r} twice. The row names the next task by its"
                " path, so the job would run in a circle: give each task a function of its own."
            )
    return tuple(tasks)


def _hook(name: str, hook: str, path: object) -> str | None:
    if not isinstance(path, str | None):
        raise InvalidJob(f"JOBS[{name!r}][{hook!r}] must be a dotted path, not {path!r}.")
    return path or None


def _queue(name: str, queue: object) -> str:
    if not isinstance(queue, str) or not 0 < len(queue) <= NAME_LENGTH:
        raise InvalidJob(
            f"JOBS[{name!r}]['queue'] must be the name of a queue, of 1 to {NAME_LENGTH}"
            f" characters, not {queue!r:.80}."
        )
    return queue


def _priority(name: str, priority: object) -> int:
    least, largest = PRIORITIES
    if not is_number(priority, least, largest) or not isinstance(priority, int):
        raise InvalidJob(
            f"JOBS[{name!r}]['priority'] must be a whole number from {least} to {largest}, not"
            f" {priority!r}."
        )
    return priority


def _timeouts(name: str, tasks: tuple[str, ...], timeout: object) -> dict[str, float]:
    """Return the seconds of each task that has a timeout; one number is for all of them."""
    where = f"JOBS[{name!r}]['timeout']"
    if timeout is None:
        return {}
    if not isinstance(timeout, Mapping):
        return dict.fromkeys(tasks, _seconds(where, timeout))
    if unknown := [task for task in timeout if task not in tasks]:
        raise InvalidJob(
            f"{where} names {unknown[0]!r}, which is none of the job's tasks: {', '.join(tasks)}."
        )
    return {task: _seconds(f"{where}[{task!r}]", timeout[task]) for task in timeout}


def _seconds(where: str, seconds: object) -> float:
    if not is_number(seconds, 0, LONGEST_TIMEOUT) or not seconds:
        raise InvalidJob(
            f"{where} must be a number of seconds above 0, up to a year, not {seconds!r}.",
            hint='Write "timeout": 60 for each task, or "timeout": {"path.to.my_task": 60}.',
        )
    return float(seconds)


def _on_lost(name: str, on_lost: object) -> OnLost:
    if on_lost not in get_args(OnLost):
        raise InvalidJob(
            f"JOBS[{name!r}]['on_lost'] must be 'retry' or 'fail', not {on_lost!r}.",
            hint="Write 'retry' to run a job again whose worker died, or 'fail' to give it up.",
        )
    return cast("OnLost", on_lost)


def _atomic(name: str, atomic: object) -> bool:
    if not isinstance(atomic, bool):
        raise InvalidJob(
            f"JOBS[{name!r}]['atomic'] must be True or False, not {atomic!r}.",
            hint="Write True to commit what a task writes together with its outcome.",
        )
    return atomic
