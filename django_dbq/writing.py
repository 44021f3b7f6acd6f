"""Outcomes on their way into the table."""

import logging
import uuid
from collections.abc import Callable, Sequence

from django.db import DataError, Error, IntegrityError, transaction

from django_dbq.backends import Backend, Wanted
from django_dbq.batch import Batch
from django_dbq.claims import Claim, FailedAttempt, Outcome
from django_dbq.limits import Tally
from django_dbq.logs import logfmt
from django_dbq.models import Job
from django_dbq.tracebacks import describe

logger = logging.getLogger(__name__)


class OutcomeWriter:
    """Writes the outcomes of a batch, together with a claim where there is one, and counts them.

    An outcome that the database refuses fails its own job, and no other. ``on_progress``: called
    with the tally after each write. ``on_doubt``: called when a claim may have been carried out
    whose answer could not be read.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        batch: Batch,
        on_progress: Callable[[Tally], None] = lambda tally: None,
        on_doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self.backend = backend
        self.batch = batch
        self.on_progress = on_progress
        self.on_doubt = on_doubt
        self.tally = Tally()
        self._ended: Sequence[Outcome] = []
        #: The claims whose outcome may have been written, though the database's answer is missing.
        self._unsure: set[tuple[uuid.UUID, uuid.UUID]] = set()
        #: How often in a row outcomes could not be written.
        self._failures = 0

    def collect(self) -> bool:
        """Take what is to be written; return whether some of the jobs wait again."""
        self._ended, settled = self.batch.take_ended(), self.batch.take_settled()
        if settled:
            self._count(settled, [])
        states = {outcome.row.state for outcome in (*self._ended, *settled)}
        return not states.isdisjoint(Job.WAITING)

    def write(self) -> None:
        """Write what was collected."""
        if self._ended:
            self._finish(self._ended)
        self.batch.written()

    def exchange(
        self, wanted: Wanted, *, meanwhile: Callable[[], None] = lambda: None
    ) -> Sequence[Claim]:
        """Write what was collected, and claim, in one transaction if it can be.

        ``meanwhile``: called once, while the database works on that or just before.
        """
        claimed: Sequence[Claim] = []
        if self._ended and self._failures < 2:
            try:
                late, claimed = self.backend.exchange(self._ended, wanted, meanwhile=meanwhile)
            except (DataError, IntegrityError, ValueError):
                self.on_doubt()
                self._unsure |= {_key(outcome) for outcome in self._ended}
                self._finish(self._ended)
            else:
                self._count(self._ended, late)
                wanted = wanted._replace(promoting=False)
            self.batch.written()
        else:
            meanwhile()
            self.write()
        return claimed or self.backend.claim(wanted)

    def put_back(self) -> None:
        """Keep what could not be written; it may have been, since the answer is missing."""
        unwritten = self.batch.put_back()
        self._failures = self._failures + 1 if unwritten else 0
        self._unsure |= {_key(outcome) for outcome in unwritten}

    def are_sure(self) -> None:
        """Take note that nothing that was sent before an error can be carried out any more."""
        self._unsure.clear()

    def _finish(self, outcomes: Sequence[Outcome]) -> None:
        if self._failures > 1:
            # What the database does not take, however often it is asked, is not its weather.
            self._finish_singly(outcomes)
            return
        try:
            late = self.backend.finish(outcomes)
        except (DataError, IntegrityError, ValueError):
            self._finish_singly(outcomes)
        else:
            self._count(outcomes, late)

    def _finish_singly(self, outcomes: Sequence[Outcome]) -> None:
        """Write the outcomes one by one; fail the jobs of those that the database does not take."""
        for outcome in outcomes:
            written = [outcome]
            try:
                late = self.backend.finish(written)
            except (DataError, IntegrityError, ValueError) as error:
                written = [_refused(outcome, error)]
                late = self.backend.finish(written)
            except Error as error:
                if not self.backend.may_be_the_values(error):
                    raise
                written = [self._tried_again(outcome, error)]
                late = self.backend.finish(written)
            self._count(written, late)

    def _tried_again(self, outcome: Outcome, error: Error) -> Outcome:
        """Return what to write for an outcome that could not be written: it, or that it cannot be.

        Raises if the database takes nothing at all: then it is no fault of the outcome's.
        """
        refused = _refused(outcome, error)
        self.backend.reconnect()
        for attempt in (refused, outcome):
            try:
                with transaction.atomic(using=self.backend.using):
                    self.backend.finish([attempt])
                    transaction.set_rollback(True, using=self.backend.using)
            except Error:
                if attempt is refused:
                    raise
                self.backend.reconnect()
                return refused
        return outcome

    def _count(self, outcomes: Sequence[Outcome], late: Sequence[Outcome]) -> None:
        self._failures = 0
        # Those that we may have written ourselves are not late.
        lost = {_key(outcome) for outcome in late} - self._unsure
        for outcome in late:
            claim = outcome.claim
            if _key(outcome) in lost:
                line = logfmt(event="outcome_too_late", name=claim.job_name, id=claim.job_id)
                logger.warning("%s", line)
        if lost:
            outcomes = [outcome for outcome in outcomes if _key(outcome) not in lost]
        self.tally.count(outcomes)
        try:
            self.on_progress(self.tally)
        except Exception:
            # Whoever looked on has gone; the work goes on.
            logger.exception("event=progress_failed")
            self.on_progress = _nobody_looks


def _nobody_looks(tally: Tally) -> None:
    """Show no progress."""


def _key(outcome: Outcome) -> tuple[uuid.UUID, uuid.UUID]:
    return outcome.claim.job_id, outcome.claim.token


def _refused(outcome: Outcome, error: Exception) -> Outcome:
    """Return the outcome of a job whose values the database would not take."""
    # It may have been the record of a failure: this one is such as every column holds.
    claim, record = outcome.claim, describe(error).encode("ascii", "backslashreplace").decode()
    return outcome._replace(
        row=claim.row._replace(state=Job.STATES.FAILED),
        error=record,
        edited=False,
        failure=FailedAttempt(
            claim.row.next_task,
            claim.attempts,
            f"{type(error).__name__}: the database did not take what the task came to",
            record,
        ),
    )
