"""Where jobs run: one thread, which takes one after the other from the batch."""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from django.db import DataError, Error, IntegrityError, transaction

from django_dbq.backends import Backend
from django_dbq.batch import Batch
from django_dbq.claims import Claim, Outcome
from django_dbq.deadlines import Deadlines
from django_dbq.errors import OpenTransaction, Retry, SpoiledTransaction
from django_dbq.execution import Execution, release
from django_dbq.stopping import StopRequests
from django_dbq.task_connections import TaskConnections, refuse_if_spoiled
from django_dbq.tracebacks import summarise

logger = logging.getLogger(__name__)

#: Seconds after which a job runs again whose transaction the database did not commit.
RETRY_SECONDS = 1.0


class JobRunner:
    """Runs the jobs of a batch in the calling thread, until no more will come.

    ``deadlines``: where tasks with a timeout note until when they have time. ``is_guest``: whether
    the thread's connections are the caller's, and not to be touched.
    """

    def __init__(
        self,
        *,
        batch: Batch,
        stop: StopRequests,
        backend: Backend,
        deadlines: Deadlines | None = None,
        is_guest: bool = False,
    ) -> None:
        self.batch = batch
        self.stop = stop
        self.backend = backend
        self.deadlines = deadlines
        self.connections = TaskConnections()
        self.settle = None if is_guest else self.connections.settle

    def run(self, run_one: Callable[[Claim], Outcome | None] | None = None) -> None:
        """Run all jobs that come.

        ``run_one``: runs one of them in another way; it returns the outcome, or None where that is
        left with the batch, or will be.
        """
        run_one = run_one or self.run_one
        ended: Outcome | None = None
        while claim := self.batch.start(ended):
            self.connections.refresh(self.batch.last_progress, weather=self.batch.weather)
            ended = run_one(claim)

    def run_one(self, claim: Claim) -> Outcome | None:
        """Run one job, and return its outcome unless the batch has it already."""
        execution = self.execution(claim)
        return self.run_atomically(execution) if execution.spec.atomic else execution.run()

    def execution(self, claim: Claim) -> Execution:
        """Return the execution of that claim in this thread."""
        # By position: names would be passed as a dictionary, for each job.
        return Execution(claim, self.stop, self.settle, self.deadlines)

    def run_atomically(self, execution: Execution) -> Outcome | None:
        """Run a job whose task's writes are committed together with its outcome, or not at all.

        Returns the outcome unless it is written already, which the batch is told.
        """
        claim = execution.claim
        if self.settle is not None:
            execution.settle = partial(self.connections.settle, sparing=self.backend.using)
        run = AtomicRun(execution, self.backend)
        run.play()
        if self.settle is not None:
            with suppress(OpenTransaction):
                self.settle(execution.raised)
        if run.is_committed:
            self.batch.end(run.outcome or release(claim), written=True)
            return None
        # By no chance may a late one be accepted now that the task's writes are undone.
        return release(claim) if run.is_late else execution.conclude()


class AtomicRun:
    """One run of an atomic job: its transaction, and what became of that.

    ``is_committed``: the outcome is written. ``is_late``: the job was not ours any more, so that
    nothing is written. Neither: all that the task wrote is undone, and the execution knows why.
    """

    def __init__(self, execution: Execution, backend: Backend) -> None:
        self.execution = execution
        self.backend = backend
        self.outcome: Outcome | None = None
        self.is_committed = False
        self.is_late = False

    def play(self) -> None:
        """Run the task, the hook behind it and the finish in one transaction."""
        try:
            with transaction.atomic(using=self.backend.using):
                # The first of its kind: it knows of the commit whatever others raise after it.
                transaction.on_commit(self._note_commit, using=self.backend.using)
                if is_to_commit := self._is_to_commit():
                    is_to_commit = not self.backend.connection.needs_rollback
                if not is_to_commit:
                    transaction.set_rollback(True, using=self.backend.using)
            # In a transaction of the caller's, the commit is still to come.
            self.is_committed |= is_to_commit
        except BaseException as error:
            if self.is_committed:
                logger.exception("event=on_commit_failed name=%s", self.execution.claim.job_name)
            else:
                self._undo(error)

    def _note_commit(self) -> None:
        self.is_committed = True

    def _is_to_commit(self) -> bool:
        execution, connection = self.execution, self.backend.connection
        depth = len(connection.savepoint_ids)
        execution.run_task()
        execution.check()
        if execution.raised is not None:
            return False
        try:
            refuse_if_spoiled(connection, depth=depth)
            self.outcome = execution.conclude()
            refuse_if_spoiled(connection, depth=depth)
        except SpoiledTransaction as error:
            self._undo(error)
            return False
        self.is_late = bool(self.backend.finish([self.outcome]))
        return not self.is_late

    def _undo(self, error: BaseException) -> None:
        """Let the execution conclude once more: what it came to before is not so."""
        if isinstance(error, Error) and not isinstance(error, DataError | IntegrityError):
            # The database went away, or asks for another try. Nobody knows whether it was
            # committed; if it was, the second outcome is late and changes nothing.
            reason = f"The transaction was not committed: {summarise(error)}"
            error, cause = Retry(reason, in_=RETRY_SECONDS), error
            error.__cause__ = cause
        self.execution.begin_again()
        self.execution.raised = error
