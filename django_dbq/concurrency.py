"""Many tasks at once in one process: for tasks that wait, for others or for an answer."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from django_dbq.batch import Batch
from django_dbq.claims import Claim, Outcome
from django_dbq.execution import Execution
from django_dbq.running import JobRunner
from django_dbq.task_connections import IDLE_SECONDS, TaskConnections


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
        self._shared = SharedConnections(batch)
        self._concluding = ThreadPoolExecutor(thread_name_prefix="dbq-conclude")
        self._own = threading.local()

    def run(self) -> None:
        """Run jobs until the batch is closed, and nothing runs any more."""
        loop = threading.Thread(target=self._loop.run_forever, name="dbq-loop", daemon=True)
        loop.start()
        self._add_thread()
        for thread in self._threads:  # which grows until the last has ended
            thread.join()
        self.batch.wait_for_running()
        self._concluding.shutdown()
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

        def run_one(claim: Claim) -> Outcome | None:
            with self._lock:
                self._idle -= 1
                if not self._idle and len(self._threads) < self.batch.concurrency:
                    self._add_thread()
            outcome = self._run(claim, runner)
            with self._lock:
                self._idle += 1
            return outcome

        try:
            runner.run(run_one)
        finally:
            connections.close_all()

    def _run(self, claim: Claim, runner: JobRunner) -> Outcome | None:
        execution = runner.execution(claim)
        if execution.spec.atomic:  # its transaction is this thread's
            return runner.run_atomically(execution)
        if (coroutine := execution.begin()) is None:
            return execution.conclude()
        waiting = self._await(execution, coroutine, runner)
        asyncio.run_coroutine_threadsafe(waiting, self._loop)
        return None

    async def _await(
        self, execution: Execution, coroutine: Coroutine[Any, Any, object], runner: JobRunner
    ) -> None:
        try:
            await self._shared.refresh()
            await execution.awaited(coroutine)
        except BaseException as error:  # noqa: BLE001 - SystemExit must not end the event loop
            execution.raised = error
        # Hooks may use the database, which has no place in an event loop.
        outcome = await self._loop.run_in_executor(self._concluding, self._conclude, execution)
        runner.batch.end(outcome)

    def _conclude(self, execution: Execution) -> Outcome:
        """Run the hooks behind a coroutine, on a thread whose connections are looked after."""
        own: TaskConnections | None = getattr(self._own, "connections", None)
        if own is None:
            own = self._own.connections = TaskConnections()
        own.refresh(self.batch.clock(), weather=self.batch.weather)
        execution.settle = own.settle
        return execution.conclude()


class SharedConnections:
    """The connections of the one thread that runs what coroutines want of the database."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._connections: TaskConnections | None = None
        self._weather = batch.weather
        self._looked = batch.clock()

    async def refresh(self) -> None:
        """Let go of what does not work any more, before a coroutine finds out.

        It takes a turn of that thread, so only after the database was away, or after a while.
        """
        now = self.batch.clock()
        if self._weather == self.batch.weather and now - self._looked < IDLE_SECONDS:
            return
        self._weather, self._looked = self.batch.weather, now
        await sync_to_async(self._refresh)()

    def _refresh(self) -> None:
        if self._connections is None:
            self._connections = TaskConnections()
        self._connections.refresh(self._looked, weather=self.batch.weather, always=True)
