"""Creating typed jobs, running them, and reading them afterwards."""

import asyncio
import json
import math
from datetime import date, timedelta
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from pydantic import BaseModel, SecretStr, ValidationError

from django_dbq.bell import Bell
from django_dbq.errors import WorkspaceError
from django_dbq.models import Job
from django_dbq.stopping import StopRequests
from django_dbq.tasks import get_next_task_name
from django_dbq_typed import JobContext
from django_dbq_typed import job as define
from tests import tasks
from tests.typed_app import jobs

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def events() -> list[str]:
    tasks.events.clear()
    return tasks.events


def work(*queues: str) -> None:
    call_command("worker", *queues, burst=True, rate_limit=0, stdout=StringIO())


class Move(BaseModel):
    to: str


@define(name="move", version=2)
def moving(context: JobContext[Move]) -> None: ...


@moving.upgrade(from_version=1)
def in_place(stored: dict[str, Any]) -> dict[str, Any]:
    stored["to"] = stored.pop("destination")
    return stored


class TestEnqueue:
    def test_makes_a_row_with_the_definitions_defaults(self) -> None:
        job = jobs.welcome.enqueue(workspace=jobs.Welcome(user_id=1))
        row = Job.objects.get()
        assert row == job
        assert (row.name, row.queue_name, row.priority) == ("welcome", "mail", 1)
        assert (row.next_task, row.version) == ("tests.typed_app.jobs.welcome", 1)
        assert row.workspace == {"user_id": 1, "sent": False}

    def test_takes_its_own_queue_priority_and_time(self) -> None:
        job = jobs.welcome.enqueue(
            workspace=jobs.Welcome(user_id=1),
            run_after=timedelta(minutes=5),
            priority=0,
            queue="default",
        )
        job.refresh_from_db()
        assert (job.queue_name, job.priority) == ("default", 0)
        assert job.run_after is not None
        assert timedelta(minutes=4) < job.run_after - timezone.now() < timedelta(minutes=6)
        then = timezone.now() + timedelta(days=1)
        assert (
            jobs.welcome.enqueue(workspace=jobs.Welcome(user_id=1), run_after=then).run_after
            == then
        )

    def test_create_by_name_has_the_definitions_defaults_too(self) -> None:
        job = Job.objects.create(name="welcome", workspace={"user_id": "7"})
        assert (job.queue_name, job.priority) == ("mail", 1)
        assert job.workspace == {"user_id": 7, "sent": False}
        chosen = Job.objects.create(
            name="welcome", workspace={"user_id": 7}, queue_name="default", priority=0
        )
        assert (chosen.queue_name, chosen.priority) == ("default", 0)
        plain = Job.objects.create(name="noop")
        assert (plain.queue_name, plain.priority) == ("default", 0)

    @pytest.mark.parametrize(
        "workspace",
        [
            jobs.Welcome.model_construct(user_id="nobody"),
            jobs.Welcome.model_construct(),
            jobs.Welcome(user_id=1).model_copy(update={"sent": "perhaps"}),
        ],
    )
    def test_refuses_a_model_that_became_nonsense(self, workspace: jobs.Welcome) -> None:
        with pytest.raises(ValidationError):
            jobs.welcome.enqueue(workspace=workspace)
        with pytest.raises(ValidationError):
            jobs.welcome.bulk_enqueue([jobs.Welcome(user_id=1), workspace])
        assert not Job.objects.exists()

    @pytest.mark.parametrize(
        "workspace", [{}, {"user_id": "x"}, {"user_id": 1, "sent": 7}, None, []]
    )
    def test_the_untyped_ways_in_are_validated_too(self, workspace: object) -> None:
        with pytest.raises(ValidationError):
            Job.objects.create(name="welcome", workspace=workspace)
        with pytest.raises(ValidationError):
            Job.objects.bulk_enqueue([Job(name="welcome", workspace=workspace)])
        assert not Job.objects.exists()

    def test_refuses_another_model(self) -> None:
        with pytest.raises(TypeError, match="is a Welcome, not Talk"):
            jobs.welcome.enqueue(workspace=jobs.Talk())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="is a Welcome, not dict"):
            jobs.welcome.enqueue(workspace={"user_id": 1})  # type: ignore[arg-type]

    def test_many_at_once(self) -> None:
        made = jobs.welcome.bulk_enqueue(
            (jobs.Welcome(user_id=i) for i in range(3)), queue="bulk", priority=5
        )
        assert [job.workspace["user_id"] for job in made] == [0, 1, 2]
        assert Job.get_queue_depths() == {"bulk": 3}

    @pytest.mark.django_db(databases=["default", "other"])
    def test_into_another_database(self) -> None:
        jobs.welcome.enqueue(workspace=jobs.Welcome(user_id=1), using="other")
        jobs.welcome.bulk_enqueue([jobs.Welcome(user_id=2)], using="other")
        assert Job.objects.using("other").count() == 2
        assert not Job.objects.exists()

    def test_from_an_async_view(self) -> None:
        async def view() -> Job:
            return await jobs.welcome.aenqueue(workspace=jobs.Welcome(user_id=3), queue="bulk")

        job = async_to_sync(view)()
        assert Job.objects.get() == job
        assert job.queue_name == "bulk"

    @pytest.mark.django_db(databases=["default", "other"])
    def test_every_way_takes_the_same_options(self) -> None:
        options: dict[str, Any] = {
            "run_after": timezone.now() + timedelta(days=1),
            "priority": 7,
            "queue": "bulk",
            "using": "other",
        }
        workspace = jobs.Welcome(user_id=1)
        made = [
            jobs.welcome.enqueue(workspace=workspace, **options),
            async_to_sync(jobs.welcome.aenqueue)(workspace=workspace, **options),
            *jobs.welcome.bulk_enqueue([workspace], **options),
        ]
        rows = Job.objects.using("other").filter(pk__in=[job.pk for job in made])
        columns = rows.values_list("run_after", "priority", "queue_name", "workspace__user_id")
        assert list(columns) == [(options["run_after"], 7, "bulk", 1)] * 3
        assert not Job.objects.exists()

    def test_bulk_create_validates_and_notes_the_version(self) -> None:
        task = get_next_task_name("post") or ""
        address = {"street": "s", "city": "c", "country": "FR"}
        Job.objects.bulk_create([Job(name="post", next_task=task, workspace=address)])
        assert Job.objects.get().version == 3
        with pytest.raises(ValidationError), transaction.atomic():
            Job.objects.bulk_create([Job(name="post", next_task=task, workspace={})])
        assert Job.objects.count() == 1

    def test_bulk_create_has_the_definitions_defaults_too(self) -> None:
        Job.objects.bulk_create(
            [
                Job(name="welcome", workspace={"user_id": 1}),
                Job(name="welcome", workspace={"user_id": 2}, queue_name="default", priority=0),
            ]
        )
        rows = Job.objects.order_by("workspace__user_id").values_list("queue_name", "priority")
        assert list(rows) == [("mail", 1), ("default", 0)]

    @pytest.mark.parametrize("value", [math.nan, b"x", {1}, date(2026, 1, 1), "\0", "\ud800"])
    def test_what_is_no_json_is_refused_as_for_plain_jobs(self, value: object) -> None:
        workspace = {"user_id": 1, "more": value}
        with pytest.raises(WorkspaceError, match=r"workspace\['more'\]"):
            Job.objects.create(name="welcome", workspace=workspace)
        assert not Job.objects.exists()


