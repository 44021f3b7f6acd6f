"""What can be known to be wrong before a job runs: ``manage.py check``, and at a worker's start."""

from collections.abc import Iterable, Iterator, Sequence
from inspect import iscoroutinefunction
from typing import Any, cast

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.db.migrations.recorder import MigrationRecorder
from django.utils.module_loading import import_string

from django_dbq import registry
from django_dbq.conf import NAME_LENGTH, conf
from django_dbq.errors import InvalidJob
from django_dbq.models import Job
from django_dbq.registry import HOOKS, JobSpec
from django_dbq.upstream import UPSTREAM_MIGRATIONS, char_id_columns, conversion_was_interrupted


@register("django_dbq")
def check_jobs(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """E001 to E003: every entry of ``settings.JOBS`` is a job that could run."""
    jobs: Any = getattr(settings, "JOBS", {})
    if not isinstance(jobs, dict):
        return [
            Error(
                f"settings.JOBS must be a dict, not {type(jobs).__name__}.",
                hint='Write JOBS = {"my_job": {"tasks": ["path.to.my_task"]}}.',
                id="django_dbq.E001",
            )
        ]
    entries = cast("dict[object, object]", jobs)
    return [
        *(message for name, entry in entries.items() for message in _check_entry(name, entry)),
        *(message for spec in registry.registered().values() for message in _check_retries(spec)),
    ]


def _check_entry(name: object, entry: object) -> Iterator[CheckMessage]:
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH:
        yield Error(
            f"JOBS has the key {str(name)[:80]!r}; a job's name is a string of 1 to {NAME_LENGTH}"
            " characters.",
            hint="Give the job a shorter name: it is stored in each row.",
            id="django_dbq.E003",
        )
        return
    try:
        spec = registry.compile_entry(name, entry)
    except InvalidJob as error:
        yield Error(
            str(error),
            hint=error.hint or f'Write "{name}": {{"tasks": ["path.to.my_task"]}}, each task once.',
            id="django_dbq.E001",
        )
        return
    for where, path in _paths(spec):
        if len(path) > NAME_LENGTH:
            yield Error(
                f"{where} is {path[:80]!r}..., longer than {NAME_LENGTH} characters.",
                hint="Import the function under a shorter path: it is stored in each row.",
                id="django_dbq.E003",
            )
        elif problem := _import_problem(path, is_hook=path not in spec.tasks):
            yield Error(
                f"{where} is {path!r}, {problem}.",
                hint="Name a function by its full dotted path, as import statements would find it.",
                id="django_dbq.E002",
            )
    yield from _check_retries(spec)


def _check_retries(spec: JobSpec) -> Iterator[CheckMessage]:
    for key, position, path, problem in spec.retries.unresolved() if spec.retries else ():
        yield Error(
            f"{key}[{position}] of the retries of the job {spec.name!r} is {path!r}, {problem}.",
            hint="Name an exception by its full dotted path, or one of Python's own by its name.",
            id="django_dbq.E002",
        )


def _paths(spec: JobSpec) -> Iterable[tuple[str, str]]:
    for position, task in enumerate(spec.tasks):
        yield f"JOBS[{spec.name!r}]['tasks'][{position}]", task
    for hook in HOOKS:
        if path := getattr(spec, hook):
            yield f"JOBS[{spec.name!r}][{hook!r}]", path


def _import_problem(path: str, *, is_hook: bool) -> str | None:
    try:
        target = import_string(path)
    except Exception as error:  # noqa: BLE001 - an import may raise anything
        return f"which cannot be imported: {type(error).__name__}: {error}"
    if not callable(target):
        return f"which is not callable but {type(target).__name__}"
    if is_hook and iscoroutinefunction(target):
        return "a coroutine function, which hooks cannot be: nothing would await it"
    return None


@register("django_dbq")
def check_conf(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """E004: ``settings.DBQ`` has only known keys, with values that make sense."""
    try:
        conf()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="Correct or remove the key.", id="django_dbq.E004")]
    return []


@register(Tags.database, "django_dbq")
def check_tables(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """E005 and E006: the job table is one that migrations and queries can work with.

    Runs when databases are named: in ``migrate``, in ``check --database`` and when a worker starts.
    """
    checks = (_half_migrated, _converted_ids)
    return [
        message
        for alias in databases or ()
        if router.allow_migrate_model(alias, Job)
        for check in checks
        for message in check(alias)
    ]


def _half_migrated(alias: str) -> Iterator[CheckMessage]:
    applied = {
        name
        for app, name in MigrationRecorder(connections[alias]).applied_migrations()
        if app == "django_dbq"
    }
    missing = [name for name in UPSTREAM_MIGRATIONS if name not in applied]
    if missing and len(missing) < len(UPSTREAM_MIGRATIONS):
        yield Error(
            f"The database {alias!r} has only some of django-db-queue's migrations; missing are:"
            f" {', '.join(missing)}.",
            hint="Install django-db-queue 3.3.0, run its migrations to the end with `manage.py"
            " migrate django_dbq`, then install django-dbq again.",
            id="django_dbq.E005",
        )


def _converted_ids(alias: str) -> Iterator[CheckMessage]:
    hint = f"Stop the workers, then run `manage.py convert_job_ids --database {alias}` to its end."
    if conversion_was_interrupted(connections[alias]):
        yield Error(
            f"In the database {alias!r}, the conversion of job ids was interrupted: foreign keys to"
            " them may miss their constraint.",
            hint=hint,
            id="django_dbq.E006",
        )
    elif columns := char_id_columns(connections[alias]):
        names = ", ".join(f"{column.table}.{column.column}" for column in columns)
        yield Error(
            f"In the database {alias!r}, ids of jobs are still char(32), as Django before 5.0 made"
            " them; this Django expects MariaDB's uuid, and would find no job by its id. They are"
            f" in: {names}.",
            hint=hint,
            id="django_dbq.E006",
        )
