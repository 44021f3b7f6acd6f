"""Faults inside a worker's process, which the engine has no hooks for: its methods are wrapped.

``FAULTS_CRASH`` in the environment names the point at which the process ends, as if struck by
lightning, the first time that it comes there with a job.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

#: The exit status of a process that crashed where it was told to.
CRASHED = 77

POINTS = (
    "before the claim's commit",
    "after the claim's commit",
    "in the step",
    "before the finish's commit",
    "in the finish's commit",
    "after the finish's commit",
)


def crash_at(point: str) -> None:
    """End the process, if this is the point to do so."""
    if os.environ.get("FAULTS_CRASH") == point:
        crash()


def crash() -> NoReturn:
    """End the process here and now: nothing is flushed, closed or rolled back."""
    os._exit(CRASHED)


def install() -> None:
    """Wrap what has to be wrapped for the crash that is asked for."""
    point = os.environ.get("FAULTS_CRASH", "")
    if "claim" in point:
        _wrap_claim(point)
    elif "finish" in point:
        _wrap_finish(point)


def _wrap_claim(point: str) -> None:
    from django.db import transaction

    from django_dbq.backends.base import Backend

    claim = Backend.claim

    def crashing(self: Backend, wanted: Any) -> Any:
        with transaction.atomic(using=self.using):
            claimed = claim(self, wanted)
            if claimed and point.startswith("before"):
                crash()
        if claimed:
            crash()
        return claimed

    Backend.claim = crashing  # type: ignore[method-assign]


def _wrap_finish(point: str) -> None:
    from django.db import connections, transaction

    from django_dbq.backends import backend_for
    from django_dbq.batch import Batch
    from django_dbq.models import Job

    kind = type(backend_for("default"))
    end = Batch.end

    def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
        def crashing(self: Any, outcomes: Any, *args: Any, **options: Any) -> Any:
            # What is handed back, as by a worker that was kept from starting it, is not at its end.
            if not any(outcome.row.state in Job.FINISHED for outcome in outcomes):
                return method(self, outcomes, *args, **options)
            # Where the task is atomic its own transaction is around this, and ends in Batch.end.
            is_inner = connections[self.using].in_atomic_block
            if point.startswith("in "):
                _crash_soon()
            with transaction.atomic(using=self.using):
                result = method(self, outcomes, *args, **options)
                if point.startswith("before"):
                    crash()
            if not is_inner:
                crash()
            return result

        return crashing

    def ended(self: Batch, outcome: Any, *, written: bool = False) -> None:
        if written:
            crash()
        end(self, outcome, written=written)

    for name in ("finish", "exchange"):
        setattr(kind, name, wrapped(getattr(kind, name)))
    Batch.end = ended  # type: ignore[method-assign]


def _crash_soon() -> None:
    """Crash at a random instant of what comes now: its statements, or its commit."""

    def wait() -> None:
        time.sleep(random.uniform(0, 0.003))
        crash()

    threading.Thread(target=wait, daemon=True).start()
