"""Many tasks at once in one process: for tasks that wait, for others or for an answer."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from django.db import connections

from django_dbq import registry
from django_dbq.batch import Batch
from django_dbq.claims import Claim
from django_dbq.execution import Execution
from django_dbq.running import JobRunner


class TaskThreads:
    """Threads that run the jobs of a batch, and one event loop for all tasks that are coroutines.

    There is never more than one idle thread, and never are there more than jobs may run at once. A
    coroutine takes none while it is awaited: a thread begins the job, the event loop awaits its
    task, and a thread concludes it.
    """

    def __init__(self, batch: Batch, make_runner: Callable[[], JobRunner]) -> None:
        self.make_runner = make_runner
        self.batch = batch
        self._loop = asyncio.new_event_loop()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        """Run jobs until the batch is closed, and nothing runs any more."""
        loop = threading.Thread(target=self._loop.run_forever, name="dbq-loop", daemon=True)
        loop.start()
        self._add_thread()
        for thread in self._threads:  # which grows until the last has ended
            thread.join()
        self.batch.wait_for_running()
        self._loop.call_soon_threadsafe(self._loop.stop)
        loop.join()
        self._loop.close()

    def _add_thread(self) -> None:
        self._idle += 1
        name = f"dbq-task-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._run_jobs, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_jobs(self) -> None:
        runner = self.make_runner()

        def run_one(claim: Claim) -> None:
            with self._lock:
                self._idle -= 1
                if not self._idle and len(self._threads) < self.batch.concurrency:
                    self._add_thread()
            self._run(claim, runner)
            with self._lock:
                self._idle += 1

        try:
            runner.run(run_one)
        finally:
            connections.close_all()

    def _run(self, claim: Claim, runner: JobRunner) -> None:
        if registry.get(claim.job_name).atomic:  # its transaction is this thread's
            runner.run_one(claim)
            return
        execution = runner.execution(claim)
        if (coroutine := execution.begin()) is None:
            runner.batch.end(execution.conclude())
        else:
            execution.settle = None  # its connections are those of other threads
            waiting = self._await(execution, coroutine, runner.batch)
            asyncio.run_coroutine_threadsafe(waiting, self._loop)

    async def _await(
        self, execution: Execution, coroutine: Coroutine[Any, Any, object], batch: Batch
    ) -> None:
        try:
            await execution.awaited(coroutine)
        except BaseException as error:  # noqa: BLE001 - SystemExit must not end the event loop
            execution.raised = error
        # Hooks may use the database, which has no place in an event loop.
        batch.end(await asyncio.to_thread(execution.conclude))
