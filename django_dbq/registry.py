"""What jobs there are: ``settings.JOBS`` and registered jobs, compiled, behind one look-up."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import zip_longest
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string

from django_dbq.conf import NAME_LENGTH as NAME_LENGTH
from django_dbq.entries import DEFAULT_PRIORITY as DEFAULT_PRIORITY
from django_dbq.entries import DEFAULT_QUEUE as DEFAULT_QUEUE
from django_dbq.entries import HOOKS as HOOKS
from django_dbq.entries import OnLost as OnLost
from django_dbq.entries import read_entry
from django_dbq.errors import InvalidJob, UnknownJob, UnknownTask
from django_dbq.retries import RetryPolicy


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One job as its entry describes it; tasks and hooks are dotted paths.

    The tasks are in the order in which they run, none of them twice. ``queue`` and ``priority``
    are those of jobs that are created without any.

    ``retries``: which failures are tried again, if any. ``timeouts``: the seconds that a task may
    take, by its path. ``on_lost``: what becomes of a job whose worker died. ``atomic``: whether a
    task's writes to the jobs' database commit together with its outcome.

    ``workspace``: what is known of the job's workspaces. ``functions``: what the paths lead to, as
    far as they are not to be imported.
    """

    name: str
    tasks: tuple[str, ...]
    creation_hook: str | None = None
    pre_task_hook: str | None = None
    post_task_hook: str | None = None
    failure_hook: str | None = None
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    retries: RetryPolicy | None = None
    timeouts: Mapping[str, float] = field(default_factory=dict[str, float])
    on_lost: OnLost = "retry"
    atomic: bool = False
    version: int = 1
    workspace: "WorkspaceRules | None" = None
    functions: Mapping[str, Callable[..., object]] = field(
        default_factory=dict[str, Callable[..., object]]
    )

    def task_after(self, task: str) -> str | None:
        """Return the task that follows ``task``, or None behind the last one.

        Raises ``UnknownTask`` where the job does not list ``task``.
        """
        return self.following[self.listed(task)]

    def listed(self, task: str) -> str:
        """Return ``task`` if the job lists it; a blank one stands for the first.

        Raises ``UnknownTask`` otherwise: what a row says is data, and never a reason to import.
        """
        if task in self.following:
            return task
        if not task:
            return self.tasks[0]
        raise UnknownTask(
            f"The job {self.name!r} has no task {task!r}; its tasks are: {', '.join(self.tasks)}."
        )

    @cached_property
    def following(self) -> Mapping[str, str | None]:
        """Which task follows each; None behind the last one."""
        return dict(zip_longest(self.tasks, self.tasks[1:]))

    def function(self, path: str) -> Callable[..., object]:
        """Return the task or hook of that path. Raises ``ImportError``."""
        return self.functions.get(path) or _imported(path)


@dataclass(frozen=True, kw_only=True)
class WorkspaceRules:
    """What the engine may ask about the workspaces of a job, without knowing how it is answered.

    ``model``: what people call its form. ``validate`` takes the workspace of a new job and returns
    it as it is to be stored, or raises. ``read`` takes a stored one, of that version, or raises.
    ``conceal`` returns a stored one as people may see it, without its secrets. ``schema`` returns
    its JSON Schema.
    """

    model: str
    validate: Callable[[Any], Any]
    read: Callable[[Any, int], object]
    conceal: Callable[[Any], Any]
    schema: Callable[[], Any]


def _imported(path: str) -> Callable[..., object]:
    """Return what ``import_string`` does, without looking for the module each time."""
    module, name = _location(path)
    function: Callable[..., object] | None = getattr(module, name, None)
    return import_string(path) if function is None else function


@cache
def _location(path: str) -> tuple[object, str]:
    import_string(path)
    module, _, name = path.rpartition(".")
    return sys.modules[module], name


class _Compiled(NamedTuple):
    entry: object
    spec: JobSpec


#: Where Django's proxy keeps what it was asked before; by way of the proxy it takes five times as
#: long, and that twice for each job.
_kept: dict[str, Any] = object.__getattribute__(settings, "__dict__")
_compiled: dict[str, _Compiled] = {}
_registered: dict[str, JobSpec] = {}


def register(spec: JobSpec, *, replacing: bool = False) -> None:
    """Add a job to those of ``settings.JOBS``, or put it in the place of what it was before.

    Raises ``InvalidJob`` where there is another job of that name.
    """
    if not replacing and (spec.name in _registered or spec.name in _entries()):
        other = "settings.JOBS"
        if spec.name in _registered:
            other = _registered[spec.name].tasks[0]
        raise InvalidJob(
            f"There is a job {spec.name!r} already, in {other}: give one of the two another name."
        )
    _registered[spec.name] = spec


def registered() -> Mapping[str, JobSpec]:
    """Return the registered jobs, by name."""
    return _registered


def get(name: str) -> JobSpec:
    """Return the job of that name.

    Raises ``UnknownJob``, naming the jobs there are, or ``InvalidJob`` for a malformed entry.
    """
    entries = _entries()
    if name not in entries:
        if name in _registered:
            return _registered[name]
        known = ", ".join(sorted({*entries, *_registered})) or "none"
        raise UnknownJob(f"There is no job {name!r}. Known jobs: {known}.")
    entry = entries[name]
    compiled = _compiled.get(name)
    # By identity: override_settings brings new entries, which so take effect at once.
    if compiled is None or compiled.entry is not entry:
        compiled = _compiled[name] = _Compiled(entry, compile_entry(name, entry))
    return compiled.spec


def names() -> list[str]:
    """Return the names of all jobs that this code can run; malformed entries are left out."""
    return [name for name in {**_entries(), **_registered} if _is_well_formed(name)]


def compile_entry(name: str, entry: object) -> JobSpec:
    """Return the ``JobSpec`` of an entry of ``JOBS``: a dict, or just a list of task paths.

    Raises ``InvalidJob``, saying what is wrong with the entry.
    """
    return JobSpec(name=name, **read_entry(name, entry))


def _is_well_formed(name: str) -> bool:
    try:
        get(name)
    except InvalidJob:
        return False
    return True


def _entries() -> Mapping[str, Any]:
    entries: Mapping[str, Any] | None = _kept.get("JOBS")
    return getattr(settings, "JOBS", {}) if entries is None else entries
