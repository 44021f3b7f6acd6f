"""What becomes of a job whose task fails, asks for something, takes too long or is cancelled."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.signals import post_init
from django.utils import timezone
from pytest_django import Settings

from django_dbq.backends import Wanted, backend_for
from django_dbq.claims import Claim
from django_dbq.execution import Execution
from django_dbq.models import Failure, Job
from django_dbq.retries import RetryPolicy
from tests import tasks

pytestmark = pytest.mark.django_db

Work = Callable[..., str]
WORKER = uuid.uuid4()


def define(settings: Settings, task: str, **entry: Any) -> None:
    """Let there be one job, ``job``, of that task of ours, with these keys."""
    paths = [f"tests.tasks.{name}" for name in task.split()]
    settings.JOBS = {"job": {"tasks": paths, **entry}}


def claim() -> Claim:
    [held] = backend_for("default").claim(Wanted(["default"], ["job"], 1, WORKER))
    return held


def run() -> Job:
    """Run the next task of the one job, which is due; return the job as it is then."""
    job = Job.objects.get()
    Job.objects.filter(pk=job.pk).update(run_after=None)
    outcome = Execution(claim()).run()
    assert backend_for("default").finish([outcome]) == []
    job.refresh_from_db()
    return job


def ignore(**_: object) -> None:
    """Listen to a signal."""


def wait_of(job: Job) -> float:
    """Return for how many seconds the job has to wait."""
    assert job.run_after is not None
    return (job.run_after - timezone.now()).total_seconds()


@pytest.fixture(autouse=True)
def events(events: list[str]) -> list[str]:
    return events


class TestRetries:
    def test_a_failed_task_is_tried_again_so_often_and_then_fails(self, settings: Settings) -> None:
        define(settings, "fail_until", retries=2, failure_hook="tests.tasks.failure_hook")
        Job.objects.create(name="job", workspace={"error": "ValueError"})
        first = run()
        assert (first.state, first.attempts) == ("READY", 1)
        assert 10 < wait_of(first) <= 15
        assert 20 < wait_of(run()) <= 30
        last = run()
        assert (last.state, last.attempts) == ("FAILED", 3)
        assert tasks.events == ["try 1", "try 2", "try 3", "failure_hook FAILED ValueError"]

    def test_one_that_succeeds_goes_on(self, settings: Settings) -> None:
        define(settings, "fail_until noop", retries=5)
        Job.objects.create(name="job", workspace={"error": "ValueError", "failures": 2})
        assert [run().state for _ in range(3)] == ["READY"] * 3
        job = Job.objects.get()
        assert (job.next_task, job.attempts, job.error) == ("tests.tasks.noop", 0, None)
        assert run().state == "COMPLETE"

    @pytest.mark.parametrize(
        ("error", "state"), [("ValueError", "READY"), ("LookupError", "FAILED")]
    )
    def test_a_policy_says_which(self, settings: Settings, error: str, state: str) -> None:
        define(settings, "fail_until", retries=RetryPolicy(on=["ValueError"], delay=0))
        Job.objects.create(name="job", workspace={"error": error})
        assert run().state == state

    def test_lost_workers_do_not_count(self, settings: Settings) -> None:
        define(settings, "fail_until", retries=1)
        Job.objects.create(name="job", workspace={"error": "ValueError"})
        Job.objects.update(attempts=2, losses=2)
        assert run().state == "READY"
        assert run().state == "FAILED"

    def test_a_policy_that_names_no_exception_does_not_strand_the_job(
        self, settings: Settings
    ) -> None:
        define(settings, "fail", retries={"on": ["tests.tasks.NOT_CALLABLE"]})
        Job.objects.create(name="job")
        assert run().state == "FAILED"

    def test_a_task_that_the_job_does_not_list_is_not_tried_again(self, settings: Settings) -> None:
        define(settings, "noop", retries=5)
        Job.objects.create(name="job")
        Job.objects.update(next_task="os.system")
        assert run().state == "FAILED"

    def test_the_wait_is_by_the_clock_of_the_database(self, settings: Settings) -> None:
        define(settings, "fail", retries=RetryPolicy(delay=100, jitter=False))
        Job.objects.create(name="job")
        held = claim()
        outcome = Execution(held, clock=lambda: 5.0).run()
        assert outcome.row.run_after == held.started + timedelta(seconds=100)


class TestRequests:
    def test_retry_waits_as_long_as_it_says_and_counts(self, settings: Settings) -> None:
        define(settings, "ask")
        Job.objects.create(name="job", workspace={"ask": "Retry"})
        job = run()
        assert (job.state, job.attempts, job.workspace["asked"]) == ("READY", 1, True)
        assert 590 < wait_of(job) <= 600
        assert run().state == "COMPLETE"
        assert tasks.events == ["ask 1", "ask 2"]

    def test_retry_has_an_end(self, settings: Settings) -> None:
        define(settings, "ask", retries=0)
        Job.objects.create(name="job", workspace={"ask": "Retry soon"})
        assert run().state == "FAILED"

    def test_snooze_does_not_count_and_is_no_failure(self, settings: Settings) -> None:
        define(settings, "ask")
        Job.objects.create(name="job", workspace={"ask": "Snooze"})
        job = run()
        assert (job.state, job.attempts, job.error) == ("READY", 0, None)
        assert 590 < wait_of(job) <= 600
        assert not Failure.objects.exists()
        run()
        assert tasks.events == ["ask 1", "ask 1"]

    def test_discard_gives_up_at_once(self, settings: Settings) -> None:
        define(settings, "ask", retries=5, failure_hook="tests.tasks.failure_hook")
        Job.objects.create(name="job", workspace={"ask": "Discard"})
        job = run()
        assert job.state == "FAILED"
        assert str(job.error).endswith("Discard: in vain")
        assert tasks.events == ["ask 1", "failure_hook FAILED Discard"]


class TestRecord:
    def test_every_failed_attempt_is_kept(self, settings: Settings) -> None:
        define(settings, "fail_until", retries=2)
        Job.objects.create(name="job", workspace={"error": "ValueError", "failures": 2})
        run(), run()
        job = run()
        assert job.state == "COMPLETE"
        kept = list(job.failures.order_by("attempt"))
        assert [failure.attempt for failure in kept] == [1, 2]
        for failure in kept:
            assert failure.task == "tests.tasks.fail_until"
            assert failure.exception == "ValueError: no"
            assert failure.traceback.endswith("ValueError: no")
            assert ":" in failure.worker
            assert abs(failure.failed - timezone.now()) < timedelta(minutes=1)

    def test_success_writes_nothing_extra(self, settings: Settings) -> None:
        define(settings, "noop")
        Job.objects.create(name="job")
        assert run().state == "COMPLETE"
        assert not Failure.objects.exists()

    def test_a_late_failure_is_not_kept(self, settings: Settings) -> None:
        define(settings, "fail")
        Job.objects.create(name="job")
        outcome = Execution(claim()).run()
        Job.objects.update(claim_token=uuid.uuid4())
        assert backend_for("default").finish([outcome]) == [outcome]
        assert not Failure.objects.exists()

    @pytest.mark.parametrize(
        "task",
        [
            "raise_unprintable",
            "recurse",
            "raise_base_exception",
            "raise_malformed",
            "write_evil",
        ],
    )
    def test_whatever_is_raised_can_be_kept(self, settings: Settings, task: str) -> None:
        define(settings, task)
        Job.objects.create(name="job")
        assert run().state == "FAILED"
        assert len(Failure.objects.get().exception) <= 255

    def test_failures_go_with_their_job(self, settings: Settings) -> None:
        define(settings, "fail")
        Job.objects.create(name="job")
        run()
        Job.objects.all().delete()
        assert not Failure.objects.exists()


class TestRunningAgain:
    def test_from_the_task_that_failed_or_from_the_first(self, settings: Settings) -> None:
        define(settings, "noop fail")
        Job.objects.create(name="job")
        run()
        job = run()
        assert (job.state, job.next_task) == ("FAILED", "tests.tasks.fail")
        assert job.retry()
        assert (job.state, job.next_task, job.attempts) == ("READY", "tests.tasks.fail", 0)
        job = run()
        assert job.retry(from_first=True)
        tasks.events.clear()
        assert run().next_task == "tests.tasks.fail"
        assert tasks.events == [f"noop {job.pk}"]
        assert job.failures.count() == 2

    def test_only_a_failed_job(self, settings: Settings) -> None:
        define(settings, "noop")
        job = Job.objects.create(name="job")
        assert not job.retry()
        run()
        assert not job.retry()
        job.refresh_from_db()
        assert job.state == "COMPLETE"


class TestCancelling:
    def test_a_waiting_job_fails_at_once_and_never_starts(
        self, settings: Settings, work: Work
    ) -> None:
        define(settings, "noop")
        job = Job.objects.create(name="job", run_after=timezone.now() + timedelta(days=1))
        assert job.cancel()
        assert job.state == "FAILED"
        assert str(job.error).startswith("django_dbq.errors.JobCancelled: ")
        assert job.finished is not None
        Job.objects.update(run_after=None)
        work()
        assert tasks.events == []

    def test_a_running_job_ends_between_two_tasks(self, settings: Settings, work: Work) -> None:
        define(settings, "cancel_itself noop", failure_hook="tests.tasks.failure_hook")
        job = Job.objects.create(name="job")
        work()
        job.refresh_from_db()
        assert (job.state, job.next_task) == ("FAILED", "tests.tasks.noop")
        assert "JobCancelled" in str(job.error)
        assert tasks.events == [
            "cancelling False",
            "cancelled True",
            "failure_hook FAILED JobCancelled",
        ]

    def test_one_that_is_to_wait_does_not(self, settings: Settings) -> None:
        define(settings, "cancel_and_snooze", failure_hook="tests.tasks.failure_hook")
        job = Job.objects.create(name="job")
        assert run().run_after is None
        assert run().state == "FAILED"
        job.refresh_from_db()
        assert "JobCancelled" in str(job.error)

    def test_one_whose_last_task_runs_completes(self, settings: Settings, work: Work) -> None:
        define(settings, "cancel_itself")
        Job.objects.create(name="job")
        work()
        assert Job.objects.get().state == "COMPLETE"

    def test_is_refused_when_the_job_has_ended(self, settings: Settings) -> None:
        define(settings, "noop")
        job = Job.objects.create(name="job")
        run()
        assert not job.cancel()
        job.refresh_from_db()
        assert (job.state, job.cancel_requested) == ("COMPLETE", None)

    def test_a_cancelled_job_can_run_again(self, settings: Settings) -> None:
        define(settings, "noop")
        job = Job.objects.create(name="job")
        job.cancel()
        assert job.retry()
        assert run().state == "COMPLETE"


class TestLosses:
    def test_a_job_that_was_lost_too_often_fails_without_being_started(
        self, settings: Settings
    ) -> None:
        define(settings, "noop", failure_hook="tests.tasks.failure_hook")
        Job.objects.create(name="job")
        Job.objects.update(losses=4, attempts=4)
        job = run()
        assert (job.state, job.losses) == ("FAILED", 4)
        assert "JobLost" in str(job.error)
        assert tasks.events == ["failure_hook FAILED JobLost"]

    def test_max_losses_is_a_setting(self, settings: Settings) -> None:
        define(settings, "noop")
        settings.DBQ = {"MAX_LOSSES": 5}
        Job.objects.create(name="job")
        Job.objects.update(losses=5)
        assert run().state == "COMPLETE"

    def test_a_job_may_ask_to_fail_when_it_was_lost_once(self, settings: Settings) -> None:
        define(settings, "noop", on_lost="fail")
        Job.objects.create(name="job")
        Job.objects.update(losses=1)
        assert run().state == "FAILED"

    def test_a_failure_hook_that_no_worker_survives_is_run_once(self, settings: Settings) -> None:
        define(settings, "noop", failure_hook="tests.tasks.failure_hook")
        Job.objects.create(name="job")
        Job.objects.update(losses=5)
        assert run().state == "FAILED"
        assert tasks.events == []

    def test_one_that_is_tried_again_wipes_it_too(self, settings: Settings) -> None:
        """No worker was lost over the attempt: a job that polls for months is no suspect."""
        define(settings, "ask")
        Job.objects.create(name="job", workspace={"ask": "Snooze"})
        Job.objects.update(attempts=2, losses=2)
        job = run()
        assert (job.state, job.attempts, job.losses) == ("READY", 0, 0)

    def test_a_task_that_ends_wipes_the_slate_for_the_next(self, settings: Settings) -> None:
        define(settings, "noop third")
        Job.objects.create(name="job")
        Job.objects.update(losses=2)
        assert run().losses == 0


class TestSetBack:
    """By ``update()`` or in SQL, as the specification's users do it."""

    def test_what_was_lost_too_often_begins_anew(self, settings: Settings) -> None:
        define(settings, "noop")
        Job.objects.create(name="job")
        Job.objects.update(losses=4, attempts=4)
        assert run().state == "FAILED"
        Job.objects.update(state="READY")
        job = run()
        assert (job.state, job.losses, job.attempts) == ("COMPLETE", 0, 1)

    def test_what_was_cancelled_runs(self, settings: Settings) -> None:
        define(settings, "noop")
        Job.objects.create(name="job").cancel()
        Job.objects.update(state="READY")
        job = run()
        assert (job.state, job.cancel_requested) == ("COMPLETE", None)

    def test_what_has_used_up_its_retries_has_them_again(self, settings: Settings) -> None:
        define(settings, "fail_until", retries=1)
        Job.objects.create(name="job", workspace={"error": "ValueError"})
        assert [run().state for _ in range(2)] == ["READY", "FAILED"]
        Job.objects.update(state="READY")
        assert [run().state for _ in range(2)] == ["READY", "FAILED"]


