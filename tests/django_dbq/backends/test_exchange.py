"""What has ended and what comes next, in one transaction: jobs that go on with their next task."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from django_dbq.backends import Backend, Wanted, backend_for
from django_dbq.claims import Claim, Outcome
from django_dbq.execution import release
from django_dbq.models import Job

pytestmark = pytest.mark.django_db

WORKER = uuid.uuid4()
NEXT = "tests.tasks.second"


@pytest.fixture(params=["own", "portable"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """The transitions of this database, and those of the ORM alone."""
    return backend_for("default") if request.param == "own" else Backend("default")


def wanted(limit: int = 10, **changes: Any) -> Wanted:
    return Wanted(["default"], ["noop", "three"], limit, WORKER)._replace(**changes)


def goes_on(claim: Claim, **changes: Any) -> Outcome:
    """Return the outcome of a job's first task, behind which the second comes."""
    row = claim.row._replace(state="READY", next_task=NEXT, **changes)
    return Outcome(claim=claim, row=row, attempts=0, edited=bool(changes))


def created(**columns: Any) -> Job:
    return Job.objects.create(**{"name": "three", "next_task": "tests.tasks.first", **columns})


def ids(claims: list[Claim]) -> list[uuid.UUID]:
    return [claim.job_id for claim in claims]


#: What may be said of the workspace of jobs that go on.
@pytest.fixture(params=[{}, {"workspace": '{"a": 1}'}], ids=["unchanged", "changed"])
def changes(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_what_goes_on_is_claimed_again(backend: Backend, changes: dict[str, Any]) -> None:
    for _ in range(3):
        created(workspace={"was": 0}, dedupe_key=None)
    held = backend.claim(wanted())

    late, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted())

    assert late == []
    assert ids(claimed) == ids(held)
    for before, claim in zip(held, claimed, strict=True):
        row = Job.objects.get(pk=claim.job_id)
        assert (row.state, row.next_task, row.worker) == ("PROCESSING", NEXT, WORKER)
        assert row.claim_token == claim.token != before.token
        assert (row.attempts, row.losses, row.error, row.finished) == (1, 0, None, None)
        assert row.workspace == ({"a": 1} if changes else {"was": 0})
        assert row.started is not None
        assert row.started >= before.started
        assert (claim.attempts, claim.losses, claim.cancelled) == (1, 0, False)
        assert claim.row.next_task == NEXT
        job = claim.job()
        assert (job.workspace, job.state, job.next_task) == (row.workspace, "PROCESSING", NEXT)
        assert (job.created, job.started) == (row.created, row.started)
        assert backend.finish([complete(claim)]) == []


def complete(claim: Claim) -> Outcome:
    return Outcome(claim=claim, row=claim.row.moved("COMPLETE", ""), attempts=1)


def test_what_ranks_before_goes_first(backend: Backend, changes: dict[str, Any]) -> None:
    mine = [created(priority=priority) for priority in (0, 2)]
    held = backend.claim(wanted())
    above = created(priority=1)
    created(priority=-1)

    _, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted(limit=2))

    assert ids(claimed) == [mine[1].pk, above.pk]
    left = Job.objects.get(pk=mine[0].pk)
    assert (left.state, left.next_task, left.claim_token) == ("READY", NEXT, None)
    assert (left.attempts, left.losses) == (0, 0)


def test_what_was_created_before_goes_first(backend: Backend, changes: dict[str, Any]) -> None:
    mine = [created() for _ in range(3)]
    held = backend.claim(wanted())
    older, younger = created(), created()
    between = mine[0].created + (mine[1].created - mine[0].created) / 2
    Job.objects.filter(pk=older.pk).update(created=between)

    _, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted(limit=3))

    assert ids(claimed) == [mine[0].pk, older.pk, mine[1].pk]
    assert Job.objects.get(pk=mine[2].pk).state == "READY"
    assert Job.objects.get(pk=younger.pk).state == "NEW"


def test_as_much_is_claimed_beside_it_as_there_is_room_for(
    backend: Backend, changes: dict[str, Any]
) -> None:
    mine = [created() for _ in range(2)]
    held = backend.claim(wanted())
    others = [created() for _ in range(3)]

    _, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted(limit=4))

    assert ids(claimed) == [job.pk for job in (*mine, *others[:2])]
    assert len({claim.token for claim in claimed}) == 1


def test_there_is_not_always_room_for_all(backend: Backend, changes: dict[str, Any]) -> None:
    mine = [created() for _ in range(3)]
    held = backend.claim(wanted())

    _, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted(limit=2))

    assert ids(claimed) == [mine[0].pk, mine[1].pk]
    assert Job.objects.get(pk=mine[2].pk).state == "READY"


def test_full_room_is_used_though_others_rank_before(
    backend: Backend, changes: dict[str, Any]
) -> None:
    """Or the worker would believe that nothing else waits."""
    mine = [created() for _ in range(2)]
    held = backend.claim(wanted())
    above = [created(priority=1) for _ in range(3)]

    _, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted(limit=4))

    assert sorted(ids(claimed)[:3]) == sorted(job.pk for job in above)
    assert ids(claimed)[3] == mine[0].pk


