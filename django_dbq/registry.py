"""What jobs there are: ``settings.JOBS``, compiled, behind one look-up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.conf import settings

from django_dbq.errors import InvalidJob, UnknownJob, UnknownTask

HOOKS = ("creation_hook", "pre_task_hook", "post_task_hook", "failure_hook")


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One job as its entry describes it; tasks and hooks are dotted paths.

    The tasks are in the order in which they run, none of them twice.
    """

    name: str
    tasks: tuple[str, ...]
    creation_hook: str | None = None
    pre_task_hook: str | None = None
    post_task_hook: str | None = None
    failure_hook: str | None = None

    def task_after(self, task: str) -> str | None:
        """Return the task that follows ``task``, or None behind the last one.

        Raises ``UnknownTask`` where the job does not list ``task``.
        """
        following = self.tasks.index(self.listed(task)) + 1
        return self.tasks[following] if following < len(self.tasks) else None

    def listed(self, task: str) -> str:
        """Return ``task`` if the job lists it; a blank one stands for the first.

        Raises ``UnknownTask`` otherwise: what a row says is data, and never a reason to import.
        """
        if not task:
            return self.tasks[0]
        if task not in self.tasks:
            raise UnknownTask(
                f"The job {self.name!r} has no task {task!r}; its tasks are:"
                f" {', '.join(self.tasks)}."
            )
        return task


class _Compiled(NamedTuple):
    entry: object
    spec: JobSpec


_compiled: dict[str, _Compiled] = {}


def get(name: str) -> JobSpec:
    """Return the job of that name.

    Raises ``UnknownJob``, naming the jobs there are, or ``InvalidJob`` for a malformed entry.
    """
    entries = _entries()
    if name not in entries:
        known = ", ".join(sorted(entries)) or "none"
        raise UnknownJob(f"There is no job {name!r} in settings.JOBS. Known jobs: {known}.")
    entry = entries[name]
    compiled = _compiled.get(name)
    # By identity: override_settings brings new entries, which so take effect at once.
    if compiled is None or compiled.entry is not entry:
        compiled = _compiled[name] = _Compiled(entry, compile_entry(name, entry))
    return compiled.spec


def names() -> list[str]:
    """Return the names of all jobs that this code can run; malformed entries are left out."""
    return [name for name in _entries() if _is_well_formed(name)]


def compile_entry(name: str, entry: object) -> JobSpec:
    """Return the ``JobSpec`` of an entry of ``JOBS``: a dict, or just a list of task paths.

    Raises ``InvalidJob``, saying what is wrong with the entry.
    """
    if isinstance(entry, list | tuple):
        entry = {"tasks": entry}
    if not isinstance(entry, Mapping):
        raise InvalidJob(
            f"JOBS[{name!r}] must be a dict with the key 'tasks', or a list of task paths,"
            f" not {type(entry).__name__}."
        )
    if unknown := [key for key in entry if key not in ("tasks", *HOOKS)]:
        raise InvalidJob(
            f"JOBS[{name!r}] has the unknown key {unknown[0]!r}; known are: tasks,"
            f" {', '.join(HOOKS)}."
        )
    for hook in HOOKS:
        if not isinstance(entry.get(hook), str | None):
            raise InvalidJob(
                f"JOBS[{name!r}][{hook!r}] must be a dotted path, not {entry[hook]!r}."
            )
    hooks = {hook: entry.get(hook) or None for hook in HOOKS}
    return JobSpec(name=name, tasks=_tasks(name, entry.get("tasks")), **hooks)


def _is_well_formed(name: str) -> bool:
    try:
        get(name)
    except InvalidJob:
        return False
    return True


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


def _entries() -> Mapping[str, Any]:
    entries: Mapping[str, Any] = getattr(settings, "JOBS", {})
    return entries
