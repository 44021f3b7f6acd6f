"""``manage.py jobs`` and ``manage.py check_jobs``."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pydantic import BaseModel, ConfigDict, SecretStr
from pytest_django import Settings

from django_dbq import registry
from django_dbq.models import Job
from django_dbq_typed import JobContext, job
from tests.routers import JobsElsewhere
from tests.typed_app import jobs

pytestmark = pytest.mark.django_db


def run(command: str, **options: object) -> str:
    out = StringIO()
    call_command(command, stdout=out, **options)
    return out.getvalue()


class TestJobs:
    def test_lists_plain_and_typed_jobs(self) -> None:
        listed = run("jobs")
        assert (
            "three  queue=default priority=0 model=-\n"
            "    tests.tasks.first\n    tests.tasks.second\n    tests.tasks.third\n"
        ) in listed
        assert (
            "welcome  queue=mail priority=1 model=tests.typed_app.jobs.Welcome\n"
            "    tests.typed_app.jobs.welcome\n"
        ) in listed

    def test_prints_the_schema_of_a_typed_job(self) -> None:
        schema = json.loads(run("jobs", schema="welcome"))
        assert schema["properties"]["user_id"]["type"] == "integer"
        assert schema["required"] == ["user_id"]

    def test_a_plain_or_unknown_job_has_no_schema(self) -> None:
        with pytest.raises(CommandError, match="a plain one"):
            run("jobs", schema="three")
        with pytest.raises(CommandError, match="no job 'nope'"):
            run("jobs", schema="nope")

    def test_a_model_without_a_schema_is_an_error_that_says_why(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "_registered", dict(registry.registered()))
        job(name="odd")(do_something_odd)
        with pytest.raises(CommandError, match="workspace of 'odd' has no JSON Schema"):
            run("jobs", schema="odd")


class NoJson:
    """What pydantic cannot describe."""


class Odd(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    thing: NoJson | None = None


def do_something_odd(context: JobContext[Odd]) -> None: ...


class TestCheckJobs:
    def test_passes_when_everything_would_run(self) -> None:
        jobs.welcome.enqueue(workspace=jobs.Welcome(user_id=1))
        old = jobs.post.enqueue(workspace=jobs.Address(street="s", city="c", country="FR"))
        Job.objects.filter(pk=old.pk).update(version=1, workspace={"address": "a, b"})
        Job.objects.create(name="three")
        assert run("check_jobs") == "All 3 unfinished job(s) would run.\n"

    def test_says_which_jobs_would_fail_and_why(self) -> None:
        invalid = jobs.welcome.enqueue(workspace=jobs.Welcome(user_id=1))
        Job.objects.update(workspace={})
        removed = Job.objects.create(name="three", next_task="tests.tasks.removed")
        unknown = Job.objects.create(name="three")
        Job.objects.filter(pk=unknown.pk).update(name="gone")
        stuck = jobs.talk.enqueue(workspace=jobs.Talk())
        Job.objects.filter(pk=stuck.pk).update(version=9)
        Job.objects.create(name="three")
        Job.objects.create(name="three", next_task="tests.tasks.removed", state="COMPLETE")
        out = StringIO()
        with pytest.raises(CommandError, match=r"4 of 5 unfinished job\(s\) would fail") as raised:
            call_command("check_jobs", stdout=out)
        assert raised.value.returncode == 1
        lines = out.getvalue()
        assert f"welcome {invalid.pk} (NEW): 1 validation error for Welcome\nuser_id\n" in lines
        assert (
            f"three {removed.pk} (NEW): The job 'three' has no task 'tests.tasks.removed'" in lines
        )
        assert f"gone {unknown.pk} (NEW): There is no job 'gone'" in lines
        assert f"talk {stuck.pk} (NEW): The workspace is of version 9" in lines

    @pytest.mark.parametrize("state", ["READY", "PROCESSING", "STOPPING"])
    def test_checks_whatever_is_unfinished(self, state: str) -> None:
        Job.objects.create(name="three", next_task="tests.tasks.removed", state=state)
        with pytest.raises(CommandError, match="1 of 1"):
            run("check_jobs")

    def test_an_upgrade_that_raises_is_one_more_job_that_would_fail(self) -> None:
        broken = jobs.post.enqueue(workspace=jobs.Address(street="s", city="c", country="FR"))
        Job.objects.filter(pk=broken.pk).update(version=1)
        removed = Job.objects.create(name="three", next_task="tests.tasks.removed")
        out = StringIO()
        with pytest.raises(CommandError, match="2 of 2"):
            call_command("check_jobs", stdout=out)
        assert f"post {broken.pk} (NEW): KeyError: 'address'" in out.getvalue()
        assert str(removed.pk) in out.getvalue()

    def test_shows_no_secrets(self) -> None:
        jobs.login.enqueue(workspace=jobs.Login(name="ada", password=SecretStr("hunter2")))
        Job.objects.update(workspace={"name": "ada", "password": ["hunter2"]})
        out = StringIO()
        with pytest.raises(CommandError, match="1 of 1"):
            call_command("check_jobs", stdout=out)
        assert "password" in out.getvalue()
        assert "hunter2" not in out.getvalue()

    @pytest.mark.django_db(databases=["default", "other"])
    def test_looks_at_the_database_that_it_is_told(self) -> None:
        Job.objects.using("other").create(name="three", next_task="tests.tasks.removed")
        assert run("check_jobs") == "All 0 unfinished job(s) would run.\n"
        with pytest.raises(CommandError):
            run("check_jobs", database="other")

    @pytest.mark.django_db(databases=["default", "other"])
    def test_asks_the_routers_otherwise(self, settings: Settings) -> None:
        Job.objects.using("other").create(name="three", next_task="tests.tasks.removed")
        settings.DATABASE_ROUTERS = [JobsElsewhere()]
        with pytest.raises(CommandError):
            run("check_jobs")