@pytest.mark.parametrize(
    "meanwhile",
    [
        {"queue_name": "other"},
        {"name": "unknown"},
        {"run_after": timezone.now() + timedelta(days=1)},
    ],
)
def test_what_others_made_of_it_meanwhile_counts(
    backend: Backend, meanwhile: dict[str, Any]
) -> None:
    job = created()
    held = backend.claim(wanted())
    Job.objects.filter(pk=job.pk).update(**meanwhile)

    late, claimed = backend.exchange([goes_on(held[0])], wanted())

    assert (late, claimed) == ([], [])
    row = Job.objects.get(pk=job.pk)
    assert (row.state, row.next_task, row.claim_token) == ("READY", NEXT, None)
    assert {name: getattr(row, name) for name in meanwhile} == meanwhile


def test_its_cancellation_is_seen_by_the_next_claim(
    backend: Backend, changes: dict[str, Any]
) -> None:
    job = created()
    held = backend.claim(wanted())
    job.cancel()

    _, [claim] = backend.exchange([goes_on(held[0], **changes)], wanted())

    assert claim.cancelled


def test_what_is_no_longer_ours_does_not_go_on(backend: Backend, changes: dict[str, Any]) -> None:
    jobs = [created() for _ in range(3)]
    held = backend.claim(wanted())
    Job.objects.filter(pk=jobs[1].pk).update(claim_token=uuid.uuid4())
    Job.objects.filter(pk=jobs[2].pk).update(state="FAILED")

    outcomes = [goes_on(claim, **changes) for claim in held]
    late, claimed = backend.exchange(outcomes, wanted())

    assert late == outcomes[1:]
    assert ids(claimed) == [jobs[0].pk]


@pytest.mark.parametrize(
    "change",
    [
        lambda claim: goes_on(claim, queue_name="other"),
        lambda claim: goes_on(claim, run_after=timezone.now() + timedelta(days=1)),
    ],
)
def test_where_it_was_sent_counts(backend: Backend, change: Callable[[Claim], Outcome]) -> None:
    for _ in range(2):
        created()
    held = backend.claim(wanted())

    late, claimed = backend.exchange([change(claim) for claim in held], wanted())

    assert (late, claimed) == ([], [])
    assert [job.state for job in Job.objects.all()] == ["READY", "READY"]


def test_priority_that_the_task_changed_counts(backend: Backend) -> None:
    mine = [created() for _ in range(2)]
    held = backend.claim(wanted())
    other = created()

    outcomes = [goes_on(claim, priority=-1) for claim in held]
    _, claimed = backend.exchange(outcomes, wanted(limit=2))

    assert ids(claimed) == [other.pk, mine[0].pk]


def test_a_worker_of_several_queues_empties_the_first_one_first(
    backend: Backend, changes: dict[str, Any]
) -> None:
    mine = [created(queue_name="second") for _ in range(2)]
    both = wanted(queues=["first", "second"])
    held = backend.claim(both)
    urgent = created(queue_name="first")

    outcomes = [goes_on(claim, **changes) for claim in held]
    _, claimed = backend.exchange(outcomes, both._replace(limit=2))

    assert ids(claimed) == [urgent.pk, mine[0].pk]
    assert set(Job.objects.filter(name="three").values_list("queue_name", "state")) == {
        ("first", "PROCESSING"), ("second", "PROCESSING"), ("second", "READY"),
    }  # fmt: skip


def test_what_is_handed_back_was_tried_and_lost_as_often_as_before(backend: Backend) -> None:
    created()
    Job.objects.update(state="READY", attempts=2, losses=1)
    [held] = backend.claim(wanted())

    _, [claim] = backend.exchange([release(held)], wanted())

    assert (claim.attempts, claim.losses) == (held.attempts, held.losses) == (3, 1)


def test_all_ways_to_end_can_come_together(backend: Backend) -> None:
    jobs = [created() for _ in range(5)]
    held = backend.claim(wanted())
    outcomes = [
        goes_on(held[0]),
        goes_on(held[1], workspace="[1]"),
        complete(held[2]),
        goes_on(held[3], workspace="[3]"),
        goes_on(held[4]),
    ]

    late, claimed = backend.exchange(outcomes, wanted())

    assert late == []
    assert ids(claimed) == [job.pk for job in (jobs[0], jobs[1], jobs[3], jobs[4])]
    assert [claim.row.workspace for claim in claimed] == ["{}", "[1]", "[3]", "{}"]
    assert Job.objects.get(pk=jobs[2].pk).state == "COMPLETE"


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="as PostgreSQL does it")
def test_one_write_is_enough(changes: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE written (state text)")
        cursor.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO written VALUES (NEW.state); RETURN NULL; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER note AFTER UPDATE ON django_dbq_job FOR EACH ROW"
            " EXECUTE FUNCTION note()"
        )
        backend = backend_for("default")
        for _ in range(2):
            created()
        held = backend.claim(wanted())
        cursor.execute("DELETE FROM written")

        backend.exchange([goes_on(claim, **changes) for claim in held], wanted())

        cursor.execute("SELECT state FROM written")
        assert cursor.fetchall() == [("PROCESSING",), ("PROCESSING",)]
