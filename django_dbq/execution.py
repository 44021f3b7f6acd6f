"""One claimed job: its hooks, its task, its outcome. No loop, and no SQL."""

import logging
from collections.abc import Coroutine
from contextlib import suppress
from inspect import iscoroutine
from typing import Any

from asgiref.sync import async_to_sync

from django_dbq import registry
from django_dbq.claims import Claim, Outcome
from django_dbq.edits import accept_edits
from django_dbq.errors import DBQError
from django_dbq.logs import logfmt
from django_dbq.models import Job
from django_dbq.tracebacks import describe

logger = logging.getLogger(__name__)

_READY, _COMPLETE, _FAILED = "READY", "COMPLETE", "FAILED"


def execute(claim: Claim, stop_requests: object = False) -> Outcome:
    """Run the next task of a claimed job, with its hooks, and return what it came to.

    ``stop_requests``: true as soon as the worker is asked to stop, for the task to see.

    Before: PROCESSING, or STOPPING if the worker is asked to stop meanwhile. Nothing that a task or
    hook raises comes out of here. The order of the hooks, and what their errors do, is the
    specification's: pre-task hook and task, either of which fails the job; the failure hook, for a
    job that is FAILED by then; the post-task hook, whose errors are logged and no more.
    """
    execution = Execution(claim, stop_requests)
    if (coroutine := execution.begin()) is not None:
        try:
            async_to_sync(_awaited)(coroutine)
        except BaseException as error:  # noqa: BLE001 - SystemExit must not end the worker
            execution.raised = error
    return execution.conclude()


async def _awaited(coroutine: Coroutine[Any, Any, object]) -> None:
    await coroutine


def release(claim: Claim) -> Outcome:
    """Return the outcome of a claim that is handed back as it was: its task was not run."""
    first = claim.row.next_task in ("", registry.get(claim.job_name).tasks[0])
    state = Job.STATES.NEW if first and claim.attempts <= 1 else Job.STATES.READY
    return Outcome(
        claim=claim,
        row=claim.row.moved(state, claim.row.next_task),
        attempts=claim.attempts - 1,
        losses=claim.losses,
        error=claim.error,
    )


class Execution:
    """The run of one task, from its start to its outcome.

    In two parts, since a task that is a coroutine is awaited in between, wherever the worker does
    that. ``raised``: what the task raised.
    """

    __slots__ = (
        "accepted", "attempts", "claim", "error", "job", "losses", "raised", "spec", "task",
    )  # fmt: skip

    def __init__(self, claim: Claim, stop_requests: object) -> None:
        self.job: Job = claim.job()
        self.job.stop_requests = stop_requests
        self.claim = claim
        self.spec = registry.get(claim.job_name)
        self.task = claim.row.next_task
        self.attempts = claim.attempts
        self.losses = claim.losses
        self.raised: BaseException | None = None
        self.error: str | None = None
        #: The job as it was when last seen in order; the outcome is made from it.
        self.accepted = claim.row

    def begin(self) -> Coroutine[Any, Any, object] | None:
        """Run the pre-task hook and the task; return the task's coroutine, if it is one."""
        self._log("task_started")
        try:
            result = self._run_task()
            return result if iscoroutine(result) else None
        except BaseException as error:  # noqa: BLE001 - SystemExit must not end the worker
            self.raised = error
            return None

    def conclude(self) -> Outcome:
        """Run the hooks that follow the task, and return what it came to."""
        try:
            if self.raised is not None:
                raise self.raised
            self._accept()
            self._advance()
        except BaseException as error:  # noqa: BLE001 - SystemExit must not end the worker
            self._fail(error)
        if self.spec.post_task_hook:
            self._run_hook(self.spec.post_task_hook, "post_task_hook", self.job)
        self._log("task_finished")
        return self._outcome()

    def _run_task(self) -> object:
        job, spec = self.job, self.spec
        # A row can say anything: only what the job's entry lists is ever imported.
        job.next_task = self.task = spec.listed(job.next_task)
        task = spec.function(self.task)
        if spec.pre_task_hook:
            spec.function(spec.pre_task_hook)(job)
        return task(job)

    def _advance(self) -> None:
        """Let the job wait for its next task, or be COMPLETE, unless the task set its state."""
        job = self.job
        if job.state not in Job.RUNNING:
            return
        if job.next_task == self.task:
            job.next_task = self.spec.task_after(self.task) or ""
        job.state = _READY if job.next_task else _COMPLETE
        if job.next_task:
            self.attempts = self.losses = 0
        self.accepted = self.accepted.moved(job.state, job.next_task)

    def _fail(self, error: BaseException) -> None:
        """Make the job FAILED, with the error on its record, and tell the failure hook."""
        self.error = describe(error, leaving_out=__file__)
        logger.error("%s", self._line("task_failed"), exc_info=error)
        # What the task wrote before it failed is kept, but for what no row can hold.
        with suppress(DBQError):
            self._accept()
        self.job.state = _FAILED
        self._accept()
        if self.spec.failure_hook:
            self._run_hook(self.spec.failure_hook, "failure_hook", self.job, error)

    def _run_hook(self, path: str, name: str, *args: object) -> None:
        """Run a hook whose own errors are logged, and change nothing else."""
        try:
            self.spec.function(path)(*args)
            self._accept()
        except BaseException as error:
            logger.error("%s", self._line(f"{name}_failed"), exc_info=error)
            with suppress(DBQError):
                self._accept()

    def _accept(self) -> None:
        self.accepted = accept_edits(self.job, self.accepted)

    def _outcome(self) -> Outcome:
        row = self.accepted
        if row.state in Job.RUNNING:  # set by a hook, which cannot mean it: the task has ended
            ended = _FAILED if self.error else _COMPLETE
            row = row.moved(_READY if row.next_task and not self.error else ended, row.next_task)
        # A task that saved its job may have written what it changed back afterwards.
        edited = row[2:] != self.claim.row[2:] or self.job.saved_while_held
        return Outcome(self.claim, row, self.attempts, self.losses, self.error, edited)

    def _log(self, event: str) -> None:
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", self._line(event))

    def _line(self, event: str) -> str:
        job = self.job
        return logfmt(
            event=event,
            name=self.claim.job_name,
            queue=job.queue_name,
            id=self.claim.job_id,
            state=job.state,
            next_task=job.next_task,
        )
