"""The loop: what is claimed when, in which order, and what a stop does."""

import io
import re
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DataError, InterfaceError, OperationalError, connections
from django.utils import timezone
from pytest_django import Settings

from django_dbq import dispatcher as dispatcher_module
from django_dbq.backends import LostJobs, Wanted, backend_for
from django_dbq.batch import LARGEST_BATCH, TARGET_SECONDS, Batch, BatchSize
from django_dbq.claims import Claim, Outcome
from django_dbq.clock import elapsed
from django_dbq.dispatcher import PROMOTE_INTERVAL
from django_dbq.execution import Execution, release
from django_dbq.limits import Limits, Tally
from django_dbq.models import Job
from django_dbq.models import Worker as Row
from django_dbq.worker import Worker
from tests import tasks
from tests.conftest import states, wait_for
from tests.routers import JobsElsewhere

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
        work("default", "b", "a")
        assert events == ["note default", "note b", "note a"]

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
    """A clock that only moves when the worker waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float | None, *files: int) -> bool:
        assert seconds is not None
        if seconds:
            self.slept.append(round(seconds, 3))
        self.now += seconds
        return False


def worker_with(clock: Clock, **limits: Any) -> Worker:
    worker = Worker(
        queues=["default"], using="default", limits=Limits(**{"rate": 0, **limits}), clock=clock
    )
    worker.bell.wait = clock.wait  # type: ignore[method-assign]
    return worker


def test_a_lease_runs_out_while_the_machine_sleeps() -> None:
    """Others' clocks go on meanwhile, so that this one's must."""
    worker = Worker(queues=["default"], using="default")
    assert worker.batch.clock is worker.dispatcher.clock is elapsed
    assert abs(elapsed() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60


class TestRateLimit:
    @pytest.mark.parametrize(("rate", "slept"), [(1, [1, 1, 1]), (2.5, [2.5, 2.5, 2.5]), (0, [])])
    def test_is_the_least_time_between_two_starts(
        self, events: list[str], rate: float, slept: list[float]
    ) -> None:
        for i in range(3):
            note(str(i))
        clock = Clock()
        worker_with(clock, rate=rate, burst=True).run()
        assert len(events) == 3
        # The last wait is the one before it finds that nothing is left.
        assert clock.slept == slept

    def test_means_one_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Job.objects.bulk_enqueue(Job(name="query") for _ in range(5))
        worker = worker_with(Clock(), rate=0.1, burst=True)
        limits = count_claims(worker, monkeypatch)
        worker.run()
        assert limits == [1] * 6

    def test_an_idle_worker_starts_a_new_job_at_once(self, events: list[str]) -> None:
        clock = Clock()
        worker = worker_with(clock, rate=10)
        looks = 0

        def wait(seconds: float | None, *files: int) -> bool:
            nonlocal looks
            looks += 1
            if looks == 300:
                note("at last")
            if events:
                worker.stop.request()
            return clock.wait(seconds)

        worker.bell.wait = wait  # type: ignore[method-assign]
        worker.run()
        assert events == ["note at last"]
        # 300 looks of an idle worker, and no wait for the limit before the first job.
        assert max(clock.slept[:300]) < 0.2


def count_claims(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the limit of each claim of the worker."""
    limits: list[int] = []
    backend = worker.dispatcher.backend
    claim = backend.claim

    def counting(wanted: Wanted) -> Any:
        limits.append(wanted.limit)
        return claim(wanted)

    def counting_exchange(outcomes: Any, wanted: Wanted, meanwhile: Callable[[], None]) -> Any:
        meanwhile()
        return backend.finish(outcomes), counting(wanted)

    monkeypatch.setattr(backend, "claim", counting)
    monkeypatch.setattr(backend, "exchange", counting_exchange)
    return limits


