"""Jobs in a worker's thread: transactions that are the task's, and those that it leaves behind."""

from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from pytest_django import Settings

from django_dbq.claims import Outcome
from django_dbq.limits import Limits, Tally
from django_dbq.models import Failure, Job
from django_dbq.task_connections import TaskConnections
from django_dbq.worker import Worker
from tests import tasks

pytestmark = pytest.mark.django_db(transaction=True)

EFFECT = "tests.tasks.write_an_effect"


@pytest.fixture(autouse=True)
def events(events: list[str]) -> list[str]:
    return events


def worker(**options: Any) -> Worker:
    limits = Limits(rate=0, burst=True)
    return Worker(queues=["default"], using="default", limits=limits, **options)


def effects() -> int:
    return Failure.objects.filter(task="effect").count()


def reload(job: Job) -> Job:
    job.refresh_from_db()
    return job


@pytest.mark.parametrize("concurrency", [1, 3])
class TestAtomicJobs:
    @pytest.fixture(autouse=True)
    def _jobs(self, settings: Settings) -> None:
        settings.JOBS = {
            "atomic": {"tasks": [EFFECT, "tests.tasks.noop"], "atomic": True},
            "plain": [EFFECT],
            "hooked": {
                "tasks": [EFFECT],
                "atomic": True,
                "failure_hook": "tests.tasks.failure_hook",
                "post_task_hook": "tests.tasks.post_task_hook",
                "retries": 1,
            },
            "async": {"tasks": ["tests.tasks.hold_async"], "atomic": True},
        }

    def test_effect_and_outcome_are_there_together(self, concurrency: int) -> None:
        job = Job.objects.create(name="atomic")
        assert worker(concurrency=concurrency).run() == Tally(complete=1, failed=0)
        assert (reload(job).state, effects()) == ("COMPLETE", 1)

    def test_of_a_task_that_raises_nothing_is_left(self, concurrency: int) -> None:
        job = Job.objects.create(name="atomic", workspace={"fail": True})
        plain = Job.objects.create(name="plain", workspace={"fail": True})
        worker(concurrency=concurrency).run()
        assert (reload(job).state, reload(plain).state) == ("FAILED", "FAILED")
        assert [f.job_id for f in Failure.objects.filter(task="effect")] == [plain.pk]

    def test_of_a_task_whose_job_was_lost_meanwhile_nothing_is_left(
        self, concurrency: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody sets the job back while it runs; the first run is undone, the second counts."""
        job = Job.objects.create(name="plain")
        Job.objects.update(name="atomic")
        own = worker(concurrency=concurrency)
        finish, runs = own.backend.finish, iter([True])

        def finish_late(outcomes: list[Outcome]) -> list[Outcome]:
            # A job may be handed back before, where the machine is slow.
            if outcomes[0].row.next_task == "tests.tasks.noop" and next(runs, False):
                Job.objects.filter(pk=job.pk).update(state="READY")
            return finish(outcomes)

        monkeypatch.setattr(own.backend, "finish", finish_late)
        assert own.run() == Tally(complete=1, failed=0)
        assert (reload(job).state, effects()) == ("COMPLETE", 1)

    def test_hooks_run_outside_of_what_is_undone(self, concurrency: int) -> None:
        job = Job.objects.create(name="hooked", workspace={"fail": True})
        worker(concurrency=concurrency).run()
        assert (reload(job).state, effects()) == ("READY", 0)
        assert tasks.events == ["effect 1", "post_task_hook READY"]

    @pytest.mark.parametrize("error", [IntegrityError, OperationalError])
    def test_a_commit_that_fails_leaves_nothing(
        self, concurrency: int, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        """A constraint fails the job; when the database went away, it is tried again soon."""
        job = Job.objects.create(name="hooked", workspace={"fail": False})
        own = worker(concurrency=concurrency)
        finish, runs = own.backend.finish, iter([True])

        def failing(outcomes: list[Outcome]) -> list[Outcome]:
            late = finish(outcomes)
            # A job may be handed back before, where the machine is slow.
            if outcomes[0].row.state == "COMPLETE" and next(runs, False):
                raise error("at the commit")
            return late

        monkeypatch.setattr(own.backend, "finish", failing)
        own.run()
        reload(job)
        if error is IntegrityError:
            assert (job.state, job.attempts, effects()) == ("READY", 1, 0)
            assert "at the commit" in str(job.error)
        else:
            assert (job.state, job.losses, effects()) == ("READY", 0, 0)
            assert "Retry: The transaction was not committed: OperationalError: at the" in str(
                job.error
            )


@pytest.mark.parametrize("concurrency", [1, 2])
class TestSpoiledTransactions:
    """A task that takes its transaction out of the worker's hands fails, and no other does."""

    @pytest.fixture(autouse=True)
    def _jobs(self, settings: Settings) -> None:
        spoiling = ["veto", "leave_block", "end_block", "close_connection", "swallow_error"]
        settings.JOBS = {
            **{
                name: {"tasks": [f"tests.tasks.{name}"], "atomic": True}
                for name in [*spoiling, "fail_on_commit"]
            },
            "query": ["tests.tasks.query"],
        }

    @pytest.mark.parametrize("name", ["veto", "leave_block", "end_block", "close_connection"])
    def test_fail_alone_and_leave_nothing(self, concurrency: int, name: str) -> None:
        job = Job.objects.create(name=name, priority=1)
        others = [Job.objects.create(name="query") for _ in range(2)]
        assert worker(concurrency=concurrency).run() == Tally(complete=2, failed=1)
        assert (reload(job).state, job.claim_token) == ("FAILED", None)
        assert "SpoiledTransaction: " in str(job.error)
        assert not Job.objects.filter(priority=9).exists()
        assert {reload(other).state for other in others} == {"COMPLETE"}

    def test_an_error_that_was_swallowed_fails_the_job(self, concurrency: int) -> None:
        job = Job.objects.create(name="swallow_error")
        assert worker(concurrency=concurrency).run().ended == 1
        # SQLite and MariaDB go on behind a statement that failed, and Django lets them.
        assert (reload(job).state, job.losses, job.claim_token) != ("PROCESSING", 0, None)
        assert job.state in ("FAILED", "COMPLETE")

    def test_an_error_behind_the_commit_is_logged_and_changes_nothing(
        self, concurrency: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        jobs = [Job.objects.create(name="fail_on_commit") for _ in range(3)]
        assert worker(concurrency=concurrency).run() == Tally(complete=3, failed=0)
        assert {reload(job).state for job in jobs} == {"COMPLETE"}
        assert caplog.text.count("event=on_commit_failed name=fail_on_commit") == 3


class TestWhatTasksLeaveBehind:
    @pytest.mark.parametrize("task", ["leave_transaction_open", "begin_in_sql"])
    def test_an_open_transaction_fails_its_job_alone(
        self, settings: Settings, task: str, database: str
    ) -> None:
        if task == "begin_in_sql" and database == "mysql":
            pytest.skip("its driver does not tell")
        settings.JOBS = {
            "leaving": [f"tests.tasks.{task}"],
            "query": ["tests.tasks.query"],
        }
        job = Job.objects.create(name="leaving", priority=1)
        Job.objects.create(name="query")
        assert worker().run() == Tally(complete=1, failed=1)
        assert "OpenTransaction: The task left a transaction open" in str(reload(job).error)
        assert job.priority == 1

    def test_a_broken_connection_is_no_other_tasks_trouble(self, settings: Settings) -> None:
        settings.JOBS = {
            "breaking": ["tests.tasks.break_connection"],
            "query": ["tests.tasks.query"],
        }
        for name in ("breaking", "query", "breaking", "query"):
            Job.objects.create(name=name)
        assert worker().run().complete == 4


def test_what_is_the_callers_is_left_alone(settings: Settings) -> None:
    settings.JOBS = {"query": ["tests.tasks.query"]}
    with transaction.atomic():
        Job.objects.create(name="query")
        assert worker().run() == Tally(complete=1, failed=0)
        assert connection.in_atomic_block


@pytest.mark.django_db(transaction=True)
def test_connections_are_asked_whether_they_work_after_a_while_and_after_weather(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection.ensure_connection()
    asked: list[bool] = []
    monkeypatch.setattr(
        connection,
        "close_if_unusable_or_obsolete",
        lambda: asked.append(connection.errors_occurred),
    )
    kept = TaskConnections()
    for now, weather, count in [(0, 0, 1), (0.5, 0, 1), (2, 0, 2), (2.5, 1, 3), (3, 1, 3)]:
        kept.refresh(now, weather=weather)
        assert asked == [True] * count
    kept.refresh(3.1, weather=1, always=True)
    assert len(asked) == 4
    connection.errors_occurred = False