class TestTimeouts:
    @pytest.mark.parametrize("task", ["too_slow", "too_slow_async"])
    def test_a_task_over_its_time_fails(self, settings: Settings, task: str) -> None:
        define(settings, task, timeout=0.05)
        Job.objects.create(name="job")
        job = run()
        assert job.state == "FAILED"
        assert "TaskTimeout: The task took longer than its timeout of 0.05 seconds." in str(
            job.error
        )

    def test_and_is_tried_again_like_any_other(self, settings: Settings) -> None:
        define(settings, "too_slow", timeout={"tests.tasks.too_slow": 0.05}, retries=1)
        Job.objects.create(name="job")
        assert run().state == "READY"
        assert run().state == "FAILED"


class TestUnreadableRows:
    @pytest.mark.parametrize("listened", [False, True])
    @pytest.mark.parametrize("digits", ["9" * 5000, "[" * 20 + "9" * 5000 + "]" * 20])
    def test_fail_alone_and_keep_what_they_hold(
        self, settings: Settings, work: Work, digits: str, listened: bool
    ) -> None:
        """Python reads no number of more than 4,300 digits.

        Where somebody listens to ``post_init`` the job is complete before its task runs.
        """
        define(settings, "noop" if listened else "read_workspace")
        jobs = [Job.objects.create(name="job") for _ in range(3)]
        key = jobs[1].pk.hex if connection.vendor == "sqlite" else str(jobs[1].pk)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE django_dbq_job SET workspace = %s WHERE id = %s", [digits, key])
        if listened:
            post_init.connect(ignore, sender=Job)
        try:
            work()
        finally:
            post_init.disconnect(ignore, sender=Job)
        with connection.cursor() as cursor:
            cursor.execute("SELECT state, error, workspace FROM django_dbq_job ORDER BY created")
            rows = cursor.fetchall()
        assert [state for state, *_ in rows] == ["COMPLETE", "FAILED", "COMPLETE"]
        assert "Exceeds the limit" in rows[1][1]
        assert rows[1][2] == digits

    def test_matter_to_no_task_that_does_not_look(self, settings: Settings, work: Work) -> None:
        define(settings, "noop")
        job = Job.objects.create(name="job")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE django_dbq_job SET workspace = %s", ["9" * 5000])
        work()
        assert Job.objects.filter(pk=job.pk, state="COMPLETE").exists()

    @pytest.mark.parametrize("moment", ["0001-01-01 00:00:00+14", "-infinity", "1", "0000-00-00"])
    def test_times_that_nobody_can_hold_keep_no_other_job_waiting(
        self, settings: Settings, work: Work, moment: str
    ) -> None:
        if (connection.vendor == "postgresql") != (
            moment in ("0001-01-01 00:00:00+14", "-infinity")
        ):
            pytest.skip("the database would not take it")
        define(settings, "noop")
        jobs = [Job.objects.create(name="job") for _ in range(3)]
        key = jobs[1].pk.hex if connection.vendor == "sqlite" else str(jobs[1].pk)
        with connection.cursor() as cursor:
            if connection.vendor == "mysql":
                cursor.execute("SET SESSION sql_mode = ''")
            cursor.execute(
                "UPDATE django_dbq_job SET run_after = %s, created = %s WHERE id = %s",
                [moment, moment, key],
            )
        work()
        assert set(Job.objects.values_list("state", flat=True)) == {"COMPLETE"}


class TestOwnership:
    def test_a_task_may_ask_whether_the_job_is_still_its_own(
        self, settings: Settings, work: Work
    ) -> None:
        define(settings, "look_whose")
        job = Job.objects.create(name="job")
        assert not job.still_mine()
        work()
        assert tasks.events == ["mine True", "mine False"]
