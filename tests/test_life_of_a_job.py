"""The life of a job from end to end, in real worker processes."""

import signal
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection, transaction  # noqa: F401 - the mark below asks connection

from django_dbq.models import Job, Worker
from tests.conftest import WorkerProcess, states, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

StartWorker = Callable[..., WorkerProcess]


def test_four_workers_start_every_task_once_and_in_order(
    worker_process: StartWorker, record: Path
) -> None:
    workers = [worker_process("--rate_limit", "0", DBQ_TEST_LOG_LEVEL="WARNING") for _ in range(4)]
    for worker in workers:
        worker.wait_for_output("Starting job worker")
    Job.objects.bulk_enqueue(Job(name="three") for _ in range(5000))
    wait_for(lambda: states() == {"COMPLETE": 5000}, timeout=240)
    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [worker.wait() for worker in workers] == [0, 0, 0, 0]

    started: defaultdict[str, list[str]] = defaultdict(list)
    for line in record.read_text().splitlines():
        task, job = line.split()
        started[job].append(task)
    assert Counter(map(tuple, started.values())) == {("first", "second", "third"): 5000}
    assert set(started) == {str(pk) for pk in Job.objects.values_list("pk", flat=True)}
    assert states() == {"COMPLETE": 5000}
    assert Job.objects.filter(workspace__heard="Hello, task 2!").count() == 5000
    # All four took part, or it proves nothing.
    assert Job.objects.values("worker").distinct().count() > 1


def test_an_idle_worker_takes_up_a_new_job(worker_process: StartWorker, record: Path) -> None:
    worker = worker_process("--rate_limit", "0")
    worker.wait_for_output("Starting job worker")
    Job.objects.create(name="noop")
    wait_for(lambda: states() == {"COMPLETE": 1})
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_the_first_signal_lets_the_running_task_end(
    worker_process: StartWorker, record: Path, tmp_path: Path
) -> None:
    go_on = tmp_path / "go on"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        job = Job.objects.create(name="wait_for_file", workspace={"file": str(go_on)}, priority=1)
        waiting = Job.objects.create(name="three")
        worker = worker_process("--rate_limit", "0")
        wait_for(lambda: "waiting" in record.read_text())
        worker.signal(number)
        wait_for(lambda: states()["STOPPING"] == 1)
        assert worker.process.poll() is None
        go_on.touch()
        assert worker.wait() == 0
        assert f"waited {job.id}" in record.read_text()
        assert states() == {"COMPLETE": 1, "NEW": 1}
        waiting.refresh_from_db()
        assert waiting.claim_token is None
        go_on.unlink()
        record.write_text("")
        record.write_text("")
        Job.objects.all().delete()


def test_the_second_signal_hands_everything_back_at_once(
    worker_process: StartWorker, record: Path, tmp_path: Path
) -> None:
    job = Job.objects.create(name="wait_for_file", workspace={"file": str(tmp_path / "never")})
    worker = worker_process("--rate_limit", "0")
    wait_for(lambda: "waiting" in record.read_text())
    worker.signal(signal.SIGTERM)
    wait_for(lambda: states()["STOPPING"] == 1)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    job.refresh_from_db()
    assert (job.state, job.attempts, job.claim_token) == (Job.STATES.NEW, 0, None)


def test_the_second_signal_loses_no_outcome(
    worker_process: StartWorker, record: Path, tmp_path: Path
) -> None:
    """Batches grow: 1, 2, 4, 8, the last of which holds three quick jobs and the slow one."""
    Job.objects.bulk_enqueue(Job(name="noop", priority=1) for _ in range(10))
    Job.objects.create(name="wait_for_file", workspace={"file": str(tmp_path / "never")})
    worker = worker_process("--rate_limit", "0")
    wait_for(lambda: "waiting" in record.read_text())
    worker.signal(signal.SIGTERM)
    wait_for(lambda: states()["STOPPING"] == 1)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    assert states() == {"COMPLETE": 10, "NEW": 1}


def test_a_request_to_stop_is_heard_while_a_task_is_in_c(
    worker_process: StartWorker, record: Path
) -> None:
    """Python would run no handler before the task comes back."""
    job = Job.objects.create(name="hash_for_long")
    worker = worker_process("--rate_limit", "0", "--grace", "0.5")
    wait_for(lambda: "hashing" in record.read_text())
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 1
    job.refresh_from_db()
    assert (job.state, job.attempts, job.claim_token) == (Job.STATES.NEW, 0, None)


