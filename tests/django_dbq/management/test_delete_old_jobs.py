import uuid
from datetime import timedelta
from io import StringIO
from itertools import groupby

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from django_dbq.models import Failure, Job
from tests.routers import WritesElsewhere

pytestmark = pytest.mark.django_db


def delete_old_jobs(*arguments: str, **options: object) -> str:
    out = StringIO()
    call_command("delete_old_jobs", *arguments, stdout=out, **options)
    return out.getvalue()


def create(*states: str, hours: float, number: int = 1) -> None:
    jobs = Job.objects.bulk_enqueue(
        Job(name="noop", state=state) for state in states for _ in range(number)
    )
    created = timezone.now() - timedelta(hours=hours)
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(created=created)


def test_deletes_only_what_is_finished_and_old() -> None:
    create(*Job.STATES, hours=25)
    create(*Job.STATES, hours=23)
    assert delete_old_jobs() == "Deleted 2 job(s) created more than 24 hour(s) ago.\n"
    assert Job.objects.count() == 10
    old = timezone.now() - timedelta(hours=24)
    assert set(Job.objects.filter(created__lt=old).values_list("state", flat=True)) == {
        "NEW", "READY", "PROCESSING", "STOPPING",
    }  # fmt: skip


def test_the_age_can_be_chosen() -> None:
    create(Job.STATES.COMPLETE, hours=2)
    create(Job.STATES.FAILED, hours=0.6)
    assert delete_old_jobs("--hours", "1").startswith("Deleted 1 ")
    assert delete_old_jobs(hours=0.5).startswith("Deleted 1 ")


def test_deletes_in_batches() -> None:
    create(Job.STATES.COMPLETE, hours=25, number=2500)
    create(Job.STATES.NEW, hours=25)
    with CaptureQueriesContext(connection) as captured:
        assert delete_old_jobs().startswith("Deleted 2500 ")
    statements = [query["sql"] for query in captured.captured_queries]
    verbs = [sql.split()[0] for sql in statements if "django_dbq_failure" not in sql]
    # A batch is chosen, and then deleted, in one statement or more.
    batches = [verb for verb, _ in groupby(verbs) if verb == "DELETE"]
    assert len(batches) == 3
    assert Job.objects.count() == 1


@pytest.mark.parametrize("hours", ["-1", "nan", "inf", "soon", "", "1e30"])
def test_nonsense_is_an_error_and_deletes_nothing(hours: str) -> None:
    create(Job.STATES.COMPLETE, hours=1_000)
    with pytest.raises(CommandError):
        delete_old_jobs("--hours", hours)
    with pytest.raises(CommandError):
        delete_old_jobs(hours=hours)
    assert Job.objects.count() == 1


@pytest.mark.django_db(databases=["default", "other"])
def test_deletes_in_the_database_that_it_is_told() -> None:
    Job.objects.using("other").create(name="noop", state=Job.STATES.COMPLETE)
    create(Job.STATES.COMPLETE, hours=1)
    assert delete_old_jobs(hours=0, database="other").startswith("Deleted 1 ")
    assert Job.objects.count() == 1


@pytest.mark.django_db(databases=["default", "other"])
def test_asks_the_routers_otherwise(settings: Settings) -> None:
    Job.objects.using("other").create(name="noop", state=Job.STATES.COMPLETE)
    settings.DATABASE_ROUTERS = [WritesElsewhere()]
    assert delete_old_jobs(hours=0).startswith("Deleted 1 ")


def test_takes_failed_attempts_along_also_those_whose_job_is_gone() -> None:
    create(Job.STATES.FAILED, hours=25, number=2)
    create(Job.STATES.FAILED, hours=1)
    old = timezone.now() - timedelta(hours=25)
    for job_id in [*Job.objects.values_list("pk", flat=True), uuid.uuid4()]:
        Failure.objects.create(
            job_id=job_id, failed=old, worker="", task="", attempt=1, exception="", traceback=""
        )
    delete_old_jobs()
    assert [failure.job_id for failure in Failure.objects.all()] == [Job.objects.get().pk]