@pytest.mark.django_db
class TestBatchSize:
    def test_follows_the_pace_of_the_tasks(self) -> None:
        size = BatchSize()
        sizes = []
        for pace in (0.0001, 0.0001, 0.0001, 0.01, 0.0001, 2.0, 0.0001):
            size.adapt(pace, threads=1)
            sizes.append(size.size)
        assert sizes == [1, 3, 7, 3, 7, 0, 1]
        for _ in range(20):
            size.adapt(0.0, threads=1)
        assert size.size == LARGEST_BATCH

    def test_is_as_many_times_larger_as_there_are_threads(self) -> None:
        size = BatchSize()
        for _ in range(20):
            size.adapt(0.01, threads=20)
        assert size.size == 60

    def test_is_smaller_where_workspaces_are_large(self) -> None:
        Job.objects.create(name="noop", workspace={"text": "x" * 1024 * 1024})
        claims = backend_for("default").claim(Wanted(["default"], ["noop"], 1, uuid.uuid4()))
        size = BatchSize()
        size.weigh(claims)
        size.weigh([claims[0]._replace(row=claims[0].row._replace(workspace="{}"))])
        for _ in range(20):
            size.adapt(0.0, threads=1)
        assert size.size == 17  # it forgets them slowly


@pytest.mark.django_db(transaction=True)
class TestBatches:
    def test_many_quick_jobs_take_few_claims(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Job.objects.bulk_enqueue(Job(name="query") for _ in range(2000))
        # A clock that stands still finds every task quick.
        worker = Worker(
            queues=["default"],
            using="default",
            limits=Limits(rate=0, burst=True),
            clock=lambda: 1000.0,
        )
        limits = count_claims(worker, monkeypatch)
        assert worker.run() == Tally(complete=2000)
        assert len(limits) < 60
        assert max(limits) > 100

    def test_are_small_where_workspaces_are_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """However quick the tasks are, which do not look at them."""
        monkeypatch.setattr("django_dbq.batch.LARGEST_WEIGHT", 2500)
        Job.objects.bulk_enqueue(
            Job(name="noop", workspace={"text": "x" * 1000}) for _ in range(12)
        )
        worker = Worker(
            queues=["default"], using="default", limits=Limits(rate=0), clock=lambda: 1000.0
        )
        sizes: list[int] = []
        for _ in range(4):
            worker.dispatcher.turn()
            sizes.append(worker.dispatcher._size.size)
            while held := worker.batch.start(wait=False):
                worker.batch.end(Execution(held).run())
        assert sizes == [0, 1, 2, 2]

    def test_are_looked_through_only_while_a_claim_may_be_lost(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not in each turn: it takes the longer the more is held."""
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(5))
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0))
        looks: list[Batch] = []
        held = Batch._held

        def look(batch: Batch) -> list[Claim]:
            looks.append(batch)
            return held(batch)

        monkeypatch.setattr(Batch, "_held", look)
        worker.dispatcher.turn()
        worker.dispatcher.turn()
        assert worker.batch.unstarted
        assert looks == []
        worker.dispatcher._doubt(seconds=10)
        looks.clear()
        worker.dispatcher.turn()
        assert looks
        looks.clear()
        worker.dispatcher.turn()  # not due again yet
        assert looks == []

    def test_what_a_slow_task_keeps_waiting_is_handed_back_as_it_was(
        self, events: list[str], tmp_path: Path
    ) -> None:
        go_on = tmp_path / "go on"
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0, burst=True))
        worker.dispatcher._size.size = 10
        slow = Job.objects.create(name="wait_for_file", workspace={"file": str(go_on)}, priority=1)
        Job.objects.bulk_enqueue(Job(name="note", workspace={"note": "x"}) for _ in range(5))
        others = Job.objects.exclude(pk=slow.pk)
        seen: list[set[tuple[object, ...]]] = []

        def watch() -> None:
            try:
                wait_for(lambda: others.filter(worker=worker.id).count() == 5)
                wait_for(lambda: others.filter(state="NEW").count() == 5)
                seen.append(set(others.values_list("attempts", "claim_token")))
            finally:
                go_on.touch()
                connections.close_all()

        watcher = threading.Thread(target=watch)
        watcher.start()
        assert worker.run() == Tally(complete=6)
        watcher.join()
        assert seen == [{(0, None)}]
        # Claimed twice, run once.
        assert set(others.values_list("attempts", flat=True)) == {1}
        assert events.count("note x") == 5

    def test_a_higher_priority_that_comes_later_is_started_before_what_is_held(
        self, events: list[str]
    ) -> None:
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0, burst=True))
        worker.dispatcher._size.size = 2
        for priority in (0, 0, 0):
            note(str(priority), priority=priority)
        worker.dispatcher.turn()
        note("5", priority=5)
        worker.dispatcher._size.size = 20
        worker.batch.low_water = 10
        worker.dispatcher._promising = True
        worker.dispatcher.turn()
        first = worker.batch.start()
        assert first is not None
        assert first.row.priority == 5


@pytest.mark.django_db(transaction=True)
class TestOutcomes:
    """They are written with the next claim, in one transaction, if that is not long to come."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [1000.0]

    @pytest.fixture
    def worker(self, now: list[float]) -> Worker:
        for number in range(12):
            note(str(number))
        worker = Worker(
            queues=["default"], using="default", limits=Limits(rate=0), clock=lambda: now[0]
        )
        worker.dispatcher._size.size = worker.dispatcher._size.largest = 10
        worker.dispatcher.turn()
        assert worker.batch.unstarted == 11
        return worker

    def run_one(self, worker: Worker) -> None:
        held = worker.batch.start()
        assert held is not None
        worker.batch.end(Execution(held).run())

    def test_wait_for_a_claim_that_will_soon_be_due(self, worker: Worker) -> None:
        self.run_one(worker)
        worker.dispatcher.turn()
        assert not Job.objects.filter(state="COMPLETE").exists()
        for _ in range(3):
            self.run_one(worker)
        worker.dispatcher.turn()
        assert Job.objects.filter(state="COMPLETE").count() == 4
        assert worker.batch.unstarted == 8

    def test_wait_no_longer_than_work_is_held_ahead(self, worker: Worker, now: list[float]) -> None:
        self.run_one(worker)
        now[0] += 1.1 * TARGET_SECONDS
        worker.dispatcher.turn()
        assert Job.objects.filter(state="COMPLETE").count() == 1

    def test_do_not_wait_when_nothing_is_held_ahead(self, worker: Worker) -> None:
        for _ in range(11):
            self.run_one(worker)
        worker.dispatcher.turn()
        assert Job.objects.filter(state="COMPLETE").count() == 11


@pytest.mark.django_db(transaction=True)
class TestWakeUps:
    def test_what_was_told_of_is_claimed_before_a_look_at_what_has_become_due(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [1000.0]
        worker = Worker(
            queues=["default"], using="default", limits=Limits(rate=0), clock=lambda: now[0]
        )
        dispatcher, calls, told = worker.dispatcher, list[str](), [True]

        def claim(wanted: Wanted) -> list[Claim]:
            calls.extend(["promote"] * wanted.promoting)
            calls.append("claim")
            return []

        monkeypatch.setattr(dispatcher.backend, "promote", lambda: calls.append("promote"))
        monkeypatch.setattr(dispatcher.backend, "claim", claim)
        monkeypatch.setattr(dispatcher.wakeup, "wait", lambda seconds: told[0])
        dispatcher.turn()
        assert calls == ["promote", "claim", "promote"]
        calls.clear()
        dispatcher.wait()
        dispatcher.turn()
        assert calls == ["claim", "promote"]
        calls.clear()
        dispatcher.wait()
        now[0] += PROMOTE_INTERVAL
        dispatcher.turn()
        assert calls == ["promote", "claim", "promote"]
        calls.clear()
        told[0] = False
        now[0] += 60
        dispatcher.wait()
        dispatcher.turn()
        assert calls == ["promote", "claim", "promote"]

    def test_what_is_due_soon_is_promoted_by_the_claim_that_looks_for_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And not only by the look behind it, which would take another turn."""
        now, calls = [1000.0], list[bool]()
        worker = Worker(
            queues=["default"], using="default", limits=Limits(rate=0), clock=lambda: now[0]
        )
        dispatcher = worker.dispatcher

        def claim(wanted: Wanted) -> list[Claim]:
            calls.append(wanted.promoting)
            return []

        monkeypatch.setattr(dispatcher.backend, "promote", lambda: PROMOTE_INTERVAL / 4)
        monkeypatch.setattr(dispatcher.backend, "claim", claim)
        for _ in range(2):
            dispatcher.turn()
            now[0] += PROMOTE_INTERVAL / 4
        assert calls == [True, True]

    def test_a_claim_behind_outcomes_that_were_written_promotes_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker, calls = Worker(queues=["default"], using="default"), list[bool]()
        outcomes = worker.dispatcher.outcomes
        wanted = Wanted(["default"], ["noop"], 1, worker.id, promoting=True)
        Job.objects.create(name="noop")
        [held] = worker.backend.claim(wanted)
        worker.batch.hold([held], asked=0)
        worker.batch.start(None)
        worker.batch.end(release(held))
        outcomes.collect()

        def claim(wanted: Wanted) -> list[Claim]:
            calls.append(wanted.promoting)
            return []

        monkeypatch.setattr(worker.backend, "claim", claim)
        monkeypatch.setattr(worker.backend, "exchange", lambda *_, **__: ([], []))
        outcomes.exchange(wanted)
        assert calls == [False]


class TestUnknownJobs:
    def test_are_warned_of_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("django_dbq.known.SEARCH_INTERVAL", 0)
        note("never")
        Job.objects.update(name="gone")
        clock = Clock()
        worker = worker_with(clock)

        def wait(seconds: float | None, *files: int) -> bool:
            if len(clock.slept) == 5:
                worker.stop.request()
            return clock.wait(seconds)

        worker.bell.wait = wait  # type: ignore[method-assign]
        worker.run()
        assert caplog.text.count("event=unknown_job name=gone") == 1

    def test_a_name_that_differs_in_case_is_another_one(self, events: list[str]) -> None:
        note("never")
        Job.objects.update(name="NOTE", queue_name="default")
        note("now")
        assert worker_with(Clock(), burst=True).run() == Tally(complete=1)
        assert events == ["note now"]


class TestRefusedOutcomes:
    def test_one_that_the_database_refuses_fails_its_own_job_only(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad, good = note("bad"), note("good")
        dispatcher = worker_with(Clock(), burst=True).dispatcher
        finish = dispatcher.backend.finish

        def refusing(outcomes: list[Outcome]) -> list[Outcome]:
            if any(o.claim.job_id == bad.pk and o.row.state == "COMPLETE" for o in outcomes):
                raise DataError("out of range")
            return finish(outcomes)

        def refusing_exchange(outcomes: list[Outcome], wanted: Wanted, meanwhile: Any) -> Any:
            meanwhile()
            return refusing(outcomes), dispatcher.backend.claim(wanted)

        monkeypatch.setattr(dispatcher.backend, "finish", refusing)
        monkeypatch.setattr(dispatcher.backend, "exchange", refusing_exchange)
        dispatcher._size.size = 1
        dispatcher.turn()
        while held := dispatcher.batch.start(wait=False):
            dispatcher.batch.end(Execution(held).run())
        dispatcher.turn()
        bad.refresh_from_db()
        good.refresh_from_db()
        assert (bad.state, good.state) == (Job.STATES.FAILED, Job.STATES.COMPLETE)
        assert "DataError: out of range" in str(bad.error)
        assert dispatcher.outcomes.tally == Tally(complete=1, failed=1)

    @pytest.mark.django_db(transaction=True)
    def test_one_that_the_database_never_takes_is_not_taken_for_weather(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when the record of an error holds a character that its column has no room for."""
        bad, good = note("bad"), note("good")
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0, burst=True))
        finish, claim = worker.backend.finish, worker.backend.claim

        def refusing(outcomes: list[Outcome]) -> list[Outcome]:
            if any(o.claim.job_id == bad.pk and o.row.state == "COMPLETE" for o in outcomes):
                raise OperationalError(1366, "Incorrect string value")
            return finish(outcomes)

        monkeypatch.setattr(worker.backend, "may_be_the_values", lambda error: True)

        monkeypatch.setattr(worker.backend, "finish", refusing)
        monkeypatch.setattr(
            worker.backend, "exchange", lambda ended, wanted, **_: (refusing(ended), claim(wanted))
        )
        assert worker.run() == Tally(complete=1, failed=1)
        bad.refresh_from_db()
        good.refresh_from_db()
        assert (bad.state, good.state) == (Job.STATES.FAILED, Job.STATES.COMPLETE)
        assert "Incorrect string value" in str(bad.error)

    @pytest.mark.django_db(transaction=True)
    def test_one_that_cannot_be_written_for_a_while_is_kept(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when somebody has the database locked, or its disk is full."""
        job = note("kept")
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0, burst=True))
        exchange, finish = worker.backend.exchange, worker.backend.finish
        failures = iter([OperationalError("database is locked")] * 4)

        def fail_for_a_while(write: Callable[..., Any]) -> Callable[..., Any]:
            def failing(*given: Any, **options: Any) -> Any:
                for failure in failures:
                    raise failure
                return write(*given, **options)

            return failing

        monkeypatch.setattr(worker.backend, "exchange", fail_for_a_while(exchange))
        monkeypatch.setattr(worker.backend, "finish", fail_for_a_while(finish))
        assert worker.run() == Tally(complete=1)
        job.refresh_from_db()
        assert (job.state, job.attempts) == (Job.STATES.COMPLETE, 1)

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("error", [DataError, OperationalError])
    @pytest.mark.parametrize("count", [1, 3])
    def test_an_answer_that_is_lost_leaves_no_job_behind(
        self,
        count: int,
        error: type[Exception],
        record: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Neither what was claimed, nor what went on with its next task."""
        jobs = [Job.objects.create(name="three") for _ in range(count)]
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0, burst=True))
        exchange = worker.backend.exchange
        errors = iter([error("an answer that is lost")])

        def losing(*given: Any, **options: Any) -> Any:
            answer = exchange(*given, **options)
            for lost in errors:
                raise lost
            return answer

        monkeypatch.setattr(worker.backend, "exchange", losing)
        monkeypatch.setattr(dispatcher_module, "SWEEP_INTERVAL", 0.05)
        worker.run()
        assert next(errors, None) is None
        assert states() == {"COMPLETE": count}
        starts = Counter(tuple(line.split()[:2]) for line in record.read_text().splitlines())
        assert len(starts) == 3 * len(jobs)
        assert set(starts.values()) == {1}
        assert "outcome_too_late" not in caplog.text
        # After an error that the server itself has told of, nothing can come any more.
        assert (worker.batch.frozen_since is None) == (error is DataError)

    @pytest.mark.django_db(transaction=True)
    def test_whoever_looks_on_does_not_stop_the_work(self) -> None:
        def look(tally: Tally) -> None:
            raise BrokenPipeError

        note("a"), note("b")
        worker = Worker(
            queues=["default"],
            using="default",
            limits=Limits(rate=0, burst=True),
            on_progress=look,
        )
        assert worker.run() == Tally(complete=2)


