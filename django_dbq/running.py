"""Where jobs run: one thread, which takes one after the other from the batch."""

from collections.abc import Callable

from django.db import DataError, IntegrityError, transaction

from django_dbq import registry
from django_dbq.backends import Backend
from django_dbq.batch import Batch
from django_dbq.claims import Claim, Outcome
from django_dbq.deadlines import Deadlines
from django_dbq.execution import Execution, release
from django_dbq.stopping import StopRequests
from django_dbq.task_connections import TaskConnections
from django_dbq.weather import WEATHER


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
        self._weather = batch.weather

    def run(self, run_one: Callable[[Claim], None] | None = None) -> None:
        """Run all jobs that come; ``run_one`` runs one of them in another way."""
        run_one = run_one or self.run_one
        while claim := self.batch.start():
            self.connections.refresh(is_weather=self._weather != self.batch.weather)
            self._weather = self.batch.weather
            run_one(claim)

    def run_one(self, claim: Claim) -> None:
        """Run one job, and leave its outcome with the batch."""
        if registry.get(claim.job_name).atomic:
            self.run_atomically(claim)
        else:
            self.batch.end(self.execution(claim).run())

    def execution(self, claim: Claim, *, is_atomic: bool = False) -> Execution:
        """Return the execution of that claim in this thread."""
        settle = None if is_atomic else self.settle
        return Execution(claim, self.stop, settle=settle, deadlines=self.deadlines)

    def run_atomically(self, claim: Claim) -> None:
        """Run a job whose task's writes are committed together with its outcome, or not at all."""
        execution = self.execution(claim, is_atomic=True)
        outcome: Outcome | None = None
        is_written = False
        try:
            with transaction.atomic(using=self.backend.using):
                outcome = self._committable(execution)
                is_written = outcome is not None and not self.backend.finish([outcome])
                if not is_written:
                    transaction.set_rollback(True, using=self.backend.using)
            if outcome is not None and not is_written:
                # Late. By no chance may it be accepted now that the task's writes are undone.
                outcome = release(claim)
        except (DataError, IntegrityError) as error:  # a constraint that is checked at the commit
            execution.begin_again()
            execution.raised, outcome = error, None
        except WEATHER:
            # Nobody knows whether it was committed. If it was, this changes nothing.
            outcome = release(claim)._replace(attempts=claim.attempts, losses=claim.losses + 1)
            is_written = False
        self.batch.end(outcome or execution.conclude(), written=is_written)

    def _committable(self, execution: Execution) -> Outcome | None:
        """Run the task and the hook behind it; return the outcome, or None if that has failed."""
        execution.run_task()
        execution.check()
        return execution.conclude() if execution.raised is None else None
