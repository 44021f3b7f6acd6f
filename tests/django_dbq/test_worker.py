"""The loop: what is claimed when, in which order, and what a stop does."""

import io
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError
from django.utils import timezone
from pytest_django import Settings

from django_dbq.batch import LARGEST_BATCH, BatchSize
from django_dbq.claims import Outcome
from django_dbq.execution import execute
from django_dbq.models import Job
from django_dbq.worker import Tally, Worker
from tests import tasks

pytestmark = pytest.mark.django_db

Work = Callable[..., str]


def note(text: str, **columns: Any) -> Job:
    return Job.objects.create(name="note", workspace={"note": text}, **columns)


class TestOrder:
    def test_higher_priority_first_then_the_older_job(self, work: Work, events: list[str]) -> None:
        note("normal")
        note("important", priority=1)
        note("critical", priority=2)
        note("later")
        note("unimportant", priority=-1)
        work()
        assert events == [
            "note critical", "note important", "note normal", "note later", "note unimportant",
        ]  # fmt: skip

    def test_queues_are_served_in_the_order_given(self, work: Work, events: list[str]) -> None:
        note("b", queue_name="b", priority=5)
        note("a", queue_name="a")
        note("default")
        note("c", queue_name="c")
        work("a", "b", "default")
        assert events == ["note a", "note b", "note default"]

    def test_only_the_default_queue_is_served_by_default(
        self, work: Work, events: list[str]
    ) -> None:
        note("other", queue_name="other")
        work()
        assert events == []

    def test_a_scheduled_job_waits_for_its_time(self, work: Work, events: list[str]) -> None:
        job = note("later", run_after=timezone.now() + timedelta(minutes=10), priority=9)
        note("now")
        work()
        assert events == ["note now"]
        Job.objects.filter(pk=job.pk).update(run_after=timezone.now() - timedelta(seconds=1))
        work()
        assert events == ["note now", "note later"]

    def test_between_its_tasks_a_job_lets_a_higher_priority_go_first(
        self, work: Work, events: list[str], settings: Settings
    ) -> None:
        settings.JOBS = {
            "job": ["tests.django_dbq.test_worker.create_urgent", "tests.tasks.note"],
            "note": ["tests.tasks.note"],
        }
        Job.objects.create(name="job", workspace={"note": "second task"})
        work()
        assert events == ["first task", "note urgent", "note second task"]

    def test_all_tasks_of_a_job_go_before_a_lower_priority(
        self, work: Work, events: list[str]
    ) -> None:
        """Also when both were claimed together."""
        for _ in range(20):
            note("quick", priority=3)
        for priority in (1, 2):
            Job.objects.create(name="three", priority=priority)
        note("low")
        work()
        assert [event.split()[0] for event in events[20:-1]] == ["first", "second", "third"] * 2
        assert events[-1] == "note low"

    def test_all_tasks_of_a_job_go_before_a_later_queue(
        self, work: Work, events: list[str]
    ) -> None:
        for _ in range(20):
            note("quick", queue_name="first")
        note("low", queue_name="second", priority=9)
        Job.objects.create(name="three", queue_name="first")
        work("first", "second")
        assert events[-1] == "note low"

    def test_states_that_do_not_wait_are_left_alone(self, work: Work, events: list[str]) -> None:
        for state in (Job.STATES.PROCESSING, Job.STATES.STOPPING, *Job.FINISHED):
            note(state, state=state)
        work()
        assert events == []


def create_urgent(job: Job) -> None:
    tasks.record("first task")
    note("urgent", priority=1)


class Clock:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds


