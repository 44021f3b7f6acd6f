"""Creating jobs, and asking about them."""

import pickle
import time
import uuid
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import django
import pytest
from django.db import IntegrityError, connection, models, transaction
from django.db.models import Value
from django.db.models.functions import Upper
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from django_dbq.errors import UnknownJob
from django_dbq.ids import uuid7
from django_dbq.models import Job
from django_dbq.tasks import get_next_task_name
from tests.routers import WritesElsewhere

pytestmark = pytest.mark.django_db


def test_create_sets_the_first_task_and_the_defaults() -> None:
    job = Job.objects.create(name="three")
    job.refresh_from_db()
    assert (job.state, job.next_task) == (Job.STATES.NEW, "tests.tasks.first")
    assert (job.workspace, job.priority, job.queue_name, job.run_after) == ({}, 0, "default", None)


def test_create_takes_everything_that_the_document_names() -> None:
    later = datetime(2100, 1, 1, tzinfo=UTC)
    job = Job.objects.create(
        name="noop", workspace={"key": 1}, priority=2, queue_name="other", run_after=later
    )
    job.refresh_from_db()
    assert (job.workspace, job.priority, job.queue_name) == ({"key": 1}, 2, "other")
    assert job.run_after == later


def test_an_entry_s_queue_and_priority_are_for_jobs_that_name_none(settings: Settings) -> None:
    settings.JOBS = {"job": {"tasks": ["tests.tasks.noop"], "queue": "mail", "priority": 5}}
    chosen: dict[str, Any] = {"queue_name": "default", "priority": 0}
    for create in (Job.objects.create, lambda **columns: bulk_enqueued(Job(**columns))):
        job = create(name="job")
        assert (job.queue_name, job.priority) == ("mail", 5)
        job = create(name="job", **chosen)
        assert (job.queue_name, job.priority) == ("default", 0)


def bulk_enqueued(job: Job) -> Job:
    [job] = Job.objects.bulk_enqueue([job])
    return job