class TestDispatcherThatDies:
    @pytest.mark.django_db(transaction=True)
    def test_leaves_what_it_held_to_be_rescued_and_starts_nothing_more(
        self, monkeypatch: pytest.MonkeyPatch, events: list[str]
    ) -> None:
        for number in range(50):
            note(str(number))
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0, burst=True))
        dispatcher, count = worker.dispatcher, worker.dispatcher.outcomes._count

        def dying(outcomes: Any, late: Any) -> None:
            count(outcomes, late)
            if dispatcher.outcomes.tally.ended > 5:
                raise RuntimeError("a mistake of ours")

        monkeypatch.setattr(dispatcher.outcomes, "_count", dying)
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            worker.run()
        row = Row.objects.get()
        assert row.pk == worker.id
        LostJobs(backend_for("default")).rescue(row)
        assert set(Job.objects.values_list("state", flat=True)) <= {"COMPLETE", "READY", "NEW"}


class TestJobsThatFailWhenLost:
    def test_are_not_held_ahead(self, settings: Settings) -> None:
        settings.JOBS = {"note": {"tasks": ["tests.tasks.note"], "on_lost": "fail"}}
        for number in range(5):
            note(str(number))
        dispatcher = worker_with(Clock(), burst=True).dispatcher
        dispatcher._size.size = 4
        dispatcher.turn()
        assert sum(dispatcher.batch.size) == 1
        assert sorted(Job.objects.values_list("state", flat=True)) == ["NEW"] * 4 + ["PROCESSING"]


