"""A worker's reports, and what comes of it when there are none."""

import os
import uuid
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings

from django_dbq.backends import Backend, LostJobs, Wanted, backend_for
from django_dbq.batch import Batch
from django_dbq.bell import Bell
from django_dbq.conf import conf
from django_dbq.heartbeat import ORPHAN_LEASE, REMEMBERED, SEARCH_SECONDS, Heartbeat
from django_dbq.models import Failure, Job, Worker
from tests.conftest import Clock, wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def batch() -> Batch:
    return Batch(queues=["default"], bell=Bell())


@pytest.fixture
def heartbeat(batch: Batch, clock: Clock) -> Heartbeat:
    return Heartbeat(
        worker=uuid.uuid4(),
        queues=["default"],
        backend=backend_for("default"),
        batch=batch,
        bell=batch.bell,
        clock=clock,
    )


def other_worker(*, silent: float = 0, held: int = 0, lease: float = 40) -> Worker:
    """Return a worker that has so many jobs, and last reported so many seconds ago, or will."""
    then = timezone.now() - timedelta(seconds=silent)
    row = Worker.objects.create(
        id=uuid.uuid4(), host="far", pid=7, queues=[], version="0", started=then, last_seen=then,
        held_since=then, lease=lease,
    )  # fmt: skip
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(held))
    Backend("default").claim(Wanted(["default"], ["noop"], held, row.pk))
    return row


def beat_for(heartbeat: Heartbeat, clock: Clock, seconds: float) -> None:
    """Report for so long, as often as one should."""
    until = clock.now + seconds
    while clock.now < until:
        heartbeat.beat()
        clock.now += heartbeat.interval
    heartbeat.beat()


def fail_first(monkeypatch: pytest.MonkeyPatch, heartbeat: Heartbeat, *errors: Exception) -> None:
    """Let the first reports raise these, one each."""
    report, left = heartbeat._report, iter(errors)

    def failing() -> None:
        for error in left:
            raise error
        report()

    monkeypatch.setattr(heartbeat, "_report", failing)