class TestRun:
    def test_a_step_changes_the_workspace(self, events: list[str]) -> None:
        job = jobs.welcome.enqueue(workspace=jobs.Welcome(user_id=1))
        work("mail")
        job.refresh_from_db()
        assert (job.state, job.workspace) == ("COMPLETE", {"user_id": 1, "sent": True})
        assert events == ["welcome 1"]
        assert jobs.welcome.workspace_of(job).sent is True

    def test_steps_run_in_order_async_ones_among_them(self, events: list[str]) -> None:
        job = jobs.talk.enqueue(workspace=jobs.Talk())
        work()
        job.refresh_from_db()
        assert job.state == "COMPLETE"
        assert [event.split()[0] for event in events] == ["first", "second", "third"]
        assert jobs.talk.workspace_of(job).heard == "Hello, task 2!"

    def test_hooks_get_the_typed_workspace(self, events: list[str]) -> None:
        job = jobs.hooked.enqueue(workspace=jobs.Hooked(fail=True))
        work()
        job.refresh_from_db()
        assert events == [
            "creation_hook NEW",
            "pre_task_hook PROCESSING",
            "task PROCESSING",
            "failure_hook FAILED ValueError",
            "post_task_hook FAILED",
        ]
        assert job.state == "FAILED"
        assert job.workspace == {"fail": True, "reached": True}

    def test_what_a_step_turned_invalid_fails_the_job_and_keeps_the_last_valid_workspace(
        self,
    ) -> None:
        job = jobs.spoil.enqueue(workspace=jobs.Count(number=1))
        work()
        job.refresh_from_db()
        assert (job.state, job.workspace) == ("FAILED", {"number": 1})
        assert "1 validation error for Count\nnumber\n" in str(job.error)

    def test_a_stored_workspace_that_the_model_refuses_fails_the_job_and_runs_nothing(
        self, events: list[str]
    ) -> None:
        job = jobs.welcome.enqueue(workspace=jobs.Welcome(user_id=1))
        Job.objects.update(workspace={"user_id": "nobody"})
        work("mail")
        job.refresh_from_db()
        assert (job.state, job.workspace) == ("FAILED", {"user_id": "nobody"})
        assert "1 validation error for Welcome\nuser_id\n" in str(job.error)
        assert events == []