def test_a_task_that_ends_within_the_grace_ends_the_worker_well(
    worker_process: StartWorker, record: Path, tmp_path: Path
) -> None:
    go_on = tmp_path / "go on"
    Job.objects.create(name="wait_for_file", workspace={"file": str(go_on)})
    worker = worker_process("--rate_limit", "0", "--grace", "60")
    wait_for(lambda: "waiting" in record.read_text())
    worker.signal(signal.SIGTERM)
    wait_for(lambda: states()["STOPPING"] == 1)
    go_on.touch()
    assert worker.wait() == 0
    assert states() == {"COMPLETE": 1}


@pytest.mark.parametrize("concurrency", ["1", "3"])
def test_the_processes_of_a_task_end_when_told_to_and_the_worker_does_not(
    worker_process: StartWorker, record: Path, concurrency: str
) -> None:
    job = Job.objects.create(name="use_processes")
    worker = worker_process("--rate_limit", "0", "--concurrency", concurrency)
    wait_for(lambda: states() == {"COMPLETE": 1}, timeout=30)
    job.refresh_from_db()
    assert job.workspace == {"squares": [0, 1, 4, 9, 16], "exits": [-signal.SIGTERM] * 2}
    Job.objects.create(name="noop")
    wait_for(lambda: states() == {"COMPLETE": 2}, timeout=30)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_worker_keeps_a_row_while_it_lives(worker_process: StartWorker) -> None:
    worker = worker_process("default", "mail", "--rate_limit", "0")
    wait_for(Worker.objects.exists)
    row = Worker.objects.get()
    assert (row.pid, row.queues) == (worker.pid, ["default", "mail"])
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert not Worker.objects.exists()


def test_what_a_killed_worker_held_is_run_by_another(
    worker_process: StartWorker, record: Path, tmp_path: Path
) -> None:
    go_on = tmp_path / "go on"
    job = Job.objects.create(name="wait_for_file", workspace={"file": str(go_on)})
    first, second = (worker_process("--rate_limit", "0", DBQ_TEST_HEARTBEAT="0.2") for _ in "ab")
    wait_for(lambda: "waiting" in record.read_text())
    wait_for(lambda: Worker.objects.count() == 2)
    job.refresh_from_db()
    assert job.worker is not None
    holder = Worker.objects.get(pk=job.worker)
    killed, other = (first, second) if holder.pid == first.pid else (second, first)
    killed.kill()
    go_on.touch()
    wait_for(lambda: states() == {"COMPLETE": 1})
    job.refresh_from_db()
    assert (job.losses, job.attempts) == (1, 2)
    assert job.failures.get().worker == f"{holder.host}:{holder.pid}"
    assert f"event=jobs_rescued count=1 worker={holder.host}:{holder.pid}" in other.output


def test_a_worker_stops_while_it_waits_for_its_rate_limit(
    worker_process: StartWorker, record: Path
) -> None:
    Job.objects.create(name="noop")
    Job.objects.create(name="noop")
    worker = worker_process("--rate_limit", "3600")
    wait_for(lambda: states() == {"COMPLETE": 1, "NEW": 1})
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert states() == {"COMPLETE": 1, "NEW": 1}


def test_a_worker_logs_its_tasks_but_no_workspace(
    worker_process: StartWorker, record: Path
) -> None:
    job = Job.objects.create(name="note", workspace={"note": "hush"})
    worker = worker_process("--burst", "--rate_limit", "0")
    assert worker.wait() == 0
    assert (
        f"event=task_started name=note queue=default id={job.id} state=PROCESSING" in worker.output
    )
    assert (
        f"event=task_finished name=note queue=default id={job.id} state=COMPLETE" in worker.output
    )
    assert "hush" not in worker.output


@pytest.mark.skipif(
    "connection.vendor == 'sqlite'", reason="an open transaction of SQLite keeps all others waiting"
)
def test_a_job_created_in_a_transaction_is_seen_when_that_commits(
    worker_process: StartWorker, record: Path
) -> None:
    with transaction.atomic():
        Job.objects.create(name="noop")
        worker = worker_process("--burst", "--rate_limit", "0")
        assert worker.wait() == 0
        assert "0 job(s) complete" in worker.output
    worker = worker_process("--burst", "--rate_limit", "0")
    assert worker.wait() == 0
    assert "1 job(s) complete" in worker.output
