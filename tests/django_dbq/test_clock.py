"""What is due is decided by the database's clock, however times are stored."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from django.db import connection
from django.utils import timezone

from django_dbq.clock import DatabaseNow
from django_dbq.models import Job

pytestmark = pytest.mark.django_db


def database_now(job: Job) -> datetime:
    return Job.objects.annotate(now=DatabaseNow()).values_list("now", flat=True).get(pk=job.pk)


def test_the_database_agrees_with_a_clock_that_is_right() -> None:
    job = Job.objects.create(name="noop")
    assert abs(database_now(job) - timezone.now()) < timedelta(seconds=30)


def test_it_is_compared_and_stored_as_the_columns_are() -> None:
    job = Job.objects.create(name="noop")
    Job.objects.update(run_after=DatabaseNow())
    job.refresh_from_db()
    assert job.run_after is not None
    assert abs(job.run_after - timezone.now()) < timedelta(seconds=30)
    assert Job.objects.filter(run_after__lte=DatabaseNow()).exists()
    assert not Job.objects.filter(run_after__gt=DatabaseNow()).exists()


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has no clock of its own")
def test_a_worker_whose_clock_is_wrong_starts_nothing_early() -> None:
    Job.objects.create(name="noop", run_after=timezone.now() + timedelta(hours=1))
    wrong = datetime.now(UTC) + timedelta(days=2)
    with mock.patch("django.utils.timezone.now", return_value=wrong):
        assert not Job.objects.waiting().due().exists()
    assert connection.vendor in ("postgresql", "mysql")


@pytest.mark.parametrize("use_tz", ["1", "0"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_due_jobs_run_and_future_ones_wait_in_any_time_zone(
    transactional_db: None, use_tz: str, zone: str
) -> None:
    """In a process of its own, since USE_TZ and TIME_ZONE belong to a connection's beginning."""
    program = """
import django; django.setup()
from datetime import timedelta
from io import StringIO
from django.core.management import call_command
from django.utils import timezone
from django_dbq.models import Job
due = Job.objects.create(name="noop", run_after=timezone.now() - timedelta(minutes=5))
later = Job.objects.create(name="noop", run_after=timezone.now() + timedelta(minutes=5))
assert Job.get_queue_depths() == {"default": 2}
assert Job.get_queue_depths(exclude_future_jobs=True) == {"default": 1}
call_command("worker", burst=True, rate_limit=0, stdout=StringIO())
due.refresh_from_db(); later.refresh_from_db()
assert (due.state, later.state) == ("COMPLETE", "NEW"), (due.state, later.state)
now = timezone.now()
for moment in (due.started, due.finished, due.modified):
    assert abs(moment - now) < timedelta(seconds=60), (moment, now)
call_command("delete_old_jobs", hours=1, stdout=StringIO())
assert Job.objects.count() == 2
"""
    environment = {**os.environ, "DBQ_TEST_USE_TZ": use_tz, "DBQ_TEST_TIME_ZONE": zone}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
