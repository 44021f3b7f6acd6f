"""Each transition, on the backend of the database and on the portable one that defines it."""

import copy
import json
import pickle
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.models.base import ModelState
from django.db.models.signals import post_save
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from django_dbq.backends import Backend, Wanted, backend_for, postgresql, sql, sqlite, statements
from django_dbq.backends.outcomes import alike
from django_dbq.claims import Claim, JobValues, Outcome
from django_dbq.execution import release
from django_dbq.models import Job
from django_dbq.workspace import decode_workspace

WORKER = uuid.uuid4()
#: What a claimed job has as a rule.
USUAL: dict[str, Any] = {
    "workspace": {}, "priority": 0, "run_after": None, "attempts": 1, "losses": 0,
    "error": None, "version": 1, "cancel_requested": None, "dedupe_key": None,
}  # fmt: skip


@pytest.fixture(params=["own", "portable"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The transitions of this database, and those of the ORM alone."""
    return backend_for("default") if request.param == "own" else Backend("default")


def claim(
    backend: Backend, limit: int = 10, queues: Sequence[str] = ("default",)
) -> list[tuple[Job, Claim]]:
    return claim_wanted(backend, Wanted(queues, ["noop", "three"], limit, WORKER))


def claim_wanted(backend: Backend, wanted: Wanted) -> list[tuple[Job, Claim]]:
    return [(claim.job(), claim) for claim in backend.claim(wanted)]


def complete(claim: Claim, **changes: Any) -> Outcome:
    row = claim.row._replace(state="COMPLETE", next_task="", **changes)
    return Outcome(claim=claim, row=row, attempts=claim.attempts, edited=bool(changes))


@pytest.mark.django_db
class TestClaim:
    def test_makes_the_job_processing_under_a_token(self, backend: Backend) -> None:
        created = Job.objects.create(name="noop", workspace={"a": 1})
        [(job, held)] = claim(backend)
        row = Job.objects.get()
        assert job.pk == created.pk == held.job_id
        assert (row.state, row.claim_token, row.worker) == ("PROCESSING", held.token, WORKER)
        assert (row.attempts, held.attempts) == (1, 1)
        assert row.started is not None
        assert abs(row.started - timezone.now()) < timedelta(seconds=60)
        assert (job.state, job.workspace, job.held_claim) == ("PROCESSING", {"a": 1}, held)
        assert job._state.db == "default"
        assert not job._state.adding

    def test_takes_the_first_by_priority_then_creation(self, backend: Backend) -> None:
        jobs = [Job.objects.create(name="noop", priority=p) for p in (0, 5, -5, 5, 0)]
        order = [jobs[1], jobs[3], jobs[0], jobs[4], jobs[2]]
        assert [job for job, _ in claim(backend, limit=2)] == order[:2]
        assert [job for job, _ in claim(backend, limit=10)] == order[2:]
        assert claim(backend) == []

    def test_takes_a_fresh_token_each_time(self, backend: Backend) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(3))
        tokens = {held.token for _ in range(3) for _, held in claim(backend, limit=1)}
        assert len(tokens) == 3

    @pytest.mark.parametrize("other", ["a", ""])
    def test_fills_up_from_the_following_queues(self, backend: Backend, other: str) -> None:
        for queue in ("b", other, "b", other, "c"):
            Job.objects.create(name="noop", queue_name=queue)
        claimed = claim(backend, limit=3, queues=["b", other])
        assert [job.queue_name for job, _ in claimed] == ["b", "b", other]
        assert [held.row.queue_name for _, held in claimed] == ["b", "b", other]

    def test_leaves_alone_what_it_may_not_have(self, backend: Backend) -> None:
        Job.objects.create(name="hooked")
        Job.objects.create(name="noop", queue_name="other")
        Job.objects.create(name="noop", run_after=timezone.now() + timedelta(seconds=30))
        for state in ("PROCESSING", "STOPPING", "COMPLETE", "FAILED"):
            Job.objects.create(name="noop", state=state)
        before = list(Job.objects.order_by("pk").values())
        assert claim(backend) == []
        assert list(Job.objects.order_by("pk").values()) == before

    def test_takes_what_is_due(self, backend: Backend) -> None:
        Job.objects.create(name="noop", run_after=timezone.now() - timedelta(seconds=1))
        assert len(claim(backend)) == 1

    def test_that_knows_no_names_takes_nothing(self, backend: Backend) -> None:
        Job.objects.create(name="noop")
        assert backend.claim(Wanted(["default"], [], 1, WORKER)) == []

    def test_takes_names_with_any_character_in_them(self, backend: Backend) -> None:
        Job.objects.create(name="noop")
        Job.objects.update(name="%s \"'{},\\é", queue_name="%s'\"")
        claimed = backend.claim(Wanted(["%s'\""], ["%s \"'{},\\é"], 1, WORKER))
        assert len(claimed) == 1

    def test_runs_a_row_inserted_with_only_the_documents_columns(self, backend: Backend) -> None:
        identifier = uuid.uuid4()
        native = connection.features.has_native_uuid_field
        now = connection.ops.adapt_datetimefield_value(timezone.now())
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_dbq_job (id, created, modified, name, state, next_task,"
                " workspace, queue_name, priority, run_after)"
                " VALUES (%s, %s, %s, 'noop', 'NEW', '', '{}', 'default', 0, NULL)",
                [str(identifier) if native else identifier.hex, now, now],
            )
        [(job, held)] = claim(backend)
        assert job.pk == identifier
        assert backend.finish([complete(held)]) == []

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("workspace", {"a": 1}),
            ("workspace", []),
            ("priority", 3),
            ("priority", -3),
            ("run_after", datetime(2020, 2, 3, 4, 5, 6, 789, tzinfo=UTC)),
            ("attempts", 4),
            ("losses", 2),
            ("error", "it failed"),
            ("version", 2),
            ("cancel_requested", datetime(2021, 2, 3, 4, 5, 6, 789, tzinfo=UTC)),
            ("dedupe_key", "once"),
        ],
    )
    def test_tells_whatever_is_not_as_in_most_jobs(
        self, backend: Backend, column: str, value: Any
    ) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(3))
        other = Job.objects.order_by("created")[1]
        Job.objects.filter(pk=other.pk).update(**{column: value})
        claimed = claim(backend, limit=3)
        assert len(claimed) == 3
        for job, held in claimed:
            stored = Job.objects.get(pk=job.pk)
            for field in Job._meta.concrete_fields:
                assert getattr(job, field.attname) == getattr(stored, field.attname), field.name
            assert (job.pk == other.pk) == (getattr(stored, column) != USUAL[column])
            assert held.attempts == stored.attempts
            assert held.losses == stored.losses
            assert held.row.priority == stored.priority
            assert held.row.version == stored.version
            assert decode_workspace(held.row.workspace) == stored.workspace

    def test_calls_overridden_constructors(self, backend: Backend) -> None:
        from django.db.models.signals import post_init

        Job.objects.create(name="noop")
        seen: list[Job] = []

        def receive(instance: Job, **_: object) -> None:
            seen.append(instance)

        post_init.connect(receive, sender=Job)
        try:
            [(job, _)] = claim(backend)
        finally:
            post_init.disconnect(receive, sender=Job)
        assert job in seen


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite's one document")
def test_a_claim_that_is_too_long_for_one_document_is_read_in_rows() -> None:
    Job.objects.bulk_enqueue(Job(name="noop", workspace={"text": "x" * 500}) for _ in range(100))
    raw = connection.connection
    limit = raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
    try:
        claimed = claim(backend_for("default"), limit=100)
    finally:
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    assert {len(job.workspace["text"]) for job, _ in claimed} == {500}
    assert len({job.pk for job, _ in claimed}) == 100


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="the others refuse such values")
@pytest.mark.parametrize(
    "odd",
    [
        "id = substr(id, 1, 8) || '-' || substr(id, 9, 4) || '-' || substr(id, 13)",
        "workspace = X'22FF22'",
        "error = X'FF'",
        "dedupe_key = X'FF'",
        "losses = X'00'",
        "losses = 9e999",
        "attempts = 9e999",
        "priority = 'high'",
        "workspace = ' null '",
    ],
)
def test_a_row_that_is_not_in_order_keeps_no_other_from_being_claimed(odd: str) -> None:
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(3))
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA ignore_check_constraints = ON")
        cursor.execute(
            f"UPDATE django_dbq_job SET {odd}"
            " WHERE id = (SELECT id FROM django_dbq_job ORDER BY id LIMIT 1)"
        )
        cursor.execute("PRAGMA ignore_check_constraints = OFF")
    assert len(backend_for("default").claim(Wanted(["default"], ["noop"], 9, WORKER))) == 3


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="the others have a type for times")
@pytest.mark.parametrize("zone", [UTC, ZoneInfo("Europe/Rome"), None])
@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-27 12:30:01.000123", datetime(2026, 11, 27, 12, 30, 1, 123)),
        ("2026-11-27 12:30:01", datetime(2026, 11, 27, 12, 30, 1)),
        ("2026-11-27T12:30", datetime(2026, 11, 27, 12, 30)),
        ("2026-11-27", datetime(2026, 11, 27)),
        ("2026-11-27 12:30:01+02:00", datetime(2026, 11, 27, 10, 30, 1, tzinfo=UTC)),
        ("yesterday", None),
        ("2026-11-27 12:30:01+020000", datetime(2026, 11, 27, 10, 30, 1, tzinfo=UTC)),
        ("2026-11-27 12:30:01x", None),
        ("2026-11-27 12:30:01.", None),
        ("2026-11-27 12:30:01.00012", datetime(2026, 11, 27, 12, 30, 1, 120)),
    ],
)
def test_a_claim_reads_times_as_they_are_stored(
    text: str, time: datetime | None, zone: tzinfo | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Job.objects.create(name="noop")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_dbq_job SET created = %s", [text])
    monkeypatch.setitem(vars(connections["default"]), "timezone", zone)
    [(job, held)] = claim(backend_for("default"))
    expected = held.started if time is None else time
    assert job.created == (expected if expected.tzinfo else expected.replace(tzinfo=zone))


@pytest.fixture(params=["database", "project", "naive"])
def far_zone(request: pytest.FixtureRequest, settings: Any) -> Iterator[None]:
    """A zone for the database alone, for the whole project, or for times without any."""
    zone, named = "America/Caracas", vars(connections["default"])
    if request.param == "database":
        connection.settings_dict["TIME_ZONE"] = zone
    else:
        settings.TIME_ZONE, settings.USE_TZ = zone, request.param == "project"
    connection.close()
    for cached in ("timezone", "timezone_name"):
        named.pop(cached, None)
    yield
    connection.settings_dict["TIME_ZONE"] = None
    connection.close()
    for cached in ("timezone", "timezone_name"):
        named.pop(cached, None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("far_zone")
def test_a_claimed_job_is_its_row(backend: Backend) -> None:
    Job.objects.create(name="noop", run_after=timezone.now() - timedelta(hours=1))
    [(job, held)] = claim(backend)
    row = Job.objects.get()
    for field in Job._meta.concrete_fields:
        assert getattr(job, field.attname) == getattr(row, field.attname), field
    assert row.started is not None
    assert abs(held.started - row.started) < timedelta(seconds=60)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("far_zone")
def test_one_of_those_that_ended_was_late(backend: Backend) -> None:
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(2))
    outcomes = [complete(held) for _, held in claim(backend)]
    Job.objects.filter(pk=outcomes[1].claim.job_id).delete()
    assert backend.finish(outcomes) == outcomes[1:]


@pytest.mark.parametrize(("zone", "fold"), [("America/New_York", 1), (None, 1)])
def test_an_hour_that_comes_twice_is_told_apart(zone: str | None, fold: int, settings: Any) -> None:
    settings.TIME_ZONE = "America/New_York"
    connection: Any = SimpleNamespace(timezone=zone and ZoneInfo(zone))
    sent = int(datetime(2026, 11, 1, 6, 30, tzinfo=UTC).timestamp()) - 946_684_800
    time = postgresql._Times(connection)[(sent * 1_000_000).to_bytes(8)]
    assert time.replace(tzinfo=None, fold=0) == datetime(2026, 11, 1, 1, 30)
    assert (time.tzinfo, time.fold) == (connection.timezone, fold)


def test_outcomes_that_are_alike_are_found_whatever_their_order() -> None:
    one, two = uuid.uuid4(), uuid.uuid4()
    row = JobValues("COMPLETE", "", "{}", 0, None, "default", 1)
    outcomes = [
        Outcome(
            Claim(uuid.uuid4(), "noop", token, timezone.now(), 1, 0, False, None, row, Job), row, 1
        )
        for token in (one, one, two, one, two)
    ]
    groups, others = alike(outcomes)
    assert others == []
    assert groups == [
        [outcomes[0], outcomes[1], outcomes[3]],
        [outcomes[2], outcomes[4]],
    ]


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite's two statements")
def test_a_claim_that_cannot_be_read_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job.objects.create(name="noop")
    backend = backend_for("default")

    def fail(parameters: object) -> list[list[Any]]:
        raise OperationalError("disk I/O error")

    monkeypatch.setattr(backend, "_claimed", fail)
    with pytest.raises(OperationalError):
        claim(backend)
    job.refresh_from_db()
    assert (job.state, job.claim_token, job.attempts) == ("NEW", None, 0)


@pytest.mark.django_db
class TestUnreadWorkspaces:
    """The workspace of a claimed job is decoded when somebody asks for it, and not before."""

    @pytest.fixture
    def job(self) -> Job:
        Job.objects.create(name="noop", workspace={"a": 1})
        [(job, _)] = claim(backend_for("default"))
        assert "workspace" not in vars(job)
        return job

    def test_are_no_deferred_columns(
        self, job: Job, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        assert job.get_deferred_fields() == set()
        with django_assert_num_queries(0):
            assert job.workspace == {"a": 1}
            assert job.workspace is job.workspace
        assert job.unread_workspace is None

    def test_are_read_anew_with_the_rest_of_the_row(self, job: Job) -> None:
        Job.objects.update(workspace={"a": 2})
        job.refresh_from_db()
        assert job.workspace == {"a": 2}

    def test_are_saved_like_any_column(self, job: Job) -> None:
        Job.objects.update(workspace={"a": 2})
        seen: list[object] = []

        def receive(update_fields: object, **_: object) -> None:
            seen.append(update_fields)

        post_save.connect(receive, sender=Job)
        try:
            job.save()
        finally:
            post_save.disconnect(receive, sender=Job)
        assert seen == [None]
        assert Job.objects.get().workspace == {"a": 1}

    def test_are_one_for_all_threads(self, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
        barrier = threading.Barrier(4)

        def decode(text: str) -> Any:
            barrier.wait(10)
            return json.loads(text)

        monkeypatch.setattr("django_dbq.workspace.decode_workspace", decode)

        def add(key: str) -> None:
            job.workspace[key] = 1

        threads = [threading.Thread(target=add, args=[key]) for key in "bcde"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert job.workspace == dict.fromkeys("abcde", 1)

    def test_are_nothing_that_a_model_of_a_migration_has(self) -> None:
        """It has the field, and none of our methods."""
        Job.objects.create(name="noop", workspace={"a": 1})
        state = MigrationLoader(connection).project_state()
        historical: Any = state.apps.get_model("django_dbq", "Job")
        assert historical.objects.only("name").get().workspace == {"a": 1}

    @pytest.mark.parametrize("copied", [copy.copy, lambda job: pickle.loads(pickle.dumps(job))])
    def test_are_there_in_a_copy(self, job: Job, copied: Callable[[Job], Job]) -> None:
        copy_of = copied(job)
        assert copy_of.workspace == {"a": 1}
        state: Any = copy_of._state
        assert (type(state), state.db, state.adding) == (ModelState, "default", False)

    def test_can_be_replaced(self, job: Job) -> None:
        job.workspace = {"b": 1}
        assert job.workspace == {"b": 1}
        assert job.unread_workspace is None


@pytest.mark.django_db
class TestFinish:
    def test_ends_the_claim(self, backend: Backend) -> None:
        Job.objects.create(name="noop", workspace={"a": 1})
        [(_, held)] = claim(backend)
        assert backend.finish([complete(held)]) == []
        row = Job.objects.get()
        assert (row.state, row.next_task, row.claim_token) == ("COMPLETE", "", None)
        assert (row.workspace, row.attempts, row.error) == ({"a": 1}, 1, None)
        assert row.finished is not None
        assert row.started is not None
        assert row.finished >= row.started

    def test_writes_what_was_edited(self, backend: Backend) -> None:
        Job.objects.create(name="noop")
        [(_, held)] = claim(backend)
        later = timezone.now() + timedelta(days=1)
        backend.finish(
            [
                complete(
                    held,
                    workspace='{"a": [1, "\\u00e9", null]}',
                    priority=-3,
                    run_after=later,
                    queue_name="other",
                )
            ]
        )
        row = Job.objects.get()
        assert row.workspace == {"a": [1, "é", None]}
        assert (row.priority, row.queue_name, row.run_after) == (-3, "other", later)

    def test_leaves_alone_what_was_not_edited_and_others_changed(self, backend: Backend) -> None:
        Job.objects.create(name="noop")
        [(_, held)] = claim(backend)
        Job.objects.update(workspace={"by": "another"}, priority=3)
        assert backend.finish([complete(held)]) == []
        row = Job.objects.get()
        assert (row.state, row.workspace, row.priority) == ("COMPLETE", {"by": "another"}, 3)

    def test_writes_each_outcome_to_its_own_job(self, backend: Backend) -> None:
        Job.objects.bulk_enqueue(Job(name="three", workspace={"i": i}) for i in range(4))
        held = [claim for _, claim in claim(backend)]
        failed = Outcome(
            claim=held[1],
            row=held[1].row._replace(state="FAILED"),
            attempts=1,
            error="it %s 'broke'",
        )
        ready = Outcome(
            claim=held[2],
            row=held[2].row._replace(state="READY", next_task="tests.tasks.second"),
            attempts=0,
        )
        edited = complete(held[3], workspace='{"i": "three"}')
        assert backend.finish([complete(held[0]), failed, ready, edited]) == []
        rows = {job.pk: job for job in Job.objects.all()}
        of = [rows[claim.job_id] for claim in held]
        assert [job.state for job in of] == ["COMPLETE", "FAILED", "READY", "COMPLETE"]
        assert [job.error for job in of] == [None, "it %s 'broke'", None, None]
        assert [job.workspace["i"] for job in of] == [0, 1, 2, "three"]
        assert [job.attempts for job in of] == [1, 1, 0, 1]
        assert [job.finished is None for job in of] == [False, False, True, False]
        assert of[2].next_task == "tests.tasks.second"

    def test_writes_many_that_differ_in_their_workspaces(self, backend: Backend) -> None:
        """Among them one that is lost, one to be cancelled, and one whose priority differs too."""
        Job.objects.bulk_enqueue(Job(name="three", workspace={"i": i}) for i in range(6))
        held = [claim for _, claim in claim(backend)]
        Job.objects.filter(pk=held[1].job_id).update(claim_token=uuid.uuid4())
        Job.objects.filter(pk=held[2].job_id).update(cancel_requested=timezone.now())
        later = timezone.now() + timedelta(days=1)
        outcomes = [
            Outcome(
                claim=claim,
                row=claim.row._replace(
                    state="READY",
                    next_task="tests.tasks.second",
                    workspace=f'{{"i": {10 * i}, "text": "\\u00e9 \\"{{"}}',
                    run_after=later,
                    priority=7 if i == 3 else 0,
                ),
                attempts=0,
                edited=True,
            )
            for i, claim in enumerate(held)
        ]
        assert backend.finish(outcomes) == [outcomes[1]]
        rows = {job.pk: job for job in Job.objects.all()}
        of = [rows[claim.job_id] for claim in held]
        assert [job.workspace["i"] for job in of] == [0, 1, 20, 30, 40, 50]
        assert of[0].workspace["text"] == 'é "{'
        assert [job.state for job in of] == ["READY", "PROCESSING", *4 * ["READY"]]
        assert [job.run_after for job in of] == [later, None, None, *3 * [later]]
        assert [job.parked for job in of] == [job.run_after for job in of]
        assert [job.priority for job in of] == [0, 0, 0, 7, 0, 0]

    def test_changes_nothing_that_is_no_longer_ours(self, backend: Backend) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(3))
        held = [claim for _, claim in claim(backend)]
        # Given to another worker; set back by hand; deleted.
        Job.objects.filter(pk=held[0].job_id).update(claim_token=uuid.uuid4())
        Job.objects.filter(pk=held[1].job_id).update(state="READY")
        Job.objects.filter(pk=held[2].job_id).delete()
        before = list(Job.objects.order_by("pk").values())
        outcomes = [complete(claim, workspace='{"late": true}') for claim in held]
        assert backend.finish(outcomes) == outcomes
        assert list(Job.objects.order_by("pk").values()) == before

    @pytest.mark.parametrize("changes", [{}, {"workspace": "[1]"}], ids=["plain", "edited"])
    def test_tells_which_of_many_were_late(self, backend: Backend, changes: Any) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(7))
        held = [claim for _, claim in claim(backend)]
        rows = [Job.objects.filter(pk=each.job_id) for each in held]
        rows[1].delete()
        rows[2].update(state="COMPLETE")  # by hand
        for again in (3, 4):  # another worker has, and has had it
            rows[again].update(state="READY", claim_token=None)
        [(_, other), _] = claim(backend)
        assert backend.finish([complete(other)]) == []
        rows[5].update(state="READY", claim_token=None)  # a rescue
        outcomes = [complete(each, **changes) for each in held]

        assert backend.finish(outcomes) == outcomes[1:6]
        assert [row.get().state for row in (rows[0], rows[6])] == ["COMPLETE", "COMPLETE"]

    def test_tells_which_were_late_of_a_claim_in_two_parts(self, backend: Backend) -> None:
        Job.objects.bulk_enqueue(Job(name="three") for _ in range(4))
        held = [claim for _, claim in claim(backend, limit=2)]
        ready = [
            Outcome(
                claim=each,
                row=each.row._replace(state="READY", next_task="tests.tasks.second"),
                attempts=0,
            )
            for each in held
        ]
        late, claimed = backend.exchange(ready, Wanted(["default"], ["three"], 4, WORKER))
        assert (late, len(claimed)) == ([], 4)
        Job.objects.filter(pk=claimed[1].job_id).delete()
        outcomes = [complete(each) for each in claimed]
        assert backend.finish(outcomes) == outcomes[1:2]

    def test_tells_that_one_was_rescued_and_ended_by_hand(self, backend: Backend) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(3))
        outcomes = [complete(held) for _, held in claim(backend)]
        late = [Job.objects.filter(pk=each.claim.job_id) for each in outcomes[1:]]
        late[0].update(state="READY", claim_token=None, losses=1)
        late[0].update(state="COMPLETE", finished=timezone.now())
        late[1].update(state="READY", claim_token=None)
        late[1].update(state="COMPLETE")
        assert backend.finish(outcomes) == outcomes[1:]

    def test_of_nothing_is_nothing(self, backend: Backend) -> None:
        assert backend.finish([]) == []

    def test_is_accepted_once(self, backend: Backend) -> None:
        Job.objects.create(name="noop")
        [(_, held)] = claim(backend)
        outcome = complete(held)
        assert backend.finish([outcome]) == []
        assert backend.finish([outcome]) == [outcome]

    def test_of_a_released_claim_leaves_the_job_as_it_was(self, backend: Backend) -> None:
        Job.objects.create(name="three", workspace={"a": 1})
        Job.objects.create(name="three", state="READY", next_task="tests.tasks.second")
        Job.objects.create(name="noop", state="READY", attempts=2, error="ValueError: once more")
        columns = ("pk", "state", "next_task", "workspace", "attempts", "error", "claim_token")
        before = list(Job.objects.order_by("pk").values(*columns))
        for job, held in claim(backend):
            job.workspace["touched"] = True
            assert backend.finish([release(held)]) == []
        assert list(Job.objects.order_by("pk").values(*columns)) == before


@pytest.mark.django_db
class TestStatements:
    """How many PostgreSQL gets for the outcomes of a batch."""

    def edited(self, workspaces: Sequence[str], **changes: Callable[[int], Any]) -> list[Outcome]:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in workspaces)
        held = [claim for _, claim in claim(backend_for("default"))]
        return [
            complete(
                claim,
                workspace=workspace,
                **{name: change(number) for name, change in changes.items()},
            )
            for number, (claim, workspace) in enumerate(zip(held, workspaces, strict=True))
        ]

    def test_is_one_if_they_differ_in_their_workspaces(self) -> None:
        [statement] = statements.finish(self.edited(["1", "2", "3"]))
        assert statement.text is sql.FINISH_EDITED

    def test_is_one_if_they_differ_in_more(self) -> None:
        [statement] = statements.finish(self.edited(["1", "2", "3"], priority=lambda i: i))
        assert statement.text is sql.FINISH

    @pytest.mark.parametrize("priority", [lambda i: 0, lambda i: i])
    def test_are_more_if_the_workspaces_are_large(
        self, monkeypatch: pytest.MonkeyPatch, priority: Callable[[int], int]
    ) -> None:
        monkeypatch.setattr(statements, "LARGEST_DOCUMENT", 25)
        outcomes = self.edited(5 * ["1234567890"], priority=priority)
        assert len(statements.finish(outcomes)) == 3


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite's one document")
def test_workspaces_that_differ_are_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backend_for("default")
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(3))
    held = [claim for _, claim in claim(backend)]
    monkeypatch.setattr(backend, "_finish_one", None)

    late = backend.finish([complete(each, workspace=f"[{i}]") for i, each in enumerate(held)])

    assert late == []
    assert [job.workspace for job in Job.objects.order_by("created")] == [[0], [1], [2]]


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite's one document")
@pytest.mark.parametrize(
    ("name", "value"), [("sqlite_version_info", (3, 32, 9)), ("LARGEST_DOCUMENT", 5)]
)
def test_workspaces_that_differ_are_written_singly_where_they_have_to_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    place = sqlite3 if name == "sqlite_version_info" else sqlite
    monkeypatch.setattr(place, name, value)
    monkeypatch.setattr(sqlite, "FINISH_EDITED_ALIKE", None)
    backend = backend_for("default")
    Job.objects.bulk_enqueue(Job(name="noop") for _ in range(2))
    held = [claim for _, claim in claim(backend)]

    assert backend.finish([complete(each, workspace="[123]") for each in held]) == []

    assert [job.workspace for job in Job.objects.all()] == [[123], [123]]


@pytest.mark.django_db
class TestStop:
    def test_marks_what_is_ours_and_lets_it_end(self, backend: Backend) -> None:
        Job.objects.create(name="noop")
        [(_, held)] = claim(backend)
        backend.stop([held])
        assert Job.objects.get().state == "STOPPING"
        assert backend.finish([complete(held)]) == []

    def test_changes_nothing_that_is_no_longer_ours(self, backend: Backend) -> None:
        Job.objects.create(name="noop")
        [(_, held)] = claim(backend)
        Job.objects.update(claim_token=uuid.uuid4())
        backend.stop([held])
        assert Job.objects.get().state == "PROCESSING"


@pytest.mark.django_db
def test_unknown_names_are_those_of_waiting_jobs(backend: Backend) -> None:
    for name, state in (
        ("noop", "NEW"),
        ("hooked", "NEW"),
        ("hooked", "READY"),
        ("query", "FAILED"),
    ):
        Job.objects.create(name=name, state=state)
    Job.objects.create(name="note", queue_name="other")
    assert backend.unknown_names(["default"], ["noop"]) == ["hooked"]


def in_threads(number: int, run: Callable[[threading.Barrier], object]) -> None:
    """Run that many threads, each with a connection of its own, to the end."""
    barrier = threading.Barrier(number)
    errors: list[BaseException] = []

    def body() -> None:
        try:
            run(barrier)
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=body) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.django_db(transaction=True)
class TestTogether:
    def test_claims_at_the_same_time_never_share_a_job(self) -> None:
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(300))
        claimed: list[uuid.UUID] = []

        def run(barrier: threading.Barrier) -> None:
            own = backend_for("default")
            barrier.wait()
            while held := claim(own, limit=7):
                claimed.extend(hold.job_id for _, hold in held)

        in_threads(4, run)
        assert len(claimed) == len(set(claimed)) == 300
        assert set(Job.objects.values_list("attempts", flat=True)) == {1}

    def test_of_two_outcomes_for_one_job_one_is_accepted(self) -> None:
        """A claim is taken over while its first holder finishes: one of the two writes counts."""
        for _ in range(20):
            Job.objects.create(name="noop")
        late: list[Outcome] = []
        for _, first in claim(backend_for("default"), limit=20):
            Job.objects.filter(pk=first.job_id).update(state="READY")
            [(_, second)] = claim(backend_for("default"), limit=1)
            outcomes = [complete(first), complete(second)]

            def run(barrier: threading.Barrier, outcomes: list[Outcome] = outcomes) -> None:
                own = backend_for("default")
                outcome = outcomes[barrier.wait()]
                late.extend(own.finish([outcome]))

            in_threads(2, run)
            assert late.pop().claim.token == first.token
            assert late == []
        assert set(Job.objects.values_list("state", "attempts")) == {("COMPLETE", 2)}


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="only SQLite locks the whole file")
def test_a_tasks_transaction_begins_with_the_lock_to_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that reads first, and writes later, would be refused when its own worker has written."""
    connection.ensure_connection()
    monkeypatch.setattr(connection, "transaction_mode", None, raising=False)
    monkeypatch.delitem(vars(connection), "_start_transaction_under_autocommit", raising=False)
    job = Job.objects.create(name="noop")
    Job.objects.create(name="noop")
    backend = backend_for("default")
    backend.prepare_process()
    claimed: list[int] = []

    def claim_meanwhile() -> None:
        claimed.append(len(backend_for("default").claim(Wanted(["default"], ["noop"], 9, WORKER))))
        connections.close_all()

    with transaction.atomic():
        assert Job.objects.count() == 2
        thread = threading.Thread(target=claim_meanwhile)
        thread.start()
        thread.join(0.5)
        Job.objects.filter(pk=job.pk).update(state="COMPLETE")
    thread.join()
    assert claimed == [1]