def test_create_costs_one_insert(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        Job.objects.create(name="noop")


def engine_values(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in Job.ENGINE_COLUMNS}


@pytest.mark.parametrize(
    "create",
    [
        Job.objects.create,
        lambda name: bulk_enqueued(Job(name=name)),
        lambda name: Job.objects.bulk_create([Job(name=name)])[0],
    ],
)
def test_the_engine_s_columns_are_left_to_the_database(create: Callable[..., Job]) -> None:
    """Each that is named costs some 4% of an INSERT, most of it in Python."""
    with CaptureQueriesContext(connection) as queries:
        job = create(name="noop")
    [columns] = [query["sql"].partition(")")[0] for query in queries if "INSERT" in query["sql"]]
    assert [name for name in Job.ENGINE_COLUMNS if name in columns] == []
    assert engine_values(Job.objects.get()) == engine_values(job)


@pytest.mark.parametrize(
    "create",
    [
        Job.objects.create,
        lambda **columns: bulk_enqueued(Job(**columns)),
        lambda **columns: Job.objects.bulk_create([Job(**columns)])[0],
    ],
)
@pytest.mark.parametrize("hours", [None, -1, 1])
@pytest.mark.parametrize("state", Job.STATES.values)
def test_a_new_row_is_known_without_being_asked_for(
    create: Callable[..., Job], state: str, hours: int | None
) -> None:
    """RETURNING would be a part of the costs of an INSERT that can be measured."""
    run_after = hours and timezone.now() + timedelta(hours=hours)
    with CaptureQueriesContext(connection) as queries:
        job = create(name="noop", state=state, run_after=run_after)
        known = (engine_values(job), job.claimable)
    assert [query["sql"] for query in queries if "RETURNING" in query["sql"]] == []
    assert [query["sql"] for query in queries if "SELECT" in query["sql"]] == []
    stored = Job.objects.get()
    assert (engine_values(stored), stored.claimable) == known


@pytest.mark.parametrize("create", [Job.objects.bulk_create, Job.objects.bulk_enqueue])
def test_each_of_many_new_rows_is_known(create: Callable[..., list[Job]]) -> None:
    """Also where some INSERTs of a call ask for what is stored and others do not."""
    two: Any = Value(1) + Value(1)
    jobs = [Job(name="noop", losses=losses) for losses in (0, 5, two, 0)]
    create(jobs, batch_size=1)
    for job, losses in zip(jobs, (0, 5, 2, 0), strict=True):
        assert Job.objects.get(pk=job.pk).losses == losses
        if losses != 2 or connection.features.can_return_rows_from_bulk_insert:
            assert (job.losses, job.claimable) == (losses, True)


def test_a_new_job_can_be_pickled_and_copied() -> None:
    job = Job.objects.create(name="noop", workspace={"key": 1})
    for copied in (pickle.loads(pickle.dumps(job)), deepcopy(job)):
        assert (copied, copied.workspace, copied.claimable) == (job, {"key": 1}, True)


@pytest.mark.parametrize("losses", [0, 3, Value(1) + Value(1)])
def test_a_copy_does_not_take_over_what_the_database_found_for_the_other(losses: Any) -> None:
    job = Job.objects.create(name="noop", run_after=timezone.now() + timedelta(hours=1))
    assert job.claimable is False
    job.pk, job.run_after, job.losses, job._state.adding = uuid7(), None, losses, True
    job.save()
    assert job.claimable is True


def test_an_insert_stores_what_those_are_given() -> None:
    now, one = timezone.now(), uuid.uuid4()
    given: dict[str, Any] = {
        "claim_token": one, "worker": one, "attempts": 2, "losses": 1, "started": now,
        "finished": now, "error": "", "version": 3, "cancel_requested": now, "dedupe_key": "",
    }  # fmt: skip
    assert given.keys() == Job.ENGINE_COLUMNS.keys()
    # Past save(), which gives a new job its version.
    Job(name="noop", **given).save_base(force_insert=True)
    assert engine_values(Job.objects.get()) == given


def test_an_insert_lets_the_database_find_what_an_expression_comes_to() -> None:
    two: Any = Value(1) + Value(1)
    job = Job(name="noop", losses=two)
    job.save_base(force_insert=True)
    assert Job.objects.get().losses == 2
    if connection.features.can_return_columns_from_insert:
        assert job.losses == 2
    new: Any = Value("NEW")
    job = Job(name="noop", state=new)
    job.save_base(force_insert=True)
    assert job.claimable is True
    text: Any = "3"
    job = Job(name="noop", losses=text)
    job.save_base(force_insert=True)
    if connection.features.can_return_columns_from_insert:
        assert job.losses == 3
        job = Job(name="noop", priority=two)
        job.save_base(force_insert=True)
        # Older ones leave it at the expression.
        assert job.priority == 2 or django.VERSION < (6,)


def test_an_insert_that_turns_out_an_update_writes_what_it_does_not_name() -> None:
    job = Job.objects.create(name="noop")
    Job.objects.update(attempts=3, losses=2)
    unique: dict[str, Any] = {} if connection.vendor == "mysql" else {"unique_fields": ["id"]}
    new = Job(id=job.pk, name="noop")
    Job.objects.bulk_create([new], update_conflicts=True, update_fields=["attempts"], **unique)
    assert Job.objects.filter(attempts=0, losses=2).count() == 1
    if connection.features.can_return_rows_from_bulk_insert:
        assert (new.attempts, new.losses) == (0, 2)


def test_an_insert_that_fails_changes_nothing_on_the_job() -> None:
    two: Any = Value(1) + Value(1)
    job = Job.objects.create(name="noop", run_after=timezone.now() + timedelta(hours=1))
    job.losses, job._state.adding = two, True
    with pytest.raises(IntegrityError), transaction.atomic():
        job.save(force_insert=True)
    assert "claimable" not in job.get_deferred_fields()


def test_an_insert_that_may_not_happen_tells_nothing_of_the_row() -> None:
    job = Job.objects.create(name="noop", run_after=timezone.now() + timedelta(hours=1))
    Job.objects.update(run_after=None)
    assert job.claimable is False
    Job.objects.bulk_create([job], ignore_conflicts=True)
    assert job.claimable is True


@pytest.mark.django_db(transaction=True)
@isolate_apps("tests")
def test_a_model_that_is_derived_has_a_row_in_both_tables() -> None:
    class MailJob(Job):
        parent = models.OneToOneField(Job, on_delete=models.CASCADE, parent_link=True)
        number = models.BigAutoField(primary_key=True)
        to = models.CharField(max_length=20)
        copies = models.IntegerField(db_default=Value(1) + Value(1))
        subject = models.GeneratedField(
            expression=Upper("to"), output_field=models.CharField(max_length=20), db_persist=True
        )

        class Meta:
            app_label = "tests"

    with connection.schema_editor() as editor:
        editor.create_model(MailJob)
    jobs: Any = MailJob.objects
    try:
        job = jobs.create(name="noop", to="you")
        assert "claimable" not in job.get_deferred_fields()
        assert (job.to, job.copies, job.subject) == ("you", 2, "YOU")
        assert jobs.get().number == job.number
        assert Job.objects.get().next_task == job.next_task == "tests.tasks.noop"
        jobs.all().delete()
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(MailJob)


def test_an_insert_stores_what_one_of_many_is_given() -> None:
    jobs = [Job(name="noop", attempts=attempts) for attempts in (0, 2, 0)]
    Job.objects.bulk_create(jobs)
    assert [Job.objects.get(pk=job.pk).attempts for job in jobs] == [0, 2, 0]


def test_an_unknown_name_is_an_error_and_no_row() -> None:
    with pytest.raises(UnknownJob, match="Known jobs: .*noop"):
        Job.objects.create(name="nope")
    with pytest.raises(UnknownJob):
        Job.objects.bulk_enqueue([Job(name="noop"), Job(name="nope")])
    assert not Job.objects.exists()


def test_a_queue_name_that_does_not_fit_is_an_error_and_no_row() -> None:
    with pytest.raises(ValueError, match="300 characters; 255 are allowed"):
        Job.objects.create(name="noop", queue_name="q" * 300)
    assert not Job.objects.exists()


@pytest.mark.parametrize("priority", [2**15, -(2**15) - 1])
def test_a_priority_that_does_not_fit_is_an_error_and_no_row(priority: int) -> None:
    with pytest.raises(ValueError, match="is not from -32768 to 32767"):
        Job.objects.create(name="noop", priority=priority)
    with pytest.raises(ValueError, match="is not from -32768 to 32767"):
        Job.objects.bulk_enqueue([Job(name="noop", priority=priority)])
    assert not Job.objects.exists()


def test_states_are_named_as_in_the_document() -> None:
    assert {str(state) for state in Job.STATES} == {
        "NEW", "READY", "PROCESSING", "STOPPING", "COMPLETE", "FAILED",
    }  # fmt: skip
    assert Job.STATES.COMPLETE == "COMPLETE"


class TestCreationHook:
    def test_runs_once_with_the_row_in_place_and_its_changes_are_saved(
        self, events: list[str]
    ) -> None:
        job = Job.objects.create(name="hooked")
        assert events == ["creation_hook True 1"]
        assert Job.objects.get(pk=job.pk).workspace == {"created_by": "hook"}
        job.priority = 3
        job.save()
        assert len(events) == 1

    def test_may_change_every_column(self, settings: Settings) -> None:
        settings.JOBS = {
            "job": {
                "tasks": ["tests.tasks.noop", "tests.tasks.third"],
                "creation_hook": "tests.tasks.edit_everything_at_creation",
            }
        }
        created = Job.objects.create(name="job")
        bulk = Job.objects.bulk_enqueue([Job(name="job")])[0]
        for job in (created, bulk):
            row = Job.objects.get(pk=job.pk)
            assert (row.workspace, row.priority) == ({"edited": True}, 7)
            assert (row.queue_name, row.next_task) == ("elsewhere", "tests.tasks.third")
            assert row.run_after == job.run_after is not None
            assert row.state == Job.STATES.READY

    def test_what_it_raises_reaches_the_caller_and_leaves_no_row(self, settings: Settings) -> None:
        settings.JOBS = {
            "job": {
                "tasks": ["tests.tasks.noop"],
                "creation_hook": "tests.tasks.failing_creation_hook",
            }
        }
        with pytest.raises(LookupError, match="the creation hook failed"):
            Job.objects.create(name="job")
        with pytest.raises(LookupError, match="the creation hook failed"):
            Job.objects.bulk_enqueue([Job(name="job")])
        assert not Job.objects.exists()

    def test_that_makes_the_workspace_unstorable_leaves_no_row(self, settings: Settings) -> None:
        settings.JOBS = {
            "job": {"tasks": ["tests.tasks.noop"], "creation_hook": "tests.tasks.write_nan"}
        }
        with pytest.raises(ValueError, match="nan"):
            Job.objects.create(name="job")
        assert not Job.objects.exists()

    def test_runs_for_each_job_of_bulk_enqueue(self, events: list[str]) -> None:
        Job.objects.bulk_enqueue([Job(name="hooked"), Job(name="hooked")])
        assert len(events) == 2
        assert [job.workspace for job in Job.objects.all()] == [{"created_by": "hook"}] * 2

    def test_does_not_run_for_bulk_create(self, events: list[str]) -> None:
        Job.objects.bulk_create([Job(name="hooked", next_task=get_next_task_name("hooked") or "")])
        assert events == []


class TestBulkEnqueue:
    def test_returns_the_jobs_with_their_first_task(self) -> None:
        jobs = Job.objects.bulk_enqueue(
            Job(name="three", workspace={"i": i}, priority=i) for i in range(3)
        )
        assert [job.next_task for job in jobs] == ["tests.tasks.first"] * 3
        assert {job.pk for job in jobs} == set(Job.objects.values_list("pk", flat=True))

    def test_is_one_statement_per_batch(
        self, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        # Beside the savepoint around them; SQLite takes fewer parameters in a statement.
        inserts = 90 if connection.vendor == "sqlite" else 4
        with django_assert_max_num_queries(inserts + 2):
            Job.objects.bulk_enqueue(Job(name="noop") for _ in range(4000))
        assert Job.objects.count() == 4000

    @pytest.mark.django_db(databases=["default", "other"])
    def test_asks_the_routers_where_to_write(self, settings: Settings) -> None:
        settings.DATABASE_ROUTERS = [WritesElsewhere()]
        Job.objects.bulk_enqueue([Job(name="hooked")])
        assert Job.objects.using("other").get().workspace == {"created_by": "hook"}
        assert not Job.objects.using("default").exists()

    def test_of_nothing_is_nothing(self) -> None:
        assert Job.objects.bulk_enqueue([]) == []


class TestQueueDepths:
    def test_count_what_waits_in_each_queue(self) -> None:
        for state in Job.STATES:
            Job.objects.create(name="noop", state=state)
        Job.objects.create(name="noop", queue_name="other")
        Job.objects.create(name="noop", queue_name="done", state=Job.STATES.COMPLETE)
        assert Job.get_queue_depths() == {"default": 2, "other": 1}

    def test_may_leave_out_what_is_scheduled_for_later(self) -> None:
        Job.objects.create(name="noop", run_after=timezone.now() + timedelta(minutes=10))
        Job.objects.create(name="noop", run_after=timezone.now() - timedelta(minutes=10))
        Job.objects.create(name="noop", queue_name="b", run_after=timezone.now() + timedelta(1))
        assert Job.get_queue_depths() == {"default": 2, "b": 1}
        assert Job.get_queue_depths(exclude_future_jobs=True) == {"default": 1}


def test_rolled_back_means_never_existed() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Job.objects.create(name="hooked")
        raise ZeroDivisionError
    assert not Job.objects.exists()


def test_the_database_derives_waiting_from_the_state_however_that_is_written() -> None:
    job = Job.objects.create(name="noop", state=Job.STATES.COMPLETE)
    assert not Job.objects.waiting().exists()
    Job.objects.update(state="READY")
    assert Job.objects.waiting().get() == job
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_dbq_job SET state = 'PROCESSING'")
    assert not Job.objects.waiting().exists()


def test_save_never_overwrites_what_is_the_engines() -> None:
    job = Job.objects.create(name="noop")
    token = uuid.uuid4()
    Job.objects.update(claim_token=token, attempts=3, error="e")
    job.priority = 4
    job.save()
    job.refresh_from_db()
    assert (job.priority, job.claim_token, job.attempts, job.error) == (4, token, 3, "e")


def test_ids_of_version_7_sort_by_their_time() -> None:
    ids = []
    for _ in range(5):
        ids.append(uuid7())
        time.sleep(0.001)
    assert ids == sorted(ids)
    assert {(value.version, value.variant) for value in ids} == {(7, uuid.RFC_4122)}
    assert len({uuid7() for _ in range(10_000)}) == 10_000
