"""Many tasks at once: in threads, in an event loop, in processes; and no worker hoards jobs."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import connection

from django_dbq.models import Job
from tests.conftest import WorkerProcess, states, wait_for

pytestmark = pytest.mark.django_db(transaction=True)

StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file for which the tasks that are held wait."""
    return tmp_path / "gate"


def hold(count: int, gate: Path, name: str = "hold") -> None:
    Job.objects.bulk_enqueue(Job(name=name, workspace={"file": str(gate)}) for _ in range(count))


def holders(record: Path) -> list[int]:
    """Return the pids of the processes that started to hold, a job each."""
    return [int(line.split()[3]) for line in record.read_text().splitlines() if "held" in line]


class TestThreads:
    def test_run_as_many_tasks_at_once_as_they_are(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        hold(25, gate)
        worker = worker_process("--rate_limit", "0", "--concurrency", "20", "--burst")
        wait_for(lambda: len(holders(record)) == 20)
        wait_for(lambda: states() == {"PROCESSING": 20, "NEW": 5})
        gate.touch()
        assert worker.wait() == 0
        assert states() == {"COMPLETE": 25}
        assert len(holders(record)) == 25

    def test_let_what_runs_end_when_the_worker_is_stopped(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        hold(5, gate)
        worker = worker_process("--rate_limit", "0", "--concurrency", "3")
        wait_for(lambda: len(holders(record)) == 3)
        worker.signal(signal.SIGTERM)
        wait_for(lambda: states() == {"STOPPING": 3, "NEW": 2})
        gate.touch()
        assert worker.wait() == 0
        assert states() == {"COMPLETE": 3, "NEW": 2}

    def test_hand_everything_back_at_the_second_signal(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        hold(3, gate)
        worker = worker_process("--rate_limit", "0", "--concurrency", "3")
        wait_for(lambda: len(holders(record)) == 3)
        worker.signal(signal.SIGTERM)
        wait_for(lambda: states() == {"STOPPING": 3})
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        assert states() == {"NEW": 3}


class TestEventLoop:
    def test_takes_all_async_tasks_and_few_threads(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        hold(50, gate, "hold_async")
        worker = worker_process("--rate_limit", "0", "--concurrency", "50", "--burst")
        wait_for(lambda: len(holders(record)) == 50)
        gate.touch()
        assert worker.wait() == 0
        assert states() == {"COMPLETE": 50}
        assert Job.objects.filter(workspace__done=True).count() == 50
        threads = [int(line.split()[5]) for line in record.read_text().splitlines()]
        # Its own are five: the main one, the dispatcher's, the watcher's, the loop's and a task's.
        assert max(threads) < 25

    def test_keeps_to_the_concurrency(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        hold(8, gate, "hold_async")
        worker = worker_process("--rate_limit", "0", "--concurrency", "5", "--burst")
        wait_for(lambda: states() == {"PROCESSING": 5, "NEW": 3})
        gate.touch()
        assert worker.wait() == 0
        assert len(holders(record)) == 8

    @pytest.mark.parametrize("concurrency", ["1", "5"])
    def test_an_async_task_s_exit_fails_its_job_and_no_other(
        self, worker_process: StartWorker, concurrency: str
    ) -> None:
        Job.objects.bulk_enqueue(Job(name="exit_async") for _ in range(3))
        Job.objects.create(name="noop")
        worker = worker_process("--rate_limit", "0", "--concurrency", concurrency, "--burst")
        assert worker.wait(timeout=30) == 0
        assert states() == {"FAILED": 3, "COMPLETE": 1}

    @pytest.mark.skipif("connection.vendor != 'postgresql'", reason="others kill no sessions so")
    def test_gets_new_connections_when_the_database_was_away(
        self, worker_process: StartWorker, record: Path
    ) -> None:
        worker_process("--rate_limit", "0", "--concurrency", "5")
        Job.objects.bulk_enqueue(Job(name="count_jobs_async") for _ in range(5))
        wait_for(lambda: states() == {"COMPLETE": 5})
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        Job.objects.bulk_enqueue(Job(name="count_jobs_async") for _ in range(5))
        wait_for(lambda: states()["FAILED"] + states()["COMPLETE"] == 10)
        assert states() == {"COMPLETE": 10}

    @pytest.mark.parametrize("concurrency", ["1", "5"])
    def test_an_async_task_that_raises_fails_its_job(
        self, worker_process: StartWorker, concurrency: str
    ) -> None:
        job = Job.objects.create(name="fail_async")
        worker = worker_process("--rate_limit", "0", "--concurrency", concurrency, "--burst")
        assert worker.wait() == 0
        job.refresh_from_db()
        assert job.state == Job.STATES.FAILED
        assert str(job.error).endswith("ValueError: the async task failed")


class TestProcesses:
    def test_share_the_work_and_end_with_it(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        hold(3, gate)
        worker = worker_process("--rate_limit", "0", "--processes", "3", "--burst")
        wait_for(lambda: len(set(holders(record))) == 3)
        gate.touch()
        assert worker.wait() == 0
        assert states() == {"COMPLETE": 3}

    def test_one_that_dies_is_replaced_and_its_jobs_are_handed_on(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        worker = worker_process("--rate_limit", "0", "--processes", "2")
        hold(2, gate)
        wait_for(lambda: len(set(holders(record))) == 2)
        killed = holders(record)[0]
        os.kill(killed, signal.SIGKILL)
        # At once: by the heartbeat they would be rescued after 40 seconds.
        wait_for(lambda: len(set(holders(record))) == 3, timeout=20)
        gate.touch()
        wait_for(lambda: states() == {"COMPLETE": 2})
        assert sorted(Job.objects.values_list("losses", flat=True)) == [0, 1]
        assert f"event=worker_died pid={killed} exit_status=-9" in worker.output
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
    def test_are_told_of_signals(
        self, worker_process: StartWorker, record: Path, gate: Path, number: signal.Signals
    ) -> None:
        worker = worker_process("--rate_limit", "0", "--processes", "2")
        hold(2, gate)
        wait_for(lambda: len(set(holders(record))) == 2)
        worker.signal(number)
        wait_for(lambda: states() == {"STOPPING": 2})
        assert worker.process.poll() is None
        gate.touch()
        assert worker.wait() == 0
        assert states() == {"COMPLETE": 2}
        assert not any(map(is_alive, holders(record)))

    def test_leave_at_once_at_the_second_signal(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        worker = worker_process("--rate_limit", "0", "--processes", "2")
        hold(2, gate)
        wait_for(lambda: len(set(holders(record))) == 2)
        worker.signal(signal.SIGTERM)
        wait_for(lambda: states() == {"STOPPING": 2})
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        assert set(Job.objects.values_list("state", "claim_token")) == {("NEW", None)}

    def test_one_whose_task_does_not_react_to_its_timeout_is_killed(
        self, worker_process: StartWorker, record: Path
    ) -> None:
        job = Job.objects.create(name="stuck")
        worker = worker_process("--rate_limit", "0", "--processes", "2")
        wait_for(lambda: states() == {"FAILED": 1})
        job.refresh_from_db()
        assert "JobLost" in str(job.error)
        assert record.read_text().count("stuck") == 1
        assert 'reason="a task did not react to its timeout"' in worker.output
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0

    def test_one_that_hears_no_signal_is_killed_when_the_grace_is_over(
        self, worker_process: StartWorker, record: Path
    ) -> None:
        job = Job.objects.create(name="stuck_for_ever")
        worker = worker_process("--rate_limit", "0", "--processes", "2", "--grace", "0.1")
        wait_for(lambda: "stuck" in record.read_text())
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 1
        assert 'reason="it did not stop"' in worker.output
        job.refresh_from_db()
        assert (job.state, job.losses, job.claim_token) == (Job.STATES.READY, 1, None)

    def test_a_job_that_kills_its_worker_takes_no_other_along_twice(
        self, worker_process: StartWorker, record: Path
    ) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(200))
        pills = [Job.objects.create(name="kill_own_worker") for _ in range(2)]
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(200))
        worker = worker_process("--rate_limit", "0", "--processes", "2")
        wait_for(lambda: states() == {"COMPLETE": 400, "FAILED": 2})
        for pill in pills:
            pill.refresh_from_db()
            assert (pill.state, pill.losses) == (Job.STATES.FAILED, 4)
            # Less often, if one was in the batch of the other.
            assert 3 <= record.read_text().count(f"killing {pill.pk}") <= 4
        assert set(Job.objects.filter(name="noop").values_list("losses", flat=True)) <= {0, 1}
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0

    def test_end_when_their_supervisor_is_killed(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        worker = worker_process("--rate_limit", "0", "--processes", "2")
        hold(2, gate)
        wait_for(lambda: len(set(holders(record))) == 2)
        worker.kill()
        wait_for(lambda: states() == {"STOPPING": 2})
        gate.touch()
        wait_for(lambda: not any(map(is_alive, holders(record))))
        assert states() == {"COMPLETE": 2}

    def test_are_replaced_when_they_have_had_their_jobs(
        self, worker_process: StartWorker, record: Path
    ) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(50))
        worker = worker_process("--rate_limit", "0", "--processes", "2", "--max-jobs", "10")
        wait_for(lambda: states() == {"COMPLETE": 50})
        assert Job.objects.values("worker").distinct().count() >= 5
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


class TestLimits:
    def test_a_worker_ends_after_so_many_jobs(self, worker_process: StartWorker) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(5))
        assert worker_process("--rate_limit", "0", "--max-jobs", "3").wait() == 0
        assert states() == {"COMPLETE": 3, "NEW": 2}

    def test_and_after_so_much_time(self, worker_process: StartWorker) -> None:
        Job.objects.create(name="noop")
        assert worker_process("--rate_limit", "0", "--max-seconds", "2").wait() == 0
        assert states() == {"COMPLETE": 1}


class TestFairness:
    def test_slow_tasks_are_never_hoarded(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        """Even by workers that were busy with quick ones, and so claim many at once."""
        workers = [worker_process("--rate_limit", "0") for _ in range(2)]
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(2000))
        wait_for(lambda: states() == {"COMPLETE": 2000})
        Job.objects.all().delete()
        hold(8, gate)
        wait_for(lambda: states() == {"PROCESSING": 2, "NEW": 6} and len(holders(record)) == 2)
        assert set(holders(record)) == {worker.pid for worker in workers}
        gate.touch()
        wait_for(lambda: states() == {"COMPLETE": 8})

    def test_quick_tasks_do_not_wait_for_a_slow_one_among_them(
        self, worker_process: StartWorker, record: Path, gate: Path
    ) -> None:
        """What its worker had claimed with it is handed back, for the other."""
        for _ in range(2):
            worker_process("--rate_limit", "0")
        Job.objects.bulk_enqueue(Job(name="nap") for _ in range(500))
        hold(1, gate)
        Job.objects.bulk_enqueue(Job(name="nap") for _ in range(500))
        wait_for(lambda: states() == {"PROCESSING": 1, "COMPLETE": 1000})
        gate.touch()
        wait_for(lambda: states() == {"COMPLETE": 1001})

    def test_a_higher_priority_does_not_wait_for_a_backlog(
        self, worker_process: StartWorker, record: Path
    ) -> None:
        Job.objects.bulk_enqueue(Job(name="nap") for _ in range(4000))
        worker_process("--rate_limit", "0")
        wait_for(lambda: record.read_text().count("nap") > 500)
        urgent = Job.objects.create(name="noop", priority=1)
        before = record.read_text().count("nap")
        wait_for(lambda: str(urgent.pk) in record.read_text())
        # Each takes a millisecond, and here at times a little more.
        assert record.read_text().split(str(urgent.pk))[0].count("nap") - before < 300
