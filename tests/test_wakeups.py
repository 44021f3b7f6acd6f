"""How soon an idle worker starts a job, from end to end: it is told, it looks, or it knows when."""

import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from django_dbq.limits import Limits
from django_dbq.models import Job
from django_dbq.models import Worker as Row
from django_dbq.notices import CHANNEL, Notices, notice_of
from django_dbq.wakeup import NotifiedWakeUp, WakeUp
from django_dbq.worker import Worker
from tests.conftest import WorkerProcess, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

StartWorker = Callable[..., WorkerProcess]

told_only = pytest.mark.skipif(
    "connection.vendor != 'sqlite' and not hears_notices()", reason="there nobody tells"
)
notified_only = pytest.mark.skipif(
    "not hears_notices()", reason="only PostgreSQL has NOTIFY, and only psycopg 3 passes it on"
)
postgresql_only = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="only PostgreSQL has poolers before it"
)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Each look of a worker that found nothing, after which it would not look again for an hour.

    A test of seconds that needs another look fails unless something wakes the worker.
    """
    looks: list[float] = []

    def pause(self: WakeUp, *, found: bool) -> float:
        looks.append(time.monotonic())
        return 3600

    monkeypatch.setattr(WakeUp, "pause", pause)
    monkeypatch.setattr(NotifiedWakeUp, "pause", pause)
    # What earlier tests told of keeps this one's first notice from being sent.
    monkeypatch.setattr("django_dbq.notices._notices", defaultdict(Notices))
    return looks


@contextmanager
def working(*, told: bool = True) -> Generator[Worker, None, None]:
    """Run a worker in a thread, with connections of its own; ``told``: or else only looking."""
    worker = Worker(queues=["default"], using="default", limits=Limits(rate=0))
    if not told:
        worker.dispatcher.wakeup = WakeUp(worker.bell)

    def run() -> None:
        try:
            worker.run()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop.request()
        thread.join()


@pytest.fixture
def idle(looks: list[float]) -> Iterator[Worker]:
    """A worker that has looked once, found nothing, and waits."""
    with working() as worker:
        wait_for(lambda: bool(looks) and Row.objects.exists())
        # On SQLite the worker's own row is news to it.
        time.sleep(0.2)
        del looks[:-1]
        yield worker


def states() -> Counter[str]:
    return Counter(Job.objects.values_list("state", flat=True))


def wait_for_complete(number: int) -> None:
    """Wait until there are so many jobs, all of them COMPLETE."""
    wait_for(lambda: states() == {"COMPLETE": number})


def notify(queue: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, notice_of([queue])])


@told_only
class TestBeingTold:
    def test_of_a_new_job(self, idle: Worker) -> None:
        Job.objects.create(name="noop")
        wait_for_complete(1)

    def test_of_many_new_jobs(self, idle: Worker) -> None:
        Job.objects.bulk_enqueue(Job(name="three") for _ in range(50))
        wait_for_complete(50)

    def test_of_a_job_in_a_transaction_when_it_commits(
        self, idle: Worker, looks: list[float]
    ) -> None:
        with transaction.atomic():
            Job.objects.create(name="noop")
            time.sleep(0.5)  # for a notice that would come too early, and find nothing
            assert len(looks) == 1
        wait_for_complete(1)

    def test_not_of_a_job_that_was_rolled_back(self, idle: Worker, looks: list[float]) -> None:
        with transaction.atomic():
            Job.objects.create(name="noop")
            transaction.set_rollback(True)
        time.sleep(0.5)
        assert len(looks) == 1
        Job.objects.create(name="noop")
        wait_for_complete(1)

    def test_of_a_job_for_later_which_is_then_started_at_its_time(self, idle: Worker) -> None:
        due = timezone.now() + timedelta(seconds=1)
        job = Job.objects.create(name="noop", run_after=due)
        wait_for_complete(1)
        job.refresh_from_db()
        assert job.started is not None
        assert job.started >= due


#: Settings, and an app, of a worker process that looks once an hour.
PATIENT = """
from django.apps import AppConfig
from tests.settings import *

INSTALLED_APPS = [*INSTALLED_APPS, "patient.Patient"]

class Patient(AppConfig):
    name = "patient"

    def ready(self):
        from django_dbq.wakeup import FileWakeUp, NotifiedWakeUp
        for kind in (FileWakeUp, NotifiedWakeUp):
            kind.shortest_pause = kind.longest_pause = 3600
