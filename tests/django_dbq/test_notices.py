"""What PostgreSQL is told of new jobs, and when; and that no job depends on it."""

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_dbq import notices
from django_dbq.models import Job
from django_dbq.notices import (
    CHANNEL,
    LARGEST_NOTICE,
    NOTICE_INTERVAL,
    NOTICES_AT_ONCE,
    Notices,
    notice_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

notified_only = pytest.mark.skipif(
    "not hears_notices()", reason="only PostgreSQL has NOTIFY, and only psycopg 3 passes it on"
)

Told = Callable[[], list[str]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """Listen as a worker does; each call returns the queues that it was told of since the last.

    Those of one notice are joined by a plus sign.
    """
    monkeypatch.setattr(notices, "_notices", defaultdict(Notices))  # as in a new process
    heard: list[str] = []
    listener = connection.copy()
    listener.ensure_connection()
    listener.connection.add_notify_handler(lambda notice: heard.append(notice.payload))

    def told() -> list[str]:
        with listener.cursor() as cursor:
            # Notices come in the order of their commits.
            cursor.execute("SELECT pg_notify(%s, 'that is all')", [CHANNEL])
            while "that is all" not in heard:
                cursor.execute("SELECT 1")
        queues = ["+".join(json.loads(notice)) for notice in heard[:-1]]
        heard.clear()
        return queues

    with listener.cursor() as cursor:
        cursor.execute(f"LISTEN {CHANNEL}")
    yield told
    listener.close()


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which notices are sent."""
    clock = Clock()
    monkeypatch.setattr(notices, "time", clock)
    return clock


@notified_only
class TestNotices:
    def test_are_sent_for_a_job_that_is_created(self, told: Told) -> None:
        Job.objects.create(name="noop")
        Job(name="noop", queue_name="mail's %s, é").save()
        assert told() == ["default", "mail's %s, é"]

    def test_name_all_queues_of_a_bulk_at_once(self, told: Told) -> None:
        Job.objects.bulk_enqueue(
            Job(name="noop", queue_name=queue) for queue in ["a", "b", "a", "c", "c", "a"]
        )
        assert [sorted(each.split("+")) for each in told()] == [["a", "b", "c"]]

    def test_name_the_queue_that_the_job_got_in_the_end(self, told: Told) -> None:
        with transaction.atomic():
            job = Job.objects.create(name="noop", queue_name="x" * 255)
        assert told() == [job.queue_name]

    def test_wait_for_no_disk_and_leave_others_waiting_for_it(self, told: Told) -> None:
        with CaptureQueriesContext(connection) as queries:
            Job.objects.create(name="noop")
        [notice] = [query["sql"] for query in queries if "pg_notify" in query["sql"]]
        assert "'synchronous_commit', 'off'" in notice
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == ("on",)

    def test_are_sent_at_commit(self, told: Told) -> None:
        with transaction.atomic():
            with transaction.atomic():
                Job.objects.create(name="noop")
                Job.objects.bulk_enqueue([Job(name="noop", queue_name="mail")])
            assert told() == []
        assert told() == ["default", "mail"]

    def test_are_not_sent_after_a_rollback(self, told: Told) -> None:
        with transaction.atomic():
            with transaction.atomic():
                Job.objects.create(name="noop", queue_name="inner")
                transaction.set_rollback(True)
            Job.objects.create(name="noop", queue_name="outer")
        with transaction.atomic():
            Job.objects.bulk_enqueue([Job(name="noop", queue_name="bulk")])
            transaction.set_rollback(True)
        assert told() == ["outer"]
        # What was not sent does not count for the interval.
        Job.objects.create(name="noop", queue_name="inner")
        assert told() == ["inner"]

    def test_are_for_new_jobs_alone(self, told: Told) -> None:
        job = Job.objects.create(name="noop")
        assert told() == ["default"]
        notices._notices.clear()
        job.priority = 3
        job.save()
        assert told() == []

    def test_are_sent_once_in_an_interval_for_each_queue(self, told: Told, clock: Clock) -> None:
        for _ in range(5):
            Job.objects.create(name="noop")
            Job.objects.bulk_enqueue(Job(name="noop", queue_name="mail") for _ in range(3))
        assert told() == ["default", "mail"]
        clock.now += NOTICE_INTERVAL * 0.9
        Job.objects.create(name="noop")
        assert told() == []
        clock.now += NOTICE_INTERVAL * 0.2
        Job.objects.create(name="noop")
        Job.objects.create(name="noop")
        assert told() == ["default"]

    def test_are_a_few_per_second_however_many_queues_there_are(
        self, told: Told, clock: Clock
    ) -> None:
        queues = [f"queue {number}" for number in range(20)]
        for queue in queues:
            Job.objects.create(name="noop", queue_name=queue)
        first = told()
        assert len(first) == NOTICES_AT_ONCE
        assert first[:-1] == queues[: NOTICES_AT_ONCE - 1]
        clock.now += NOTICE_INTERVAL
        Job.objects.create(name="noop", queue_name="queue 0")
        # All that had to wait are named by the next one, which in its turn uses up the allowance.
        [second] = told()
        assert sorted(second.split("+")) == sorted(queues)
        count = 0
        for _ in range(50):
            clock.now += NOTICE_INTERVAL / 2
            for queue in queues[:4]:
                Job.objects.create(name="noop", queue_name=queue)
            count += len(told())
        assert count == 25

    def test_are_as_many_after_a_rest_as_at_first(self, told: Told, clock: Clock) -> None:
        for _ in range(2):
            clock.now += NOTICES_AT_ONCE * NOTICE_INTERVAL * 1.01
            for queue in "abcdefgh":
                Job.objects.create(name="noop", queue_name=queue)
            assert len(told()) == NOTICES_AT_ONCE

    def test_name_no_more_than_there_is_room_for(self, told: Told, clock: Clock) -> None:
        """The rest is for the next one."""
        queues = [f"{number:03}" + "é" * 252 for number in range(20)]
        Job.objects.bulk_enqueue(Job(name="noop", queue_name=queue) for queue in queues)
        [first] = told()
        size = len(notice_of(queues[:1]).encode())
        assert first.count("+") + 1 == LARGEST_NOTICE // size
        clock.now += NOTICE_INTERVAL
        Job.objects.create(name="noop")
        [second] = told()
        assert sorted(f"{first}+{second}".split("+")) == [*queues, "default"]


@pytest.mark.parametrize("seed", range(20))
def test_workers_look_when_a_job_is_created_that_they_are_not_told_of(seed: int) -> None:
    """Also of the last one, behind which no other notice comes."""
    chance, own, now = random.Random(seed), Notices(), 1000.0
    count = 0
    told = dict.fromkeys(["a", "b", "c"], -math.inf)
    for _ in range(500):
        now += chance.choice([0.001, 0.02, 0.1])
        queue = chance.choice([*told])
        if named := own.due([queue], now):
            count += 1
            told |= dict.fromkeys(named, now)
        # For so long a worker looks; some of it is for the notice to arrive.
        assert now - told[queue] < NOTICE_INTERVAL
    assert count <= NOTICES_AT_ONCE + 1 + (now - 1000) / NOTICE_INTERVAL


@notified_only
class TestFailingNotices:
    @pytest.fixture(autouse=True)
    def refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """PostgreSQL refuses names of channels that are so long."""
        monkeypatch.setattr(notices, "_notices", defaultdict(Notices))
        monkeypatch.setattr(notices, "CHANNEL", "c" * 100)

    def test_are_logged_and_leave_the_job(self, caplog: pytest.LogCaptureFixture) -> None:
        Job.objects.create(name="noop")
        assert "channel name too long" in caplog.text
        assert Job.objects.count() == 1

    def test_leave_what_was_created_in_a_transaction(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        after: list[str] = []
        with transaction.atomic():
            Job.objects.create(name="noop", queue_name="a")
            Job.objects.bulk_enqueue(Job(name="noop", queue_name="b") for _ in range(3))
            transaction.on_commit(lambda: after.append("the creator's own"))
        assert caplog.text.count("channel name too long") >= 2
        assert Job.objects.count() == 4
        assert after == ["the creator's own"]


@pytest.mark.parametrize("failing", [False, True])
def test_a_job_is_created_without_autocommit(
    monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    """There is no hook for a commit that Django does not make."""
    monkeypatch.setattr(notices, "_notices", defaultdict(Notices))
    if failing:
        monkeypatch.setattr(notices, "CHANNEL", "c" * 100)
    transaction.set_autocommit(False)
    try:
        Job.objects.create(name="noop")
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert Job.objects.count() == 1


@pytest.mark.skipif("connection.vendor == 'postgresql'", reason="PostgreSQL has NOTIFY")
def test_other_databases_are_told_nothing() -> None:
    with (
        CaptureQueriesContext(
            connection,
        ) as queries,
        transaction.atomic(),
    ):
        Job.objects.create(name="noop")
        Job.objects.bulk_enqueue([Job(name="noop", queue_name="mail")])
        assert connection.run_on_commit == []
    assert not [query for query in queries if "notify" in query["sql"].lower()]
