"""Jobs for later: what parks them, what promotes them, and that nothing depends on either."""

import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone
from pytest_django import Settings

from django_dbq.backends import Backend, Wanted, backend_for
from django_dbq.backends.base import PROMOTED_AT_ONCE
from django_dbq.claims import Claim
from django_dbq.models import Job
from tests.django_dbq.backends.test_backends import claim, complete, in_threads

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture(params=["own", "portable"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The transitions of this database, and those of the ORM alone."""
    return backend_for("default") if request.param == "own" else Backend("default")


def in_hours(hours: float) -> datetime:
    return timezone.now() + hours * HOUR


def park(number: int = 1, *, due: timedelta = HOUR) -> list[Job]:
    """Create parked jobs, all due at the same time, which may have passed since."""
    time = timezone.now() + due
    jobs = [Job(name="noop", next_task="tests.tasks.noop", run_after=time) for _ in range(number)]
    Job.objects.bulk_create(jobs)
    # Who creates a job for a time that has passed does not park it.
    Job.objects.filter(pk__in=[job.pk for job in jobs]).update(parked=time)
    return jobs


def parked(job: Job) -> datetime | None:
    """Return until when the job is parked; ``claimable`` has to agree."""
    row = Job.objects.get(pk=job.pk)
    is_parked = row.parked is not None and row.parked == row.run_after
    assert row.claimable is (row.state in Job.WAITING and not is_parked)
    return row.parked


def sql(assignment: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE django_dbq_job SET {assignment}", values)


class TestPutAway:
    def test_is_a_job_that_is_created_for_later(self, backend: Backend) -> None:
        later = in_hours(1)
        job = Job.objects.create(name="noop", run_after=later)
        row = Job.objects.get()
        assert (job.parked, row.parked, row.run_after) == (later, later, later)
        assert row.claimable is False
        assert claim(backend) == []

    @pytest.mark.parametrize("how", ["bulk_create", "bulk_enqueue"])
    def test_is_each_of_many_that_is_for_later(self, backend: Backend, how: str) -> None:
        times = [in_hours(1), in_hours(-1), None, in_hours(2)]
        jobs = [Job(name="noop", next_task="tests.tasks.noop", run_after=time) for time in times]
        getattr(Job.objects, how)(jobs)
        assert [parked(job) for job in jobs] == [times[0], None, None, times[3]]
        assert {job for job, _ in claim(backend)} == {jobs[1], jobs[2]}

    def test_is_a_job_whose_outcome_says_later(self, backend: Backend) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(4))
        later, past = in_hours(1), in_hours(-1)
        ends = [("READY", later), ("NEW", later), ("READY", past), ("COMPLETE", later)]
        held = [claim for _, claim in claim(backend)]
        outcomes = []
        for one, (state, time) in zip(held, ends, strict=True):
            outcome = complete(one, run_after=time)
            outcomes.append(outcome._replace(row=outcome.row._replace(state=state)))
        assert backend.finish(outcomes) == []
        rows = [Job.objects.get(pk=one.job_id) for one in held]
        assert [row.parked for row in rows] == [later, later, None, None]
        assert [row.claimable for row in rows] == [False, False, True, False]
        assert [job for job, _ in claim(backend)] == [rows[2]]

    def test_is_no_job_that_is_due_or_does_not_wait(self) -> None:
        Job.objects.create(name="noop")
        Job.objects.create(name="noop", run_after=in_hours(-1))
        for state in (*Job.RUNNING, *Job.FINISHED):
            Job.objects.create(name="noop", state=state, run_after=in_hours(1))
        assert set(Job.objects.values_list("parked", flat=True)) == {None}
        assert Job.objects.filter(claimable=True).count() == 2

    def test_is_no_job_that_was_claimed(self, backend: Backend) -> None:
        [job] = park(due=-HOUR)
        assert backend.promote() == 0
        assert len(claim(backend)) == 1
        assert parked(job) is None

    def test_is_a_job_of_naive_times_too(self, settings: Settings) -> None:
        """Where USE_TZ is off; tests/django_dbq/test_clock.py has whole workers in such zones."""
        settings.USE_TZ = False
        later, past = datetime.now() + HOUR, datetime.now() - HOUR
        jobs = [Job.objects.create(name="noop", run_after=time) for time in (later, past)]
        assert [parked(job) for job in jobs] == [later, None]
        seconds = Backend("default").promote()
        assert seconds is not None
        assert 3500 < seconds <= 3600
        assert [job for job, _ in claim(backend_for("default"))] == [jobs[1]]


class TestPromote:
    def test_says_that_nothing_is_parked(self, backend: Backend) -> None:
        assert backend.promote() is None
        Job.objects.create(name="noop")
        assert backend.promote() is None

    def test_says_in_how_many_seconds_the_next_job_is_due(self, backend: Backend) -> None:
        for hours in (3, 1, 2):
            park(due=hours * HOUR)
        seconds = backend.promote()
        assert seconds is not None
        assert 3500 < seconds <= 3600
        assert Job.objects.filter(claimable=False).count() == 3

    def test_lets_claims_see_what_is_due(self, backend: Backend) -> None:
        [due], [later] = park(due=-HOUR), park(due=HOUR)
        assert claim(backend) == []
        assert backend.promote() == 0
        assert (parked(due), parked(later)) == (None, later.run_after)
        assert (backend.promote() or 0) > 3500
        assert [job for job, _ in claim(backend)] == [due]

    def test_takes_a_thousand_at_once_at_most_the_first_ones_first(self, backend: Backend) -> None:
        last = {job.pk for job in park(5, due=-HOUR)}
        park(PROMOTED_AT_ONCE, due=-2 * HOUR)
        assert backend.promote() == 0
        assert Job.objects.filter(claimable=True).count() == PROMOTED_AT_ONCE
        assert set(Job.objects.filter(claimable=False).values_list("pk", flat=True)) == last
        assert backend.promote() == 0
        assert Job.objects.filter(claimable=False).count() == 0
        assert backend.promote() is None


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="others cannot leave it out")
@pytest.mark.django_db(transaction=True)
class TestPromotionAndTheDisk:
    """What a crash undoes is promoted again: only the claim behind it has to wait for the disk."""

    def is_on_disk(self) -> bool:
        """Return whether the disk has all that was committed."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn()")
            return bool(cursor.fetchone()[0])

    def test_does_not_wait_for_it(self) -> None:
        backend, waited = backend_for("default"), list[bool]()
        while False not in waited:
            park(due=-HOUR)
            assert backend.promote() == 0
            waited.append(self.is_on_disk())
            assert len(waited) < 50

    @pytest.mark.parametrize("is_within", [True, False])
    def test_leaves_other_commits_as_they_are(self, is_within: bool) -> None:
        with transaction.atomic() if is_within else nullcontext():
            park(due=-HOUR)
            assert backend_for("default").promote() == 0
            with connection.cursor() as cursor:
                cursor.execute("SHOW synchronous_commit")
                assert cursor.fetchone() == ("on",)


class TestClaimThatPromotes:
    """In a transaction of its own, behind which a job for later waits for one commit alone."""

    @pytest.fixture
    def wanted(self) -> Wanted:
        return Wanted(["mail", "default"], ["noop"], 3, uuid.uuid4(), promoting=True)

    @pytest.mark.parametrize("how", ["claim", "exchange"])
    def test_finds_what_has_become_due(self, backend: Backend, wanted: Wanted, how: str) -> None:
        Job.objects.create(name="noop")
        [(_, held)] = claim(backend)
        [due], [later] = park(due=-HOUR), park(due=HOUR)
        if how == "claim":
            claimed: Sequence[Claim] = backend.claim(wanted)
        else:
            late, claimed = backend.exchange([complete(held)], wanted)
            assert late == []
        assert [each.job_id for each in claimed] == [due.pk]
        assert parked(later) == later.run_after

    def test_takes_no_more_than_it_wants(self, backend: Backend, wanted: Wanted) -> None:
        park(5, due=-HOUR)
        assert len(backend.claim(wanted)) == 3
        assert Job.objects.filter(claimable=True).count() == 2

    @pytest.mark.skipif("connection.vendor == 'postgresql'", reason="there it is two transactions")
    @pytest.mark.django_db(transaction=True)
    def test_is_one_transaction(
        self, backend: Backend, wanted: Wanted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> list[Claim]:
            assert parked(due) is None
            raise InterruptedError

        [due] = park(due=-HOUR)
        monkeypatch.setattr(type(backend), "_claim_queue", fail)
        with pytest.raises(InterruptedError):
            backend.claim(wanted)
        assert parked(due) == due.run_after


class TestChangedMeanwhile:
    """A parked job that others write: what they say counts, and not that it is parked."""

    @pytest.mark.parametrize("by", ["update", "sql", "save"])
    def test_to_a_time_that_has_come_is_claimed_at_once(self, backend: Backend, by: str) -> None:
        [job] = park()
        past = in_hours(-1)
        if by == "update":
            Job.objects.update(run_after=past)
        elif by == "sql":
            sql("run_after = %s", connection.ops.adapt_datetimefield_value(past))
        else:
            job.run_after = past
            job.save(update_fields=["run_after"])
        assert [job for job, _ in claim(backend)] == [job]
        assert parked(job) is None

    @pytest.mark.parametrize("by", ["update", "sql", "save", "save one field"])
    def test_to_no_time_at_all_is_claimed_at_once(self, backend: Backend, by: str) -> None:
        [job] = park()
        job.run_after = None
        if by == "update":
            Job.objects.update(run_after=None)
        elif by == "sql":
            sql("run_after = NULL")
        elif by == "save":
            job.save()
        else:
            job.save(update_fields=["run_after"])
        assert [job for job, _ in claim(backend)] == [job]

    @pytest.mark.parametrize("by", ["update", "save"])
    def test_to_a_later_time_is_not_claimed_before_that(self, backend: Backend, by: str) -> None:
        [job] = park(due=-HOUR)
        later = in_hours(1)
        if by == "update":
            Job.objects.update(run_after=later)
        else:
            job.run_after = later
            job.save()
        for _ in range(2):
            assert claim(backend) == []
            backend.promote()
        assert claim(backend) == []
        Job.objects.update(run_after=in_hours(-1))
        assert [job for job, _ in claim(backend)] == [job]

    def test_to_another_state_is_not_claimed(self, backend: Backend) -> None:
        [job] = park(due=-HOUR)
        Job.objects.update(state="COMPLETE")
        assert Job.get_queue_depths() == {}
        while backend.promote() == 0:
            pass
        assert claim(backend) == []
        job.refresh_from_db()
        assert (job.state, job.claimable) == ("COMPLETE", False)

    def test_and_back_waits_for_its_time(self, backend: Backend) -> None:
        [job] = park()
        Job.objects.update(state="FAILED")
        Job.objects.update(state="READY")
        assert claim(backend) == []
        assert parked(job) == job.run_after

    def test_from_running_to_ready_and_later_waits_without_being_parked(
        self, backend: Backend
    ) -> None:
        Job.objects.create(name="noop", state="PROCESSING")
        Job.objects.update(state="READY", run_after=in_hours(1))
        assert claim(backend) == []
        assert Job.get_queue_depths() == {"default": 1}
        Job.objects.update(run_after=in_hours(-1))
        assert len(claim(backend)) == 1

    def test_in_another_column_stays_parked(self, backend: Backend) -> None:
        [job] = park()
        job.priority = 5
        job.save()
        assert parked(job) == job.run_after
        assert claim(backend) == []

    def test_by_who_read_it_before_it_was_promoted_is_claimed(self, backend: Backend) -> None:
        [job] = park(due=-HOUR)
        old = Job.objects.get()
        assert backend.promote() == 0
        old.priority = 5
        old.save()
        assert [job for job, _ in claim(backend)] == [job]


def test_whether_a_job_is_claimable_is_never_unknown() -> None:
    """However its columns are written: what is NULL there is in no claim's index."""
    times = [None, in_hours(-1), in_hours(1), in_hours(2)]
    expected: Counter[bool] = Counter()
    for state, run_after, until in itertools.product(Job.STATES.values, times, times):
        job = Job.objects.create(name="noop", state=state)
        Job.objects.filter(pk=job.pk).update(run_after=run_after, parked=until)
        is_parked = until is not None and until == run_after
        is_claimable = state in Job.WAITING and not is_parked
        assert Job.objects.get(pk=job.pk).claimable is is_claimable
        expected[is_claimable] += 1
    assert Counter(Job.objects.values_list("claimable", flat=True)) == expected
    assert not Job.objects.filter(claimable__isnull=True).exists()


class TestQueueDepths:
    def test_count_what_is_parked(self) -> None:
        park(3)
        Job.objects.create(name="noop")
        Job.objects.create(name="noop", queue_name="mail", run_after=in_hours(1))
        assert Job.get_queue_depths() == {"default": 4, "mail": 1}
        assert Job.get_queue_depths(exclude_future_jobs=True) == {"default": 1}

    def test_count_as_due_what_only_waits_to_be_promoted(self) -> None:
        park(3, due=-HOUR)
        assert Job.get_queue_depths(exclude_future_jobs=True) == {"default": 3}


@pytest.mark.django_db(transaction=True)
def test_workers_that_promote_at_the_same_time_lose_and_double_no_job() -> None:
    jobs, [later] = park(400, due=-HOUR), park()
    claimed: list[uuid.UUID] = []

    def run(barrier: threading.Barrier) -> None:
        own = backend_for("default")
        barrier.wait()
        # Another's promotion may be under way: only a time to come says that all is promoted.
        while not (seconds := own.promote()) or seconds < 60 or len(claimed) < 400:
            claimed.extend(held.job_id for _, held in claim(own, limit=7))

    in_threads(4, run)
    assert Counter(claimed) == {job.pk: 1 for job in jobs}
    assert set(Job.objects.exclude(pk=later.pk).values_list("attempts", "parked")) == {(1, None)}
    assert parked(later) == later.run_after
