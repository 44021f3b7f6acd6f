"""Outcomes as statements take them: those that are alike together, others as records."""

import uuid
from collections.abc import Callable, Iterable
from datetime import datetime

from django_dbq.claims import Outcome
from django_dbq.parking import parked_until


def record_of(
    outcome: Outcome,
    *,
    identity: Callable[[uuid.UUID], str],
    time: Callable[[datetime | None], str | None],
) -> dict[str, object]:
    """Return the values of an outcome by the names of their columns, as JSON can have them.

    ``identity``, ``time``: how the database has ids and times as text.
    """
    claim, row = outcome.claim, outcome.row
    record: dict[str, object] = {
        "id": identity(claim.job_id),
        "claim_token": identity(claim.token),
        "state": row.state,
        "next_task": row.next_task,
        "attempts": outcome.attempts,
        "losses": outcome.losses,
        "error": outcome.error,
        "edited": outcome.edited,
    }
    if outcome.edited:
        record |= {
            "workspace": row.workspace,
            "priority": row.priority,
            "run_after": time(row.run_after),
            "parked": time(parked_until(row.state, row.run_after)),
            "queue_name": row.queue_name,
            "version": row.version,
        }
    return record


def weight_of(outcomes: Iterable[Outcome]) -> int:
    """Return how many characters their workspaces have together."""
    return sum([len(outcome.row.workspace) for outcome in outcomes])


def alike(outcomes: Iterable[Outcome]) -> tuple[list[list[Outcome]], list[Outcome]]:
    """Return the groups of outcomes that differ in nothing but the job, and all others."""
    groups: dict[object, list[Outcome]] = {}
    others: list[Outcome] = []
    last: object = None
    group: list[Outcome] = []
    for outcome in outcomes:
        claim, row, attempts, losses, error, edited, _ = outcome
        if edited or error is not None:
            others.append(outcome)
        else:
            # By the identity of the token, which all that were claimed together share: to compare
            # it would take longer than the rest.
            key = (id(claim.token), row.state, row.next_task, attempts, losses)
            if key != last:
                last, group = key, groups.setdefault(key, [])
            group.append(outcome)
    return list(groups.values()), others


def edited_alike(outcomes: Iterable[Outcome]) -> tuple[list[list[Outcome]], list[Outcome]]:
    """Return the groups of edited outcomes that differ in the job and the workspace, and others.

    One that is like no other is among the others.
    """
    groups: dict[object, list[Outcome]] = {}
    others: list[Outcome] = []
    for outcome in outcomes:
        claim, row, attempts, losses, error, edited, _ = outcome
        if error is not None or not edited:
            others.append(outcome)
        else:
            state, next_task, _, *rest = row
            key = (id(claim.token), state, next_task, attempts, losses, *rest)
            groups.setdefault(key, []).append(outcome)
    others += [group[0] for group in groups.values() if len(group) == 1]
    return [group for group in groups.values() if len(group) > 1], others