class TestReports:
    def test_begin_with_a_row(self, heartbeat: Heartbeat) -> None:
        heartbeat.beat()
        row = Worker.objects.get()
        assert (row.pk, row.queues, row.version) == (heartbeat.worker, ["default"], "0.1.0")
        assert row.pid > 0
        assert row.lease == 40
        assert row.host
        assert abs(row.last_seen - timezone.now()) < timedelta(minutes=1)
        assert row.started <= row.held_since < row.started + timedelta(minutes=1)

    def test_go_on_in_that_row(self, heartbeat: Heartbeat) -> None:
        heartbeat.beat()
        Worker.objects.update(last_seen=timezone.now() - timedelta(hours=1))
        heartbeat.beat()
        assert abs(Worker.objects.get().last_seen - timezone.now()) < timedelta(minutes=1)

    def test_say_since_when_something_is_held(self, heartbeat: Heartbeat, batch: Batch) -> None:
        heartbeat.beat()
        Job.objects.create(name="noop")
        claims = heartbeat.backend.claim(Wanted(["default"], ["noop"], 1, heartbeat.worker))
        batch.hold(claims)
        heartbeat.beat()
        assert Worker.objects.get().held_since == Job.objects.get().started

    def test_come_from_a_thread_and_end_with_the_row(self, heartbeat: Heartbeat) -> None:
        heartbeat.start()
        wait_for(Worker.objects.exists)
        heartbeat.end()
        assert not Worker.objects.exists()

    def test_go_on_when_the_database_was_away(
        self, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail_first(monkeypatch, heartbeat, OperationalError("gone"))
        heartbeat.start()
        wait_for(Worker.objects.exists)
        assert Worker.objects.get().pk == heartbeat.worker
        heartbeat.end()

    def test_go_on_whatever_else_went_wrong_which_is_logged_once_a_second(
        self,
        heartbeat: Heartbeat,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        heartbeat.interval = 0.01
        fail_first(monkeypatch, heartbeat, *[RuntimeError("can't start new thread")] * 9)
        heartbeat.start()
        wait_for(Worker.objects.exists)
        heartbeat.end()
        [line] = [line for line in caplog.records if line.levelname == "ERROR"]
        assert line.getMessage() == "event=heartbeat_failed"
        assert "can't start new thread" in caplog.text
        assert "Traceback" in caplog.text


class TestLease:
    def test_is_had_from_the_first_report_on(
        self, heartbeat: Heartbeat, batch: Batch, clock: Clock
    ) -> None:
        assert batch.lease_until < clock.now
        heartbeat.beat()
        assert batch.lease_until == clock.now + 4 * heartbeat.interval

    def test_is_measured_from_before_the_report_was_sent(
        self, heartbeat: Heartbeat, batch: Batch, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begin, report = clock.now, heartbeat._report

        def slow() -> None:
            clock.now += 5
            report()

        monkeypatch.setattr(heartbeat, "_report", slow)
        heartbeat.beat()
        assert batch.lease_until == begin + heartbeat.lease


class TestRescue:
    def test_gives_the_jobs_of_a_silent_worker_to_others(
        self, heartbeat: Heartbeat, clock: Clock
    ) -> None:
        lost = other_worker(held=3)
        beat_for(heartbeat, clock, heartbeat.lease)
        rows = set(Job.objects.values_list("state", "claim_token", "losses", "attempts"))
        assert rows == {("READY", None, 1, 1)}
        assert Worker.objects.filter(pk=lost.pk).exists()  # in case something turns up late

    def test_is_on_the_record(self, heartbeat: Heartbeat, clock: Clock) -> None:
        other_worker(held=1)
        beat_for(heartbeat, clock, heartbeat.lease)
        failure = Failure.objects.get()
        assert (failure.worker, failure.task, failure.attempt) == ("far:7", "tests.tasks.noop", 1)
        assert failure.exception == "JobLost: The worker far:7, which had the job, was lost."

    def test_leaves_alone_who_reports(self, heartbeat: Heartbeat, clock: Clock) -> None:
        """By whatever clock: rows may hold local times, and the clocks are set meanwhile."""
        row = other_worker(held=3)
        for hours in (0, -1, 1, -20, -21, 5, 0):
            last_seen = timezone.now() + timedelta(hours=hours)
            Worker.objects.filter(pk=row.pk).update(last_seen=last_seen)
            beat_for(heartbeat, clock, heartbeat.lease - heartbeat.interval)
            clock.now += heartbeat.interval
        assert set(Job.objects.values_list("state", "losses")) == {("PROCESSING", 0)}

    @pytest.mark.parametrize("hours", [-10, -1, 0, 1])
    def test_comes_when_a_report_has_stayed_the_last_for_a_lease(
        self, heartbeat: Heartbeat, clock: Clock, hours: float
    ) -> None:
        """Whatever time it says, as rows may hold local times, and clocks are set."""
        beat_for(heartbeat, clock, heartbeat.lease)
        clock.now += heartbeat.interval
        other_worker(silent=-3600 * hours, held=1)
        beat_for(heartbeat, clock, heartbeat.lease - heartbeat.interval)
        assert Job.objects.get().state == "PROCESSING"
        clock.now += heartbeat.interval
        heartbeat.beat()
        assert Job.objects.get().state == "READY"

    @pytest.mark.parametrize("lease", [20, 120])
    def test_waits_for_the_lease_of_the_other(
        self, heartbeat: Heartbeat, clock: Clock, lease: float
    ) -> None:
        beat_for(heartbeat, clock, heartbeat.lease)
        clock.now += heartbeat.interval
        other_worker(held=1, lease=lease)
        beat_for(heartbeat, clock, lease - heartbeat.interval)
        assert Job.objects.get().state == "PROCESSING"
        clock.now += heartbeat.interval
        heartbeat.beat()
        assert Job.objects.get().state == "READY"

    @pytest.mark.parametrize("minutes", [-119, 0, 119])
    def test_finds_what_was_claimed_when_clocks_were_set(
        self, heartbeat: Heartbeat, minutes: float
    ) -> None:
        row = other_worker(held=1)
        Job.objects.update(started=row.held_since + timedelta(minutes=minutes))
        assert heartbeat.lost.rescue(row) == 1

    def test_is_done_again_for_what_turns_up_late(self, heartbeat: Heartbeat, clock: Clock) -> None:
        row = other_worker(held=1)
        beat_for(heartbeat, clock, heartbeat.lease)
        Job.objects.create(name="noop", priority=1)
        heartbeat.backend.claim(Wanted(["default"], ["noop"], 1, row.pk))
        clock.now += heartbeat.interval
        beat_for(heartbeat, clock, heartbeat.lease)
        assert set(Job.objects.values_list("state", "losses")) == {("READY", 1)}

    def test_waits_until_the_rescuer_knows_that_the_database_was_there(
        self, heartbeat: Heartbeat, clock: Clock
    ) -> None:
        """After an outage all are silent, and who is back first must not take the others' jobs."""
        other_worker(held=1)
        beat_for(heartbeat, clock, heartbeat.lease - heartbeat.interval)
        clock.now += 5 * heartbeat.interval  # an outage
        beat_for(heartbeat, clock, heartbeat.lease - heartbeat.interval)
        assert Job.objects.get().state == "PROCESSING"
        beat_for(heartbeat, clock, 2 * heartbeat.interval)
        assert Job.objects.get().state == "READY"

    def test_does_nothing_to_one_that_has_come_back_meanwhile(self, heartbeat: Heartbeat) -> None:
        row = other_worker(held=1)
        Worker.objects.filter(pk=row.pk).update(last_seen=timezone.now())
        assert heartbeat.lost.rescue(row) == 0
        assert Job.objects.get().state == "PROCESSING"

    def test_leaves_alone_what_was_finished(self, heartbeat: Heartbeat, clock: Clock) -> None:
        other_worker(held=2)
        done = Job.objects.first()
        assert done is not None
        Job.objects.filter(pk=done.pk).update(state="COMPLETE", claim_token=None)
        beat_for(heartbeat, clock, heartbeat.lease)
        assert sorted(Job.objects.values_list("state", "losses")) == [("COMPLETE", 0), ("READY", 1)]

    def test_takes_many_in_batches(
        self, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("django_dbq.backends.lost.RESCUED_AT_ONCE", 2)
        row = other_worker(held=5)
        assert heartbeat.lost.rescue(row) == 5
        assert set(Job.objects.values_list("losses", flat=True)) == {1}

    def test_a_lost_worker_is_forgotten_in_the_end(
        self, heartbeat: Heartbeat, clock: Clock
    ) -> None:
        other_worker(silent=REMEMBERED.total_seconds() + 1)
        beat_for(heartbeat, clock, heartbeat.lease - heartbeat.interval)
        assert Worker.objects.count() == 2
        beat_for(heartbeat, clock, 2 * heartbeat.interval)
        assert [row.pk for row in Worker.objects.all()] == [heartbeat.worker]

    def test_finds_them_by_an_index(self) -> None:
        since = timezone.now()
        jobs = LostJobs(backend_for("default"))._held(uuid.uuid4(), since)
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET enable_seqscan = off")
        assert "django_dbq_job_held" in jobs.explain()


class TestOrphans:
    """Jobs that run by a worker that has no row, whatever the reason."""

    def claim(self, count: int = 1, *, worker: uuid.UUID | None = None) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(count))
        Backend("default").claim(Wanted(["default"], ["noop"], count, worker or uuid.uuid4()))

    def test_are_rescued_in_the_end(self, heartbeat: Heartbeat, clock: Clock) -> None:
        self.claim()
        self.claim(2)
        beat_for(heartbeat, clock, heartbeat.lease + ORPHAN_LEASE)
        assert set(Job.objects.values_list("state", "losses")) == {("PROCESSING", 0)}
        beat_for(heartbeat, clock, SEARCH_SECONDS)
        assert set(Job.objects.values_list("state", "losses")) == {("READY", 1)}
        assert Worker.objects.count() == 3

    def test_are_found_wherever_they_are(
        self, heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch, clock: Clock
    ) -> None:
        monkeypatch.setattr("django_dbq.backends.lost.LOOKED_AT_ONCE", 2)
        self.claim(5)
        Job.objects.update(state="COMPLETE", claim_token=None)
        self.claim()
        oldest = Job.objects.order_by("pk")[0]
        worker, token = uuid.uuid4(), uuid.uuid4()
        Job.objects.filter(pk=oldest.pk).update(state="STOPPING", claim_token=token, worker=worker)
        looks, before = 0, None
        found: set[uuid.UUID] = set()
        while not looks or before is not None:
            orphans, before = heartbeat.lost.find_orphans(before)
            found |= set(orphans)
            looks += 1
        assert found == {
            worker,
            *Job.objects.filter(state="PROCESSING").values_list("worker", flat=True),
        }
        assert looks == 4

    def test_are_not_what_django_db_queue_left_behind(self, heartbeat: Heartbeat) -> None:
        self.claim(2)
        first, second = Job.objects.all()
        Job.objects.filter(pk=first.pk).update(claim_token=None)
        Job.objects.filter(pk=second.pk).update(worker=None)
        assert heartbeat.lost.find_orphans(None) == ({}, None)

    def test_stay_with_a_worker_that_lives(
        self, heartbeat: Heartbeat, clock: Clock, batch: Batch
    ) -> None:
        """Its row was deleted, and it writes another with its next report."""
        other = Heartbeat(
            worker=uuid.uuid4(), queues=["default"], backend=heartbeat.backend, batch=batch,
            bell=batch.bell, clock=clock,
        )  # fmt: skip
        other.beat()
        self.claim(worker=other.worker)
        Worker.objects.filter(pk=other.worker).delete()
        beat_for(heartbeat, clock, heartbeat.lease)
        assert Worker.objects.get(pk=other.worker).host == "unknown"
        for _ in range(10):
            other.beat()
            clock.now += heartbeat.interval
            beat_for(heartbeat, clock, heartbeat.lease - heartbeat.interval)
        row = Worker.objects.get(pk=other.worker)
        assert (row.pid, row.lease) == (os.getpid(), other.lease)
        assert Job.objects.get().state == "PROCESSING"


class TestUnknownClaims:
    def test_are_handed_back_and_no_others(self, heartbeat: Heartbeat) -> None:
        """The answer to a claim did not arrive: the jobs are ours, and nobody knows of it."""
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(4))
        backend, worker = heartbeat.backend, heartbeat.worker
        [known] = backend.claim(Wanted(["default"], ["noop"], 1, worker))
        backend.claim(Wanted(["default"], ["noop"], 2, worker))
        others = backend.claim(Wanted(["default"], ["noop"], 1, uuid.uuid4()))
        unknown = Job.objects.filter(worker=worker).exclude(pk=known.job_id)
        unknown.update(started=known.started - timedelta(hours=1))  # the clock was set meanwhile
        count = heartbeat.lost.hand_back_unknown(worker, since=known.started, tokens={known.token})
        assert count == 2
        running = Job.objects.filter(state="PROCESSING").values_list("pk", flat=True)
        assert set(running) == {known.job_id, others[0].job_id}
        assert set(Job.objects.filter(state="READY").values_list("attempts", "losses")) == {(0, 0)}


def test_how_often_is_a_setting(settings: Settings) -> None:
    settings.DBQ = {"HEARTBEAT_SECONDS": 0.5}
    assert conf().lease == 2
