"""One claimed job: its hooks, its task, its outcome. No loop, and no SQL."""

import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from inspect import iscoroutine
from typing import Any

from asgiref.sync import async_to_sync

from django_dbq import registry
from django_dbq.claims import Claim, FailedAttempt, Outcome, new_outcome
from django_dbq.conf import conf
from django_dbq.deadlines import Deadlines
from django_dbq.edits import accept_edits
from django_dbq.errors import DBQError, InvalidJob, JobCancelled, JobLost, Snooze, UnknownTask
from django_dbq.logs import logfmt
from django_dbq.models import Job
from django_dbq.retries import pause_before_retry
from django_dbq.timeouts import awaited_within, time_limit
from django_dbq.tracebacks import describe, summarise

logger = logging.getLogger(__name__)

_READY, _COMPLETE, _FAILED = "READY", "COMPLETE", "FAILED"
# Here, since to look up an attribute of a model's class takes as long as a call.
_RUNNING, _WAITING = Job.RUNNING, Job.WAITING


#: Is told what a task has raised, if anything, and looks at what it has left behind.
Settle = Callable[[BaseException | None], None]


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
    """The run of one task of a claimed job, from its start to its outcome.

    Before: PROCESSING, or STOPPING if the worker is asked to stop meanwhile. Nothing that a task or
    hook raises comes out of here. The order of the hooks, and what their errors do, is the
    specification's: pre-task hook and task, either of which fails the job; the failure hook, for a
    job that is FAILED by then; the post-task hook, whose errors are logged and no more.

    It comes in parts, since a task that is a coroutine is awaited in between, wherever the worker
    does that. ``stop_requests``: true as soon as the worker is asked to stop, for the task to see.
    ``settle``: called behind the task; raises if that has left something that spoils its success.
    ``deadlines``: where to note until when the task has time, if anybody looks. ``clock``: seconds,
    for durations only. ``raised``: what the task raised.
    """

    __slots__ = (
        "accepted", "attempts", "begun", "claim", "clock", "deadlines", "error", "failure",
        "is_logged", "job", "losses", "raised", "settle", "spec", "task", "unreadable",
    )  # fmt: skip

    def __init__(
        self,
        claim: Claim,
        stop_requests: object = False,
        settle: Settle | None = None,
        deadlines: Deadlines | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.claim = claim
        self.spec = registry.get(claim.job_name)
        self.task = claim.row.next_task
        self.attempts = claim.attempts
        self.losses = claim.losses
        self.settle = settle
        self.deadlines = deadlines
        self.clock = clock
        self.begun = clock()
        # Asked once, since newer Pythons take as long for the answer as for three calls.
        self.is_logged = logger.isEnabledFor(logging.INFO)
        self.raised: BaseException | None = None
        self.error: str | None = None
        self.failure: FailedAttempt | None = None
        #: The job as it was when last seen in order; the outcome is made from it.
        self.accepted = claim.row
        self.unreadable: Exception | None = None
        try:
            self.job: Job = claim.job()
        except Exception as error:  # noqa: BLE001 - what a row holds may be anybody's
            self.job = Job(pk=claim.job_id, name=claim.job_name)
            self.unreadable = error
        self.job.stop_requests = stop_requests

    def run(self) -> Outcome:
        """Run it all, and return what it came to."""
        self.run_task()
        return self.conclude()

    def run_task(self) -> None:
        """Run the pre-task hook and the task to its end, also if that is a coroutine."""
        if (coroutine := self.begin()) is not None:
            try:
                async_to_sync(self.awaited)(coroutine)
            except BaseException as error:  # noqa: BLE001 - SystemExit must not end the worker
                self.raised = error

    def begin(self) -> Coroutine[Any, Any, object] | None:
        """Run the pre-task hook and the task; return the task's coroutine, if it is one."""
        if self.is_logged:
            logger.info("%s", self._line("task_started"))
        try:
            if self.losses or self.claim.cancelled or self.unreadable is not None:
                self._refuse_if_over()
            result = self._run_task()
            return result if result is not None and iscoroutine(result) else None
        except BaseException as error:  # noqa: BLE001 - SystemExit must not end the worker
            self.raised = error
            return None

    async def awaited(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Await the task's coroutine, as long as its time limit allows."""
        seconds = self.spec.timeouts.get(self.task)
        if seconds is None:
            await coroutine
            return
        with self._deadline(seconds):
            await awaited_within(coroutine, seconds)

    def check(self) -> None:
        """Take over what the task has changed; what is amiss counts as raised by the task."""
        try:
            if self.settle is not None:
                self.settle(self.raised)
            if self.raised is None:
                self.accepted = accept_edits(self.job, self.accepted)
        except BaseException as error:  # noqa: BLE001 - what a task leaves may raise anything
            self.raised = self.raised or error

    def conclude(self) -> Outcome:
        """Run the hooks that follow the task, and return what it came to."""
        try:
            if self.unreadable is not None:
                logger.error("%s", self._line("task_failed"), exc_info=self.unreadable)
                return self.failed(self.unreadable)
            self.check()
            if self.raised is None:
                self._advance()
            else:
                self._take_back(self.raised)
            if self.spec.post_task_hook:
                self._run_hook(self.spec.post_task_hook, "post_task_hook", self.job)
            if self.is_logged:
                logger.info("%s", self._line("task_finished"))
            return self._outcome()
        except BaseException as error:
            # What a task leaves on its job may raise anything, wherever it is looked at.
            logger.exception("event=execution_failed name=%s", self.claim.job_name)
            return self.failed(error)

    def failed(self, error: BaseException) -> Outcome:
        """Return the outcome of a job that nobody can look at any more: it keeps what it held."""
        text = describe(error, leaving_out=__file__)
        failure = FailedAttempt(self.task, self.claim.attempts, summarise(error), text)
        row = self.claim.row.moved(_FAILED, self.task)
        return Outcome(
            self.claim, row, self.claim.attempts, self.claim.losses, text, failure=failure
        )

    def begin_again(self) -> None:
        """Forget the outcome, which could not be committed: the job is as it was when claimed."""
        self.job.state, self.job.next_task = self.claim.row.state, self.task
        self.attempts, self.losses = self.claim.attempts, self.claim.losses

    def _refuse_if_over(self) -> None:
        """Raise where no task is to be started any more: the job is at its end by other means."""
        if self.unreadable is not None:
            raise self.unreadable
        if self.claim.cancelled:
            raise JobCancelled("The job was cancelled before its next task started.")
        allowed = 0 if self.spec.on_lost == "fail" else conf().MAX_LOSSES
        if self.losses > allowed:
            raise JobLost(
                f"{self.losses} worker(s) were lost while they had the job, and {allowed} are"
                " allowed: the task may be what killed them."
            )

    def _run_task(self) -> object:
        job, spec = self.job, self.spec
        # A row can say anything: only what the job's entry lists is ever imported.
        path = job.next_task
        if path not in spec.following:
            job.next_task = path = spec.listed(path)
        self.task = path
        task = spec.function(path)
        seconds = spec.timeouts.get(path)
        if seconds is None:
            if spec.pre_task_hook:
                self._call_hook(spec.pre_task_hook, job)
            return task(job)
        with self._deadline(seconds), time_limit(seconds):
            if spec.pre_task_hook:
                self._call_hook(spec.pre_task_hook, job)
            return task(job)

    def _deadline(self, seconds: float) -> AbstractContextManager[None]:
        return self.deadlines.task(seconds) if self.deadlines is not None else nullcontext()

    def _advance(self) -> None:
        """Let the job wait for its next task, or be COMPLETE, unless the task set its state."""
        job = self.job
        if job.state not in _RUNNING:
            return
        following = job.next_task
        if following == self.task:
            job.next_task = following = self.spec.following[following] or ""
        job.state = state = _READY if following else _COMPLETE
        if following:
            self.attempts = self.losses = 0
        self.accepted = self.accepted.moved(state, following)

    def _take_back(self, error: BaseException) -> None:
        """Let the task be tried again later, if that is wanted; else the job has failed."""
        # What the task wrote before it raised is kept, but for what no row can hold.
        with suppress(DBQError):
            self._accept()
        pause = self._pause_before_retry(error)
        if isinstance(error, Snooze):
            self.attempts -= 1
        else:
            self._keep_record(error, "task_failed" if pause is None else "task_to_retry")
        if pause is None:
            self._fail(error)
        else:
            self.job.state = _READY
            self.job.run_after = self._after(pause)
            self._accept()

    def _fail(self, error: BaseException) -> None:
        """Make the job FAILED, and tell the failure hook."""
        self.job.state = _FAILED
        self._accept()
        # It may be the hook itself that no worker survives.
        is_fatal = self.losses > conf().MAX_LOSSES + 1
        if self.spec.failure_hook and not is_fatal:
            self._run_hook(self.spec.failure_hook, "failure_hook", self.job, error)

    def _pause_before_retry(self, error: BaseException) -> float | None:
        if isinstance(error, UnknownTask | JobCancelled | JobLost):
            return None
        try:
            return pause_before_retry(error, self.spec.retries, tries=self.attempts - self.losses)
        except InvalidJob as problem:  # a policy that names what is no exception
            logger.error("%s", self._line("retries_failed"), exc_info=problem)
            return None

    def _after(self, pause: float) -> Any:
        """Return the time so many seconds from now, by the database's clock: the claim has it."""
        return self.claim.started + timedelta(seconds=self.clock() - self.begun + pause)

    def _keep_record(self, error: BaseException, event: str) -> None:
        self.error = describe(error, leaving_out=__file__)
        self.failure = FailedAttempt(self.task, self.attempts, summarise(error), self.error)
        logger.error("%s", self._line(event), exc_info=error)

    def _run_hook(self, path: str, name: str, *args: object) -> None:
        """Run a hook whose own errors are logged, and change nothing else."""
        try:
            self._call_hook(path, *args)
            self._accept()
        except BaseException as error:
            logger.error("%s", self._line(f"{name}_failed"), exc_info=error)
            with suppress(DBQError):
                self._accept()

    def _call_hook(self, path: str, *args: object) -> None:
        result = self.spec.function(path)(*args)
        if iscoroutine(result):
            result.close()
            raise TypeError(f"The hook {path} is an async function, which nobody would await.")

    def _accept(self) -> None:
        self.accepted = accept_edits(self.job, self.accepted)

    def _outcome(self) -> Outcome:
        row = self.accepted
        if row.state in _RUNNING:  # set by a hook, which cannot mean it: the task has ended
            ended = _FAILED if self.error else _COMPLETE
            row = row.moved(_READY if row.next_task and not self.error else ended, row.next_task)
        if row.state in _WAITING:
            # No worker was lost over this attempt. Those that were lost before it do not count as
            # tries, and are forgotten.
            self.attempts, self.losses = self.attempts - self.losses, 0
        # A task that saved its job may have written what it changed back afterwards.
        edited = row[2:] != self.claim.row[2:] or self.job.saved_while_held
        return new_outcome(
            (self.claim, row, self.attempts, self.losses, self.error, edited, self.failure)
        )

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