class TestTimeOver:
    def test_nothing_is_claimed_any_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock()
        note("a")
        dispatcher = worker_with(clock, seconds=5).dispatcher
        dispatcher.turn()
        assert dispatcher.batch.start(wait=False) is not None
        note("b")
        clock.now += 6
        for _ in range(3):
            assert not dispatcher.turn()
        assert dispatcher.batch.closed
        assert sorted(Job.objects.values_list("state", "attempts")) == [
            ("NEW", 0),
            ("PROCESSING", 1),
        ]


class TestLimits:
    def test_a_worker_ends_after_so_many_jobs(self, events: list[str]) -> None:
        for i in range(5):
            note(str(i))
        assert worker_with(Clock(), jobs=3).run() == Tally(complete=3)
        assert events == ["note 0", "note 1", "note 2"]
        assert Job.objects.filter(state="NEW").count() == 2

    @pytest.mark.django_db(transaction=True)
    def test_and_claims_no_more_than_those(self) -> None:
        Job.objects.bulk_enqueue(Job(name="three") for _ in range(50))
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0, jobs=20))
        assert worker.run() == Tally(complete=20)
        assert set(Job.objects.values_list("state", "claim_token").distinct()) <= {
            ("COMPLETE", None), ("NEW", None), ("READY", None),
        }  # fmt: skip
        assert Job.objects.filter(state="COMPLETE").count() == 20

    def test_a_worker_ends_after_so_much_time(self, events: list[str]) -> None:
        note("0")
        clock = Clock()
        assert worker_with(clock, seconds=5).run() == Tally(complete=1)
        assert sum(clock.slept) == pytest.approx(5, abs=0.1)