class TestRateLimit:
    @pytest.mark.parametrize(
        ("rate_limit", "slept"), [(1, [1, 1, 1]), (2.5, [2.5, 2.5, 2.5]), (0, [])]
    )
    def test_is_the_least_time_between_two_starts(
        self, events: list[str], rate_limit: float, slept: list[float]
    ) -> None:
        for i in range(3):
            note(str(i))
        clock = Clock()
        worker = Worker(
            queues=["default"], using="default", rate_limit=rate_limit, burst=True, clock=clock
        )
        worker.stop.sleep = clock.sleep  # type: ignore[method-assign]
        worker.run()
        assert len(events) == 3
        # The last wait is the one before it finds that nothing is left.
        assert clock.slept == slept

    def test_an_idle_worker_starts_a_new_job_at_once(self, events: list[str]) -> None:
        clock = Clock()
        worker = Worker(queues=["default"], using="default", rate_limit=10, clock=clock)
        looks = 0

        def sleep(seconds: float) -> None:
            nonlocal looks
            clock.sleep(seconds)
            looks += 1
            if looks == 300:
                note("at last")
            if events and not worker.stop:
                worker.stop.request()

        worker.stop.sleep = sleep  # type: ignore[method-assign]
        worker.run()
        assert events == ["note at last"]
        # 300 looks of an idle worker, and no wait for the limit before the first job.
        assert max(clock.slept[:300]) < 0.2