class TestContext:
    def test_tells_about_the_job(self) -> None:
        job = jobs.welcome.enqueue(workspace=jobs.Welcome(user_id=1))
        job.attempts = 3
        context = JobContext(workspace=jobs.Welcome(user_id=1), job=job)
        assert (context.id, context.name, context.attempt) == (job.pk, "welcome", 3)

    def test_tells_whether_the_worker_was_asked_to_stop(self) -> None:
        requests = StopRequests(Bell())
        job = Job(name="welcome")
        job.stop_requests = requests
        context = JobContext(workspace=jobs.Welcome(user_id=1), job=job)
        assert not context.stopping
        requests.request()
        assert context.stopping


class TestVersions:
    def test_older_workspaces_are_upgraded_step_by_step(self, events: list[str]) -> None:
        job = jobs.post.enqueue(workspace=jobs.Address(street="s", city="c", country="FR"))
        Job.objects.update(version=1, workspace={"address": "Via Roma 1, Turin"})
        job.refresh_from_db()
        assert jobs.post.workspace_of(job).country == "IT"
        work()
        job.refresh_from_db()
        assert events == ["post Via Roma 1, Turin"]
        assert (job.state, job.version) == ("COMPLETE", 3)
        assert job.workspace == {"street": "Via Roma 1", "city": "Turin", "country": "IT"}

    def test_an_upgrade_may_change_what_it_is_given(self) -> None:
        job = moving.enqueue(workspace=Move(to="Turin"))
        Job.objects.update(version=1, workspace={"destination": "Turin"})
        job.refresh_from_db()
        assert moving.workspace_of(job) == moving.workspace_of(job) == Move(to="Turin")
        assert job.workspace == {"destination": "Turin"}

    def test_an_upgrade_to_what_the_model_refuses_leaves_the_row_as_it_was(self) -> None:
        job = moving.enqueue(workspace=Move(to="Turin"))
        Job.objects.update(version=1, workspace={"destination": 7})
        work()
        job.refresh_from_db()
        assert (job.state, job.version, job.workspace) == ("FAILED", 1, {"destination": 7})
        assert "1 validation error for Move" in str(job.error)

    def test_a_version_without_an_upgrade_fails_the_job(self) -> None:
        job = jobs.post.enqueue(workspace=jobs.Address(street="s", city="c", country="FR"))
        Job.objects.update(version=0)
        work()
        job.refresh_from_db()
        assert job.state == "FAILED"
        assert "NoUpgrade: A workspace of version 0 of the job 'post'" in str(job.error)

    def test_a_job_of_newer_code_stays_for_a_newer_worker(
        self, events: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        job = jobs.talk.enqueue(workspace=jobs.Talk())
        Job.objects.update(version=2)
        work()
        job.refresh_from_db()
        assert (job.state, job.attempts, events) == ("NEW", 0, [])
        assert "event=job_too_new name=talk version=2 known=1" in caplog.text


class TestSecrets:
    def test_survive_the_round_trip_and_are_shown_nowhere(
        self, events: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        workspace = jobs.Login(name="ada", password=SecretStr("hunter2"))
        job = jobs.login.enqueue(workspace=workspace)
        caplog.set_level("INFO")
        work()
        job.refresh_from_db()
        assert job.state == "COMPLETE"
        assert events == ["login hunter2"]
        assert jobs.login.workspace_of(job).password.get_secret_value() == "hunter2"
        assert "hunter2" not in caplog.text

    def test_are_in_no_error_record(self, caplog: pytest.LogCaptureFixture) -> None:
        workspace = jobs.Login(name="ada", password=SecretStr("hunter2"))
        job = jobs.login.enqueue(workspace=workspace)
        Job.objects.update(workspace={**job.workspace, "unknown": "hunter2", "name": None})
        work()
        job.refresh_from_db()
        assert job.state == "FAILED"
        assert "2 validation errors for Login" in str(job.error)
        assert "hunter2" not in str(job.error)
        assert "hunter2" not in caplog.text

    def test_are_in_no_error_of_enqueue(self) -> None:
        with pytest.raises(ValidationError) as raised:
            Job.objects.create(name="login", workspace={"password": "hunter2"})
        assert raised.value.errors()[0]["type"] == "missing"
        assert "hunter2" not in str(raised.value)
        assert "hunter2" not in json.dumps(raised.value.errors(), default=str)


class TestUnitTests:
    """Steps are plain callables: no database, no worker."""

    def test_of_a_step(self) -> None:
        context = JobContext(workspace=jobs.Talk())
        jobs.first(context)
        assert context.workspace.message == "Hello, task 2!"
        assert (context.attempt, context.stopping, context.name) == (1, False, "")

    def test_of_an_async_step(self, events: list[str]) -> None:
        running = jobs.third(JobContext(workspace=jobs.Talk()))
        assert running is not None
        asyncio.run(running)
        assert len(events) == 1

    def test_of_a_job(self) -> None:
        context = JobContext(workspace=jobs.Welcome(user_id=1))
        jobs.welcome(context)
        assert context.workspace.sent
        talk = JobContext(workspace=jobs.Talk())
        jobs.talk(talk)
        assert talk.workspace.heard == "Hello, task 2!"
