"""A plain entry and its typed twin are the same to the engine, step by step."""

import uuid
from typing import Any

import pytest
from pytest_django import Settings

from django_dbq.backends import Wanted, backend_for
from django_dbq.execution import Execution
from django_dbq.models import Job
from tests import tasks
from tests.typed_app import twins

pytestmark = pytest.mark.django_db

#: What is alike in both rows; tasks and names differ, and times pass.
COLUMNS = (
    "state", "workspace", "queue_name", "priority", "run_after", "attempts", "losses", "version",
    "claim_token", "dedupe_key",
)  # fmt: skip


def life_of(job: Job) -> list[dict[str, Any]]:
    """Return the row after its creation and after each task, with what ran and what was raised."""
    history = [seen(job)]
    # A job that is retried for ever is looked at often enough.
    for _ in range(4):
        wanted = Wanted(["default"], [job.name], 1, uuid.uuid4())
        for claim in backend_for("default").claim(wanted):
            history.append(seen(job))
            assert backend_for("default").finish([Execution(claim).run()]) == []
            history.append(seen(job))
    return history


def seen(job: Job) -> dict[str, Any]:
    row = Job.objects.get(pk=job.pk)
    task = row.next_task.rpartition(".")[2].rpartition("_")[2]
    error = (row.error or "").splitlines()[-1:]
    times = (row.started is None, row.finished is None)
    columns = {name: getattr(row, name) for name in COLUMNS}
    if columns["claim_token"]:
        columns["claim_token"] = "a token"
    return {**columns, "task": task, "error": error, "times": times, "events": [*tasks.events]}


@pytest.mark.parametrize("fail_in", ["", "one", "two", "pre", "post", "failure", "retry"])
def test_the_same_rows_hooks_and_states(settings: Settings, fail_in: str) -> None:
    settings.JOBS = twins.PLAIN
    tasks.events.clear()
    plain = life_of(Job.objects.create(name="twin", workspace={"fail_in": fail_in, "done": []}))
    Job.objects.all().delete()
    tasks.events.clear()
    typed = life_of(twins.typed_twin.enqueue(workspace=twins.Twin(fail_in=fail_in)))
    assert typed == plain
    ended = {"": "COMPLETE", "post": "COMPLETE", "retry": "READY"}.get(fail_in, "FAILED")
    assert plain[-1]["state"] == ended
    assert len(plain) >= 3