class TestBatches:
    def test_the_size_follows_the_slowest_task(self) -> None:
        size = BatchSize()
        sizes = []
        for slowest in (0.0001, 0.0001, 0.0001, 0.01, 0.0001, 2.0, 0.0001):
            sizes.append(size.size)
            size.adapt(slowest)
        assert sizes == [1, 2, 4, 8, 3, 6, 1]
        for _ in range(20):
            size.adapt(0.0)
        assert size.size == LARGEST_BATCH
        size.adapt(0.0, overtaken=True)
        assert size.size == 1

    def test_many_quick_jobs_take_few_claims(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Job.objects.bulk_enqueue(Job(name="query") for _ in range(200))
        limits: list[int] = []
        worker = Worker(
            queues=["default"], using="default", rate_limit=0, burst=True, clock=Clock()
        )
        claim = worker.backend.claim

        def counting(*args: Any, limit: int, **kwargs: Any) -> Any:
            limits.append(limit)
            return claim(*args, limit=limit, **kwargs)

        monkeypatch.setattr(worker.backend, "claim", counting)
        assert worker.run() == Tally(complete=200)
        assert limits[:6] == [1, 2, 4, 8, 16, 32]
        assert len(limits) <= 12

    def test_a_rate_limit_means_one_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Job.objects.bulk_enqueue(Job(name="query") for _ in range(5))
        clock = Clock()
        worker = Worker(
            queues=["default"], using="default", rate_limit=0.1, burst=True, clock=clock
        )
        worker.stop.sleep = clock.sleep  # type: ignore[method-assign]
        held: list[int] = []
        claim = worker.backend.claim

        def counting(*args: Any, **kwargs: Any) -> Any:
            claimed = claim(*args, **kwargs)
            held.append(len(claimed))
            return claimed

        monkeypatch.setattr(worker.backend, "claim", counting)
        worker.run()
        assert held == [1, 1, 1, 1, 1, 0]

    def test_what_a_slow_task_kept_waiting_is_handed_back_as_it_was(
        self, events: list[str]
    ) -> None:
        clock = Clock()
        worker = Worker(queues=["default"], using="default", rate_limit=0, burst=True, clock=clock)
        for i in range(7):
            note(f"quick {i}")
        slow = Job.objects.create(name="query", priority=-1)
        unlucky = note("unlucky", priority=-2)
        seen: list[tuple[str, int]] = []

        def executing(job: Job, claim: Any) -> Outcome:
            if job.pk == slow.pk:
                clock.now += 10
                row = Job.objects.get(pk=unlucky.pk)
                seen.append((row.state, row.attempts))
            return execute(job, claim)

        finished: list[Outcome] = []
        finish = worker.backend.finish

        def finishing(outcomes: list[Outcome]) -> list[Outcome]:
            finished.extend(outcomes)
            return finish(outcomes)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("django_dbq.worker.execute", executing)
            patch.setattr(worker.backend, "finish", finishing)
            worker.run()
        assert seen == [("PROCESSING", 1)]
        of_unlucky = [outcome for outcome in finished if outcome.claim.job_id == unlucky.pk]
        assert [outcome.row.state for outcome in of_unlucky] == ["NEW", "COMPLETE"]
        unlucky.refresh_from_db()
        # Claimed twice, run once.
        assert (unlucky.state, unlucky.attempts) == (Job.STATES.COMPLETE, 1)
        assert events.count("note unlucky") == 1


class TestUnknownJobs:
    def test_are_warned_of_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("django_dbq.worker.UNKNOWN_INTERVAL", 0)
        note("never")
        Job.objects.update(name="gone")
        worker = Worker(queues=["default"], using="default", rate_limit=0)
        looks: list[float] = []

        def sleep(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 5:
                worker.stop.request()

        worker.stop.sleep = sleep  # type: ignore[method-assign]
        worker.run()
        assert caplog.text.count("event=unknown_job name=gone") == 1


class TestRefusedOutcomes:
    def test_one_that_the_database_refuses_fails_its_own_job_only(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad, good = note("bad"), note("good")
        worker = Worker(queues=["default"], using="default", rate_limit=0, burst=True)
        worker._batch_size.size = 2
        finish = worker.backend.finish

        def refusing(outcomes: list[Outcome]) -> list[Outcome]:
            if any(o.claim.job_id == bad.pk and o.row.state == "COMPLETE" for o in outcomes):
                raise DataError("out of range")
            return finish(outcomes)

        monkeypatch.setattr(worker.backend, "finish", refusing)
        tally = worker.run()
        bad.refresh_from_db()
        good.refresh_from_db()
        assert (bad.state, good.state) == (Job.STATES.FAILED, Job.STATES.COMPLETE)
        assert "DataError: out of range" in str(bad.error)
        assert tally == Tally(complete=1, failed=1)


class TestStop:
    # A thread marks the job as STOPPING, and would wait for a lock of the test's transaction.
    @pytest.mark.django_db(transaction=True)
    def test_the_running_task_ends_and_nothing_else_starts(
        self, events: list[str], work: Work
    ) -> None:
        running = Job.objects.create(name="terminate_own_worker", priority=1)
        waiting = note("never")
        work(burst=False)
        running.refresh_from_db()
        waiting.refresh_from_db()
        assert [event.split()[0] for event in events] == ["terminating", "ended"]
        assert (running.state, waiting.state) == (Job.STATES.COMPLETE, Job.STATES.NEW)
        assert waiting.attempts == 0

    @pytest.mark.django_db(transaction=True)
    def test_what_was_claimed_together_is_handed_back(self, events: list[str]) -> None:
        running = Job.objects.create(name="terminate_own_worker", priority=1)
        for _ in range(4):
            note("never")
        worker = Worker(queues=["default"], using="default", rate_limit=0)
        worker._batch_size.size = 5
        worker.run()
        assert [event.split()[0] for event in events] == ["terminating", "ended"]
        others = Job.objects.exclude(pk=running.pk)
        assert set(others.values_list("state", "attempts", "claim_token")) == {("NEW", 0, None)}

    def test_a_stop_before_the_start_claims_nothing(self, events: list[str]) -> None:
        note("never")
        worker = Worker(queues=["default"], using="default")
        worker.stop.request()
        worker.run()
        assert events == []

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("ended", [True, False])
    def test_a_task_that_ends_while_it_is_handed_back_has_one_outcome(
        self, monkeypatch: pytest.MonkeyPatch, ended: bool
    ) -> None:
        """The second request finds it running, and then among the outcomes as well."""
        left: list[bool] = []
        monkeypatch.setattr("django_dbq.worker.leave_at_once", lambda: left.append(True))
        job = note("once")
        worker = Worker(queues=["default"], using="default")
        worker._batch.hold(
            worker.backend.claim(["default"], names=["note"], limit=1, worker=worker.id)
        )
        started = worker._batch.start()
        assert started is not None
        if ended:
            worker._batch.end(execute(*started))
            worker._batch.running = started[1]
        worker._on_stop_request(2)
        job.refresh_from_db()
        assert left == [True]
        assert job.state == ("COMPLETE" if ended else "NEW")
        assert job.claim_token is None

    @pytest.mark.django_db(transaction=True)
    def test_nobody_leaves_between_a_claim_and_its_holding(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_dbq.worker.leave_at_once", lambda: None)
        job = note("once")
        worker = Worker(queues=["default"], using="default", rate_limit=0)
        claim = worker.backend.claim
        second = threading.Thread(target=worker._on_stop_request, args=[2])

        def claiming(*args: Any, **kwargs: Any) -> Any:
            claimed = claim(*args, **kwargs)
            worker.stop.count = 2
            second.start()
            second.join(timeout=0.5)
            assert second.is_alive()
            return claimed

        monkeypatch.setattr(worker.backend, "claim", claiming)
        worker._work()
        second.join()
        job.refresh_from_db()
        assert (job.state, job.attempts, job.claim_token) == (Job.STATES.NEW, 0, None)

    def test_handlers_are_put_back(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        Worker(queues=["default"], using="default", burst=True).run()
        assert signal.getsignal(signal.SIGTERM) is before


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "announcement"),
        [
            ([], 'queue "default" with rate limit of one job per 1 second(s)'),
            (["mail"], 'queue "mail" with rate limit of one job per 1 second(s)'),
            (["--rate_limit", "2"], 'queue "default" with rate limit of one job per 2 second(s)'),
            (["--rate_limit=0.5"], 'queue "default" with rate limit of one job per 0.5 second(s)'),
            (["--rate_limit", "0"], 'queue "default" with no rate limit'),
            (["a", "b", "a"], 'queues "a", "b" with rate limit of one job per 1 second(s)'),
        ],
    )
    def test_says_what_it_does_and_a_dry_run_does_nothing(
        self, events: list[str], arguments: list[str], announcement: str
    ) -> None:
        note("never")
        out = io.StringIO()
        call_command("worker", *arguments, "--dry-run", stdout=out)
        assert out.getvalue() == f"Starting job worker for {announcement}\n"
        assert events == []

    @pytest.mark.parametrize("limit", ["-1", "nan", "fast", "inf"])
    def test_a_rate_limit_that_is_none_is_an_error(self, limit: str) -> None:
        with pytest.raises(CommandError, match="must be a number of 0 or more"):
            call_command("worker", "--dry-run", "--rate_limit", limit)
        with pytest.raises(CommandError, match="must be a number of 0 or more"):
            call_command("worker", dry_run=True, rate_limit=limit)

    def test_a_burst_ends_with_a_summary(self, work: Work, settings: Settings) -> None:
        settings.JOBS = {"note": ["tests.tasks.note"], "fail": ["tests.tasks.fail"]}
        note("a")
        Job.objects.create(name="fail")
        note("later", run_after=timezone.now() + timedelta(hours=1))
        assert "1 job(s) complete, 1 failed, 0 left" in work()

    def test_a_burst_shows_its_progress_on_a_terminal(
        self, work: Work, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr("django_dbq.management.progress.INTERVAL", 0)
        for i in range(3):
            note(str(i))
        out = Terminal()
        call_command("worker", burst=True, rate_limit=0, stdout=out)
        drawn = out.getvalue().split("\r")
        assert "1 done, 0 failed, 2 left" in drawn[1]
        assert "[########" in drawn[1]
        assert "3 job(s) complete, 0 failed, 0 left" in drawn[-1]


@pytest.mark.django_db(databases=["default", "other"])
class TestOtherDatabase:
    def test_a_worker_serves_the_database_that_it_is_told(
        self, work: Work, events: list[str]
    ) -> None:
        job = Job.objects.using("other").create(name="hooked")
        events.clear()
        Job.objects.create(name="noop")
        work(database="other")
        job.refresh_from_db()
        assert job._state.db == "other"
        assert job.state == Job.STATES.COMPLETE
        assert Job.objects.get().state == Job.STATES.NEW

    def test_routers_choose_it_otherwise(self, work: Work, settings: Settings) -> None:
        settings.DATABASE_ROUTERS = [JobsElsewhere()]
        job = Job.objects.create(name="hooked")
        assert job._state.db == "other"
        Job.objects.bulk_enqueue([Job(name="hooked")])
        assert Job.get_queue_depths() == {"default": 2}
        work()
        assert Job.get_queue_depths() == {}
        assert Job.objects.using("other").filter(state="COMPLETE").count() == 2
        assert not Job.objects.using("default").exists()


class JobsElsewhere:
    """Keeps the jobs in the database "other"."""

    def db_for_read(self, model: type, **hints: object) -> str:
        return "other"

    def db_for_write(self, model: type, **hints: object) -> str:
        return "other"
