"""A worker: one process, which runs the jobs of some queues until it is asked to stop."""

import gc
import threading
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from django.db import connections

from django_dbq.backends import backend_for
from django_dbq.batch import LARGEST_BATCH, Batch
from django_dbq.bell import Bell
from django_dbq.claims import Outcome
from django_dbq.clock import elapsed
from django_dbq.concurrency import TaskThreads
from django_dbq.deadlines import Deadlines
from django_dbq.dispatcher import Dispatcher
from django_dbq.heartbeat import Heartbeat
from django_dbq.limits import Limits, Tally
from django_dbq.running import JobRunner
from django_dbq.stopping import StopRequests
from django_dbq.wakeup import WakeUp, wakeup_for


class Worker:
    """Claims, executes and finishes jobs: tasks in the calling thread, the rest in a dispatcher's.

    With ``concurrency`` the tasks run in threads, and the calling one waits for signals.

    ``queues``: served in this order. ``using``: the database. ``limits``: what to keep to, and when
    to end. ``concurrency``: how many tasks to run at once. ``grace``: for how many seconds the
    running tasks may go on when the worker is asked to stop. ``worker_id``: as the rows name it.
    ``deadlines``: for a supervisor to see when a task is overdue.
    ``on_progress``: called after each batch with the tally so far. ``clock``: seconds, for
    durations only; what is due is asked of the database.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str],
        using: str,
        limits: Limits | None = None,
        concurrency: int = 1,
        grace: float | None = None,
        worker_id: uuid.UUID | None = None,
        deadlines: Deadlines | None = None,
        on_progress: Callable[[Tally], None] = lambda tally: None,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self.id = worker_id or uuid.uuid4()
        self.deadlines = deadlines
        self.bell = Bell()
        self.stop = StopRequests(self.bell, grace=grace)
        self.batch = Batch(queues=queues, bell=self.bell, concurrency=concurrency, clock=clock)
        connection = connections[using]
        # What the calling thread has not committed, or has in memory, no other thread sees.
        self._is_alone = connection.in_atomic_block or _is_in_memory(connection)
        wakeup = (
            WakeUp(self.bell, clock=clock)
            if self._is_alone
            else wakeup_for(connection.vendor, bell=self.bell, queues=queues, clock=clock)
        )
        self.backend = backend_for(using)
        self.dispatcher = Dispatcher(
            worker=self.id,
            queues=queues,
            backend=self.backend,
            batch=self.batch,
            bell=self.bell,
            stop=self.stop,
            wakeup=wakeup,
            limits=limits or Limits(),
            threads=concurrency,
            largest=0 if self._is_alone else LARGEST_BATCH,
            clock=clock,
            on_progress=on_progress,
        )

    def run(self) -> Tally:
        """Work until asked to stop, or until a limit says so; return the tally."""
        with self.stop.watched(), _startup_left_alone():
            if self._is_alone:
                self._run_alone()
            else:
                self._run_with_dispatcher()
        return self.dispatcher.outcomes.tally

    def _run_with_dispatcher(self) -> None:
        self.backend.prepare_process()
        connections.close_all()  # many a task has no use for one
        heartbeat = Heartbeat(
            worker=self.id,
            queues=self.dispatcher.queues,
            backend=self.backend,
            batch=self.batch,
            bell=self.bell,
            clock=self.dispatcher.clock,
        )
        heartbeat.start()
        thread = threading.Thread(target=self.dispatcher.run, name="dbq-dispatcher", daemon=True)
        thread.start()
        try:
            if self.batch.concurrency > 1:
                TaskThreads(self.batch, self._runner).run()
            else:
                self._runner().run()
        finally:
            self.dispatcher.end()
            thread.join()
            heartbeat.end()
        if self.dispatcher.error is not None:
            raise self.dispatcher.error

    def _runner(self) -> JobRunner:
        return JobRunner(
            batch=self.batch,
            stop=self.stop,
            backend=self.backend,
            deadlines=self.deadlines,
            is_guest=self._is_alone,
        )

    def _run_alone(self) -> None:
        """Take turns with the dispatcher in one thread, and claim one by one."""
        runner = self._runner()
        while not self.batch.closed:
            ended: Outcome | None = None
            while claim := self.batch.start(ended, wait=False):
                ended = runner.run_one(claim)
            if not self.dispatcher.turn() and not self.batch.unstarted and not self.batch.closed:
                self.dispatcher.wait()


@contextmanager
def _startup_left_alone() -> Generator[None, None, None]:
    """Keep the garbage collector from what there was before: it is there to stay.

    To look through all of Django again and again took a fifth of a worker's time.
    """
    gc.freeze()
    thresholds = gc.get_threshold()
    # A batch makes thousands of objects and no cycle: at Python's 700 each batch would be searched
    # for some several times.
    gc.set_threshold(max(thresholds[0], 10_000), *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _is_in_memory(connection: object) -> bool:
    asked: Callable[[], bool] = getattr(connection, "is_in_memory_db", lambda: False)
    return asked()
