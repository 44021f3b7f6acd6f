from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from django_dbq.models import Job
from tests.routers import JobsElsewhere

pytestmark = pytest.mark.django_db


def queue_depth(*queues: str, **options: object) -> str:
    out = StringIO()
    call_command("queue_depth", *queues, stdout=out, **options)
    return out.getvalue()


def test_prints_the_line_that_scrapers_rely_on() -> None:
    Job.objects.create(name="noop")
    Job.objects.create(name="noop", state=Job.STATES.READY)
    Job.objects.create(name="noop", state=Job.STATES.PROCESSING)
    Job.objects.create(name="noop", queue_name="unasked")
    assert queue_depth("default", "other") == "event=queue_depths default=2 other=0\n"


def test_the_default_queue_is_asked_for_by_default() -> None:
    assert queue_depth() == "event=queue_depths default=0\n"


def test_may_leave_out_what_is_scheduled_for_later() -> None:
    Job.objects.create(name="noop", run_after=timezone.now() + timedelta(hours=1))
    assert queue_depth("default") == "event=queue_depths default=1\n"
    assert queue_depth(exclude_future_jobs=True) == "event=queue_depths default=0\n"
    assert queue_depth("--exclude_future_jobs") == "event=queue_depths default=0\n"


@pytest.mark.django_db(databases=["default", "other"])
def test_asks_the_database_that_it_is_told() -> None:
    Job.objects.using("other").create(name="noop")
    assert queue_depth(database="other") == "event=queue_depths default=1\n"
    assert queue_depth() == "event=queue_depths default=0\n"


@pytest.mark.django_db(databases=["default", "other"])
def test_asks_the_routers_otherwise(settings: Settings) -> None:
    Job.objects.using("other").create(name="noop")
    settings.DATABASE_ROUTERS = [JobsElsewhere()]
    assert queue_depth() == "event=queue_depths default=1\n"
