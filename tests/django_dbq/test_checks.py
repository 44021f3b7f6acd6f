"""Mistakes in the settings are found before anything runs, each with a hint."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_dbq import registry
from django_dbq.checks import check_conf, check_jobs
from django_dbq.models import Job
from tests.conftest import WorkerProcess

ROOT = Path(__file__).parents[2]
NOOP = "tests.tasks.noop"


def problems(jobs: Any) -> list[CheckMessage]:
    with override_settings(JOBS=jobs):
        return check_jobs(None)


@pytest.mark.parametrize(
    ("jobs", "code", "message"),
    [
        ({"job": ["tests.tasks.nope"]}, "E002", "cannot be imported: ImportError"),
        ({"job": ["no.such.module"]}, "E002", "cannot be imported: ModuleNotFoundError"),
        ({"job": ["undotted"]}, "E002", "cannot be imported"),
        ({"job": ["tests.bomb.explode"]}, "E002", "cannot be imported: AssertionError"),
        ({"job": ["tests.tasks.NOT_CALLABLE"]}, "E002", "which is not callable but str"),
        (
            {"job": {"tasks": [NOOP], "failure_hook": "tests.tasks.nope"}},
            "E002",
            "['failure_hook']",
        ),
        ({"job": {"tasks": [NOOP], "creation_hook": "a.b"}}, "E002", "['creation_hook']"),
        ({"job": {"tasks": [NOOP], "pre_task_hook": "a.b"}}, "E002", "['pre_task_hook']"),
        ({"job": {"tasks": [NOOP], "post_task_hook": "a.b"}}, "E002", "['post_task_hook']"),
        (
            {"job": {"tasks": [NOOP], "failure_hook": "tests.tasks.fail_async"}},
            "E002",
            "nothing would await it",
        ),
        ({"job": NOOP}, "E001", "must be a dict with the key 'tasks'"),
        ({"job": {"task": [NOOP]}}, "E001", "unknown key 'task'"),
        ({"job": []}, "E001", "one or more task paths"),
        ({"job": [NOOP, NOOP]}, "E001", "twice"),
        ({"job": {"tasks": [NOOP], "retries": -1}}, "E001", "limit must be a whole number"),
        ({"job": {"tasks": [NOOP], "timeout": 0}}, "E001", "seconds above 0"),
        ({"job": {"tasks": [NOOP], "timeout": {"a.b": 1}}}, "E001", "none of the job's tasks"),
        ({"job": {"tasks": [NOOP], "on_lost": "ignore"}}, "E001", "'retry' or 'fail'"),
        ({"job": {"tasks": [NOOP], "atomic": "yes"}}, "E001", "True or False"),
        (
            {"job": {"tasks": [NOOP], "retries": {"on": ["a.Error"]}}},
            "E002",
            "on[0] of the retries",
        ),
        (
            {"job": {"tasks": [NOOP], "retries": {"give_up_on": ["Timeout"]}}},
            "E002",
            "write its dotted path",
        ),
        (["job"], "E001", "settings.JOBS must be a dict"),
        (None, "E001", "settings.JOBS must be a dict"),
        ({"job": {"tasks": [NOOP], "queue": "q" * 256}}, "E001", "of 1 to 255 characters"),
        ({"job": {"tasks": [NOOP], "queue": None}}, "E001", "must be the name of a queue"),
        ({"job": {"tasks": [NOOP], "priority": "1"}}, "E001", "must be a whole number"),
        ({"job": {"tasks": [NOOP], "priority": True}}, "E001", "must be a whole number"),
        ({"job": {"tasks": [NOOP], "priority": 2**15}}, "E001", "from -32768 to 32767"),
        ({"job": {"tasks": [NOOP], "failure_hook": "a." + "b" * 255}}, "E003", "['failure_hook']"),
        ({"j" * 256: [NOOP]}, "E003", "1 to 255 characters"),
        ({"": [NOOP]}, "E003", "1 to 255 characters"),
        ({3: [NOOP]}, "E003", "1 to 255 characters"),
        ({"job": ["a." + "b" * 255]}, "E003", "longer than 255 characters"),
    ],
)
def test_each_mistake_is_an_error_with_a_hint(jobs: Any, code: str, message: str) -> None:
    [problem] = problems(jobs)
    assert problem.id == f"django_dbq.{code}"
    assert message in problem.msg
    assert problem.hint


def test_jobs_that_could_run_pass() -> None:
    assert problems({"dict": {"tasks": [NOOP], "failure_hook": None}, "list": [NOOP]}) == []
    assert problems({"job": {"tasks": [NOOP], "retries": {"on": ["TimeoutError"]}}}) == []
    assert problems({"async": ["tests.tasks.fail_async"]}) == []
    assert problems({}) == []


def test_the_retries_of_registered_jobs_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = registry.compile_entry("typed", {"tasks": [NOOP], "retries": {"on": ["a.Error"]}})
    monkeypatch.setattr(registry, "_registered", {"typed": spec})
    [problem] = problems({})
    assert (problem.id, bool(problem.hint)) == ("django_dbq.E002", True)
    assert "on[0] of the retries of the job 'typed' is 'a.Error'" in problem.msg


def test_every_mistake_is_reported() -> None:
    assert len(problems({"a": ["x.y", "z.z"], "b": []})) == 3


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"MAX_WORKSPACE": 1}, "not a setting of django-dbq; known are: MAX_WORKSPACE_BYTES"),
        ({"MAX_WORKSPACE_BYTES": "1 MB"}, "whole number above 0"),
        ("MAX_WORKSPACE_BYTES", "DBQ must be a dict of settings, not str"),
        ({"MAX_WORKSPACE_BYTES": 0}, "whole number above 0"),
        ({"MAX_WORKSPACE_BYTES": True}, "whole number above 0"),
    ],
)
def test_a_wrong_dbq_setting_is_an_error(conf: object, message: str) -> None:
    with override_settings(DBQ=conf):
        [problem] = check_conf(None)
    assert problem.id == "django_dbq.E004"
    assert message in problem.msg
    assert problem.hint


def test_manage_py_check_runs_them() -> None:
    with (
        override_settings(JOBS={"job": ["a.b"]}),
        pytest.raises(CommandError, match="django_dbq.E002"),
    ):
        call_command("check")


@pytest.mark.django_db(transaction=True)
def test_a_worker_does_not_start_on_a_mistake(
    worker_process: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    text = "from tests.settings import *\nJOBS = {'noop': ['tests.tasks.noop'], 'job': ['a.b']}\n"
    (tmp_path / "mistaken_settings.py").write_text(text)
    job = Job.objects.create(name="noop")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    worker = worker_process("--burst", DJANGO_SETTINGS_MODULE="mistaken_settings", PYTHONPATH=path)
    assert worker.wait() == 1
    assert "django_dbq.E002" in worker.output
    job.refresh_from_db()
    assert job.state == Job.STATES.NEW
