"""Jobs for later are *parked*: out of the claim's index until they are due.

A worker that claims promotes those that are due, in batches. Parking is about cost, and never about
truth: a claim asks every job for its ``run_after``, and a job whose ``run_after`` was changed by
``update()`` or in SQL counts as not parked.
"""

from datetime import datetime
from typing import Any

from django.db import models
from django.utils import timezone

_WAITING = ("NEW", "READY")


class ParkedField(models.DateTimeField):  # type: ignore[type-arg] # pyright: ignore[reportMissingTypeArgument]
    """A column that follows ``run_after`` while that is to come, whenever a row is written."""

    def pre_save(self, model_instance: Any, add: bool) -> datetime | None:
        parked = parked_until(model_instance.state, model_instance.run_after)
        setattr(model_instance, self.attname, parked)
        return parked


def parked_until(state: str, run_after: datetime | None) -> datetime | None:
    """Return what ``Job.parked`` is to be; by the clock of this machine, which is near enough."""
    if run_after is None or state not in _WAITING:
        return None
    try:
        return run_after if run_after > timezone.now() else None
    except TypeError:  # a naive time, or a text: the claim will see whether it is to come
        return None


def is_claimable(state: str, run_after: datetime | None, parked: datetime | None) -> bool:
    """Return what the database makes of ``Job.claimable`` where the other columns are so."""
    return state in _WAITING and (parked is None or parked != run_after)