"""


@told_only
def test_a_worker_process_that_hardly_ever_looks_is_told(
    worker_process: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "patient.py").write_text(PATIENT)
    worker = worker_process(
        "--rate_limit", "0", DJANGO_SETTINGS_MODULE="patient", PYTHONPATH=str(tmp_path)
    )
    worker.wait_for_output("Starting job worker")
    for number in range(1, 4):
        monkeypatch.setattr("django_dbq.notices._notices", defaultdict(Notices))
        Job.objects.create(name="noop")
        wait_for_complete(number)
        time.sleep(0.5)  # until it has found nothing else, and waits
    assert worker.process.poll() is None
    assert "event=polling" not in worker.output


@notified_only
class TestNotify:
    def test_alone_makes_a_worker_look(self, idle: Worker, looks: list[float]) -> None:
        """Nobody tells of jobs made by bulk_create or in SQL."""
        Job.objects.bulk_create([Job(name="noop", next_task="tests.tasks.noop")])
        notify("another queue")
        time.sleep(0.5)
        assert len(looks) == 1
        assert states() == {"NEW": 1}
        notify("default")
        wait_for_complete(1)

    def test_reaches_every_worker_that_listens(self, idle: Worker, looks: list[float]) -> None:
        with working():
            wait_for(lambda: len(looks) == 2)
            notify("default")
            wait_for(lambda: len(looks) == 4)


class TestLooking:
    def test_finds_what_nobody_tells_of(self) -> None:
        with working(told=False):
            for number in range(1, 6):
                Job.objects.bulk_create([Job(name="noop", next_task="tests.tasks.noop")])
                wait_for_complete(number)

    def test_finds_in_the_end_what_a_listening_worker_was_not_told_of(
        self, worker_process: StartWorker
    ) -> None:
        worker = worker_process("--rate_limit", "0")
        worker.wait_for_output("Starting job worker")
        for number in range(1, 4):
            Job.objects.bulk_create([Job(name="noop", next_task="tests.tasks.noop")])
            wait_for_complete(number)


class TestKnownTimes:
    def test_are_kept_without_looking(self, looks: list[float]) -> None:
        """Each of them in turn, and none before its time by the database's clock."""
        now = timezone.now()
        for seconds in (3, 2, 1):
            Job.objects.create(name="noop", run_after=now + timedelta(seconds=seconds))
        with working(told=False):
            wait_for_complete(3)
        started = list(Job.objects.order_by("run_after").values_list("run_after", "started"))
        assert [begin >= due for due, begin in started if due and begin] == [True] * 3
        assert [begin for _, begin in started] == sorted(begin for _, begin in started if begin)


@pytest.fixture
def pooled() -> Iterator[str]:
    """Run a PgBouncer of our own before the test server; the URL of the server through it."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if program is None:
        reason = "pgbouncer is not installed (on Debian: apt-get install pgbouncer)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    connection.ensure_connection()
    info = connection.connection.info
    password = f" password={info.password}" if info.password else ""
    owner = _may_run_as(info.host)
    # Not pytest's own directory: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="dbq-pgbouncer-") as directory:
        settings, log = Path(directory, "pgbouncer.ini"), Path(directory, "log")
        settings.write_text(
            "[databases]\n"
            f"{info.dbname} = host={info.host} port={info.port} user={info.user}{password}\n"
            "[pgbouncer]\n"
            "pool_mode = transaction\n"
            "auth_type = any\n"
            "listen_addr =\n"
            "listen_port = 5432\n"
            f"unix_socket_dir = {directory}\n"
        )
        shutil.chown(directory, owner)
        shutil.chown(settings, owner)
        with log.open("wb") as output:
            bouncer = subprocess.Popen(
                [program, str(settings)],
                user=owner if os.getuid() == 0 else None,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            wait_for(
                lambda: bouncer.poll() is not None or Path(directory, ".s.PGSQL.5432").exists()
            )
            assert bouncer.poll() is None, log.read_text()
            yield f"postgresql://{info.user}@/{info.dbname}?host={directory}"
        finally:
            bouncer.kill()
            bouncer.wait()


def _may_run_as(host: str) -> str:
    """Return the user to run PgBouncer as, which refuses to be root, and has to reach the server.

    A server of ours keeps its socket in a directory that nobody but its own user may enter.
    """
    if os.getuid() != 0:
        return getpass.getuser()
    owner = Path(host).stat().st_uid if host.startswith("/") else 0
    return pwd.getpwuid(owner).pw_name if owner else "nobody"


@postgresql_only
class TestPgBouncer:
    def test_lets_no_notices_through_so_that_a_worker_says_so_and_looks(
        self, pooled: str, worker_process: StartWorker
    ) -> None:
        worker = worker_process("--rate_limit", "0", DATABASE_URL=pooled)
        worker.wait_for_output("event=polling")
        for number in range(1, 4):
            Job.objects.create(name="three")
            wait_for_complete(number)
        [line] = [line for line in worker.output.splitlines() if "event=polling" in line]
        assert line.startswith("WARNING ")
        assert "no pooler such as PgBouncer" in line

    def test_keeps_no_job_from_being_run_once(
        self, pooled: str, worker_process: StartWorker
    ) -> None:
        """What belongs to a session, such as a prepared statement, is another worker's next."""
        Job.objects.bulk_enqueue(Job(name="three") for _ in range(300))
        workers = [
            worker_process("--burst", "--rate_limit", "0", DATABASE_URL=pooled) for _ in range(2)
        ]
        assert [worker.wait() for worker in workers] == [0, 0], workers[0].output
        assert states() == {"COMPLETE": 300}
        # Each task once: a retry or a second run would count.
        assert set(Job.objects.values_list("attempts", "losses")) == {(1, 0)}

    @notified_only
    def test_is_not_suspected_without_one(self, worker_process: StartWorker) -> None:
        Job.objects.create(name="noop")
        worker = worker_process("--burst", "--rate_limit", "0")
        assert worker.wait() == 0
        assert "event=polling" not in worker.output