class TestStop:
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
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0))
        worker.dispatcher._size.size = 4
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

    @pytest.mark.parametrize("ended", [True, False])
    def test_a_task_that_ends_while_it_is_handed_back_has_one_outcome(
        self, monkeypatch: pytest.MonkeyPatch, ended: bool
    ) -> None:
        left: list[bool] = []
        monkeypatch.setattr("django_dbq.dispatcher.leave_at_once", lambda: left.append(True))
        job = note("once")
        worker = worker_with(Clock())
        worker.dispatcher.turn()
        held = worker.batch.start()
        assert held is not None
        worker.stop.count = 2
        if ended:
            worker.batch.end(Execution(held).run())
        worker.dispatcher.turn()
        job.refresh_from_db()
        if not ended:
            worker.batch.end(Execution(held).run())
            assert worker.batch.take_ended() == []
        assert left == [True]
        assert job.state == ("COMPLETE" if ended else "NEW")
        assert job.claim_token is None

    def test_handlers_are_put_back(self) -> None:
        before = signal.getsignal(signal.SIGTERM)
        worker_with(Clock(), burst=True).run()
        assert signal.getsignal(signal.SIGTERM) is before


class TestDispatcherErrors:
    @pytest.mark.django_db(transaction=True)
    def test_end_the_worker_and_come_out_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0))

        def failing(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("a mistake of ours")

        monkeypatch.setattr(worker.backend, "claim", failing)
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            worker.run()

    @pytest.mark.django_db(transaction=True)
    def test_of_the_database_are_weather(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = Job.objects.create(name="noop")
        worker = Worker(queues=["default"], using="default", limits=Limits(rate=0, burst=True))
        claim, failures = worker.backend.claim, iter([InterfaceError("gone")] * 3)

        def failing(wanted: Wanted) -> Any:
            for failure in failures:
                raise failure
            return claim(wanted)

        monkeypatch.setattr(worker.backend, "claim", failing)
        assert worker.run() == Tally(complete=1, failed=0)
        job.refresh_from_db()
        assert (job.state, job.attempts) == (Job.STATES.COMPLETE, 1)
        assert "event=database_unavailable by=dispatcher error=gone" in caplog.text


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

    def test_a_database_that_commits_nothing_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)
        with pytest.raises(CommandError, match="has AUTOCOMMIT off"):
            call_command("worker", burst=True, stdout=io.StringIO())

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
        assert "1 done, 0 failed, 1 left" in drawn[1]
        assert re.search(r"left, [\d,]+ jobs/s", drawn[1])
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
