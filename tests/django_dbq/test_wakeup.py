"""How an idle worker is told of new jobs, on each database, and when it looks by itself."""

import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_dbq.backends.postgresql import leads_to_server
from django_dbq.bell import Bell
from django_dbq.models import Job
from django_dbq.notices import CHANNEL, NOTICE_INTERVAL, notice_of
from django_dbq.wakeup import FileWakeUp, NotifiedWakeUp, WakeUp, wakeup_for

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds that nothing takes on any machine, and that no test waits for unless it fails.
LONG = 20


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def listener() -> Iterator[BaseDatabaseWrapper]:
    """A second connection to the database, as the dispatcher's is."""
    listener = connection.copy()
    yield listener
    listener.close()


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def elsewhere(run: Callable[[], object]) -> None:
    """Run it in a thread, which has a connection of its own."""

    def body() -> None:
        try:
            run()
        finally:
            connections.close_all()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()


def test_each_database_has_its_own_way(bell: Bell) -> None:
    kinds = {"postgresql": NotifiedWakeUp, "sqlite": FileWakeUp, "mysql": WakeUp, "oracle": WakeUp}
    for vendor, kind in kinds.items():
        assert type(wakeup_for(vendor, bell=bell, queues=["default"])) is kind


class TestBell:
    def test_is_heard_by_who_waits_and_by_who_comes_later(self, bell: Bell) -> None:
        bell.ring()
        bell.ring()
        assert bell.wait(LONG)
        assert not bell.wait(0)
        threading.Timer(0.1, bell.ring).start()
        assert bell.wait(LONG)

    def test_ends_the_waiting_of_every_kind_which_is_no_news(
        self, bell: Bell, listener: BaseDatabaseWrapper
    ) -> None:
        wakeup = wakeup_for(connection.vendor, bell=bell, queues=["default"])
        with wakeup.listening(listener):
            threading.Timer(0.1, bell.ring).start()
            assert not wakeup.wait(None)


class TestLooking:
    def test_becomes_rarer_until_something_is_found(self, bell: Bell) -> None:
        wakeup = WakeUp(bell)
        assert wakeup.pause(found=True) == wakeup.shortest_pause
        pauses = [wakeup.pause(found=False) for _ in range(50)]
        assert pauses == sorted(pauses)
        assert pauses[0] < pauses[1] < pauses[-1] == wakeup.longest_pause
        assert wakeup.pause(found=True) == wakeup.shortest_pause


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite's files")
class TestFile:
    def test_tells_of_the_writes_of_others(self, bell: Bell, listener: BaseDatabaseWrapper) -> None:
        wakeup = FileWakeUp(bell)
        with wakeup.listening(listener):
            assert not wakeup.wait(0)
            Job.objects.create(name="noop")
            assert wakeup.wait(LONG)
            assert not wakeup.wait(0)
            writer = threading.Timer(0.1, elsewhere, [lambda: Job.objects.create(name="noop")])
            writer.start()
            assert wakeup.wait(LONG)
            writer.join()

    def test_does_not_tell_of_its_own(self, bell: Bell, listener: BaseDatabaseWrapper) -> None:
        Job.objects.create(name="noop")
        wakeup = FileWakeUp(bell)
        with wakeup.listening(listener):
            with listener.cursor() as cursor:
                cursor.execute("UPDATE django_dbq_job SET priority = 1")
            assert not wakeup.wait(0)

    def test_of_what_came_before_the_bell_is_told_with_it(
        self, bell: Bell, listener: BaseDatabaseWrapper
    ) -> None:
        wakeup = FileWakeUp(bell)
        with wakeup.listening(listener):
            Job.objects.create(name="noop")
            bell.ring()
            assert wakeup.wait(LONG)


def notify(*queues: str) -> None:
    tell(notice_of(queues))


def tell(notice: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, notice])


@pytest.mark.skipif("not hears_notices()", reason="about PostgreSQL's NOTIFY")
class TestNotices:
    def test_tell_of_the_own_queues_alone(self, bell: Bell, listener: BaseDatabaseWrapper) -> None:
        wakeup = NotifiedWakeUp(bell, queues=["default", "mail"])
        with wakeup.listening(listener):
            for queue, told in [("default", True), ("other", False), ("mail", True)]:
                notify(queue)
                assert wakeup.wait(LONG) is told
            notify("other")
            notify("mail")
            assert wakeup.wait(LONG) or wakeup.wait(LONG)
            assert not wakeup.wait(0)
            notify("other", "mail")
            assert wakeup.wait(LONG)

    def test_may_be_sent_by_hand(self, bell: Bell, listener: BaseDatabaseWrapper) -> None:
        """``NOTIFY django_dbq_job, 'mail'`` behind an INSERT in SQL."""
        wakeup = NotifiedWakeUp(bell, queues=["mail"])
        with wakeup.listening(listener):
            tell("mail")
            assert wakeup.wait(LONG)

    @pytest.mark.parametrize("notice", ["", "7", "[7]", '[["default"]]', "{}", '"\\', "[" * 5000])
    def test_of_others_on_that_channel_are_no_harm(
        self, bell: Bell, listener: BaseDatabaseWrapper, notice: str
    ) -> None:
        wakeup = NotifiedWakeUp(bell, queues=["default"])
        with wakeup.listening(listener):
            tell(notice)
            notify("default")
            assert wakeup.wait(LONG) or wakeup.wait(LONG)
            assert not wakeup.wait(0)

    def test_that_come_during_a_statement_are_heard_after_it(
        self, bell: Bell, listener: BaseDatabaseWrapper
    ) -> None:
        """A job that is created between a claim and the next look at what is parked."""
        wakeup = NotifiedWakeUp(bell, queues=["default"])
        with wakeup.listening(listener), listener.cursor() as cursor:
            notify("default")
            cursor.execute("SELECT 1")
            assert wakeup.wait(LONG)

    def test_are_followed_by_many_looks_for_what_was_not_told_of(
        self, bell: Bell, listener: BaseDatabaseWrapper
    ) -> None:
        clock = Clock()
        wakeup = NotifiedWakeUp(bell, queues=["default"], clock=clock)
        with wakeup.listening(listener):
            assert wakeup.pause(found=False) == wakeup.longest_pause
            notify("default")
            assert wakeup.wait(LONG)
            # The next notice is sent so much later, and needs some time itself.
            clock.now += NOTICE_INTERVAL * 1.25
            assert wakeup.pause(found=False) == wakeup.shortest_pause
            clock.now += NOTICE_INTERVAL
            assert wakeup.pause(found=False) == wakeup.longest_pause
            assert wakeup.pause(found=True) == wakeup.shortest_pause
            assert wakeup.pause(found=False) == wakeup.shortest_pause


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL's NOTIFY")
def test_notices_are_not_waited_for_by_who_does_not_get_them(
    bell: Bell,
    listener: BaseDatabaseWrapper,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As with psycopg 2; tests/test_wakeups.py has a real PgBouncer."""
    assert leads_to_server(listener)
    monkeypatch.setattr("django_dbq.wakeup.psycopg", None)
    wakeup = NotifiedWakeUp(bell, queues=["default"])
    with wakeup.listening(listener):
        notify("default")
        assert not wakeup.wait(0.5)
        assert wakeup.pause(found=True) == wakeup.shortest_pause
        pauses = {wakeup.pause(found=False) for _ in range(50)}
        assert max(pauses) == WakeUp.longest_pause
    assert caplog.text.count("event=polling") == 1
