"""The look-ups that the specification names: what runs next, and which hooks a job has."""

from django_dbq import registry


def get_next_task_name(job_name: str, current_task: str | None = None) -> str | None:
    """Return the path of the task that follows ``current_task``, or None behind the last one.

    Without a current task: the job's first one, which is what a new job's ``next_task`` wants.
    Raises ``UnknownJob`` or ``UnknownTask``.
    """
    spec = registry.get(job_name)
    return spec.task_after(current_task) if current_task else spec.tasks[0]


def get_creation_hook_name(job_name: str) -> str | None:
    """Return the path of the job's creation hook, if it has one. Raises ``UnknownJob``."""
    return registry.get(job_name).creation_hook


def get_pre_task_hook_name(job_name: str) -> str | None:
    """Return the path of the job's pre-task hook, if it has one. Raises ``UnknownJob``."""
    return registry.get(job_name).pre_task_hook


def get_post_task_hook_name(job_name: str) -> str | None:
    """Return the path of the job's post-task hook, if it has one. Raises ``UnknownJob``."""
    return registry.get(job_name).post_task_hook


def get_failure_hook_name(job_name: str) -> str | None:
    """Return the path of the job's failure hook, if it has one. Raises ``UnknownJob``."""
    return registry.get(job_name).failure_hook
