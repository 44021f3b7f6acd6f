import uuid
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_dbq.models import Job, Worker

pytestmark = pytest.mark.django_db


def retry_jobs(*arguments: object) -> str:
    out = StringIO()
    call_command("retry_jobs", *map(str, arguments), stdout=out)
    return out.getvalue()


def failed(name: str = "three", *, hours: float = 0, state: str = "FAILED") -> Job:
    job = Job.objects.create(name=name, next_task="tests.tasks.second")
    modified = timezone.now() - timedelta(hours=hours)
    Job.objects.filter(pk=job.pk).update(state=state, modified=modified, attempts=3, losses=1)
    return job


def ready() -> set[uuid.UUID]:
    return set(Job.objects.filter(state="READY").values_list("pk", flat=True))


def test_by_id() -> None:
    first, second, _ = failed(), failed(), failed()
    assert retry_jobs("--id", first.pk, second.pk) == "2 job(s) will run again.\n"
    assert ready() == {first.pk, second.pk}
    first.refresh_from_db()
    assert (first.next_task, first.attempts, first.losses) == ("tests.tasks.second", 0, 0)


def test_by_name_and_from_the_first_task() -> None:
    job, _ = failed("three"), failed("noop")
    assert retry_jobs("--name", "three", "--from-first") == "1 job(s) will run again.\n"
    job.refresh_from_db()
    assert (job.state, job.next_task) == ("READY", "")


def test_by_age() -> None:
    new, old = failed(hours=1), failed(hours=10)
    retry_jobs("--younger-than", "5")
    assert ready() == {new.pk}
    retry_jobs("--older-than", "5")
    assert ready() == {new.pk, old.pk}


def test_by_state() -> None:
    complete, running, held, orphan = (
        failed(state=s) for s in ("COMPLETE", "PROCESSING", "PROCESSING", "PROCESSING")
    )
    now = timezone.now()
    worker = Worker.objects.create(
        id=uuid.uuid4(), host="far", pid=7, queues=[], version="0", started=now, last_seen=now,
        held_since=now, lease=40,
    )  # fmt: skip
    Job.objects.filter(pk=held.pk).update(claim_token=uuid.uuid4(), worker=worker.pk)
    Job.objects.filter(pk=orphan.pk).update(claim_token=uuid.uuid4(), worker=uuid.uuid4())
    retry_jobs("--state", "COMPLETE", "--all")
    assert ready() == {complete.pk}
    assert retry_jobs("--state", "PROCESSING", "--all") == "2 job(s) will run again.\n"
    assert ready() == {complete.pk, running.pk, orphan.pk}


def test_all_of_them_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_dbq.management.commands.retry_jobs.BATCH_SIZE", 2)
    for _ in range(5):
        failed()
    assert retry_jobs("--all") == "5 job(s) will run again.\n"
    assert len(ready()) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say which jobs"),
        (["--id", "7"], "'7' is not the id of a job"),
        (["--state", "NEW", "--all"], "invalid choice: 'NEW'"),
        (["--older-than", "-1"], "must be a number of 0 or more"),
    ],
)
def test_what_is_wrong_changes_nothing(arguments: list[str], message: str) -> None:
    failed()
    with pytest.raises(CommandError, match=message):
        retry_jobs(*arguments)
    assert ready() == set()
