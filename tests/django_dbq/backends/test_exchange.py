"""What has ended and what comes next, in one transaction: jobs that go on with their next task."""

import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from django_dbq.backends import Backend, Wanted, backend_for, statements
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


def ids(claims: Sequence[Claim]) -> list[uuid.UUID]:
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


def test_there_is_no_room_for_all_that_were_claimed_one_after_the_other(
    backend: Backend, changes: dict[str, Any]
) -> None:
    mine = [created() for _ in range(4)]
    held = [*backend.claim(wanted(limit=2)), *backend.claim(wanted(limit=2))]

    _, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted(limit=3))

    assert ids(claimed) == [job.pk for job in mine[:3]]


def test_full_room_is_used_though_others_rank_before(
    backend: Backend, changes: dict[str, Any]
) -> None:
    """Or the worker would believe that nothing else waits."""
    mine = [created() for _ in range(2)]
    held = backend.claim(wanted())
    above = [created(priority=1) for _ in range(3)]

    _, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted(limit=4))

    assert ids(claimed) == [job.pk for job in (*above, mine[0])]


def test_all_are_claimed_in_their_order(backend: Backend, changes: dict[str, Any]) -> None:
    mine = [created(priority=3), created(priority=1)]
    held = backend.claim(wanted())
    others = [created(priority=2), created(), created()]

    _, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted(limit=4))

    assert ids(claimed) == [job.pk for job in (mine[0], others[0], mine[1], others[1])]


def test_all_are_claimed_in_the_order_of_their_age(
    backend: Backend, changes: dict[str, Any]
) -> None:
    mine = [created() for _ in range(3)]
    held = backend.claim(wanted())
    others = [created() for _ in range(2)]
    between = mine[0].created + (mine[1].created - mine[0].created) / 2
    Job.objects.filter(pk=others[0].pk).update(created=between)

    _, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted())

    order = (mine[0], others[0], mine[1], mine[2], others[1])
    assert ids(claimed) == [job.pk for job in order]
    assert len({claim.token for claim in claimed}) == 1


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

    assert (late, list(claimed)) == ([], [])
    row = Job.objects.get(pk=job.pk)
    assert (row.state, row.next_task, row.claim_token) == ("READY", NEXT, None)
    assert {name: getattr(row, name) for name in meanwhile} == meanwhile


def test_a_name_that_others_gave_it_counts(backend: Backend, changes: dict[str, Any]) -> None:
    for _ in range(2):
        created()
    held = backend.claim(wanted())
    Job.objects.update(name="unknown")

    late, claimed = backend.exchange([goes_on(claim, **changes) for claim in held], wanted())

    assert (late, list(claimed)) == ([], [])
    assert [job.state for job in Job.objects.all()] == ["READY", "READY"]


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

    assert (late, list(claimed)) == ([], [])
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


def test_one_that_is_late_takes_no_room(backend: Backend, changes: dict[str, Any]) -> None:
    mine = [created() for _ in range(3)]
    held = backend.claim(wanted())
    Job.objects.filter(pk=mine[1].pk).update(claim_token=uuid.uuid4())
    other, _ = created(), created()

    outcomes = [goes_on(claim, **changes) for claim in held]
    late, claimed = backend.exchange(outcomes, wanted(limit=3))

    assert late == [outcomes[1]]
    assert ids(claimed) == [mine[0].pk, mine[2].pk, other.pk]


def test_those_that_put_their_next_task_off_are_parked(backend: Backend) -> None:
    jobs = [created() for _ in range(3)]
    held = backend.claim(wanted())
    jobs[2].cancel()
    later = timezone.now() + timedelta(days=1)

    outcomes = [goes_on(claim, run_after=later) for claim in held]
    _, claimed = backend.exchange(outcomes, wanted())

    # One that is to be cancelled does not wait.
    assert ids(claimed) == [jobs[2].pk]
    rows = Job.objects.filter(pk__in=[job.pk for job in jobs[:2]])
    assert [(row.parked, row.claimable) for row in rows] == 2 * [(later, False)]


def test_what_happened_to_earlier_tasks_is_forgotten(
    backend: Backend, changes: dict[str, Any]
) -> None:
    for _ in range(2):
        created()
    Job.objects.update(state="READY", attempts=4, losses=2, error="it broke")
    held = backend.claim(wanted())
    Job.objects.filter(pk=held[0].job_id).update(state="STOPPING")

    outcomes = [goes_on(claim, **changes) for claim in held]
    late, claimed = backend.exchange(outcomes, wanted())

    assert late == []
    assert [(each.attempts, each.losses, each.error) for each in claimed] == 2 * [(1, 0, None)]
    for row in Job.objects.all():
        assert (row.state, row.attempts, row.losses, row.error) == ("PROCESSING", 1, 0, None)


def test_a_workspace_that_was_brought_up_to_date_has_its_version(backend: Backend) -> None:
    for _ in range(2):
        created()
    held = backend.claim(wanted())

    outcomes = [goes_on(claim, workspace="[2]", version=2) for claim in held]
    _, claimed = backend.exchange(outcomes, wanted())

    assert [claim.row.version for claim in claimed] == [2, 2]
    assert [(job.workspace, job.version) for job in Job.objects.all()] == 2 * [([2], 2)]


def test_a_priority_that_others_changed_counts(backend: Backend) -> None:
    mine = [created() for _ in range(2)]
    held = backend.claim(wanted())
    Job.objects.filter(pk=mine[0].pk).update(priority=-1)
    other = created()

    _, claimed = backend.exchange([goes_on(claim) for claim in held], wanted())

    assert ids(claimed) == [mine[1].pk, other.pk, mine[0].pk]


def test_what_ends_in_some_other_way_and_waits_may_come_first(
    backend: Backend, changes: dict[str, Any]
) -> None:
    mine = [created() for _ in range(3)]
    held = backend.claim(wanted())

    outcomes = [goes_on(held[0], **changes), goes_on(held[1], **changes)]
    outcomes.append(goes_on(held[2], priority=5))
    _, claimed = backend.exchange(outcomes, wanted(limit=1))

    assert ids(claimed) == [mine[2].pk]


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="as PostgreSQL does it")
class TestOneWrite:
    @pytest.fixture(autouse=True)
    def noted(self) -> None:
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

    def written(self, held: list[Claim], changes: dict[str, Any]) -> list[str]:
        """Return the states that were written when these jobs go on, one by one."""
        outcomes = [goes_on(claim, **changes) for claim in held]
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM written")
            backend_for("default").exchange(outcomes, wanted(limit=len(held)))
            cursor.execute("SELECT state FROM written")
            return [state for (state,) in cursor.fetchall()]

    def test_is_enough(self, changes: dict[str, Any]) -> None:
        for _ in range(2):
            created()
        held = backend_for("default").claim(wanted())

        assert self.written(held, changes) == ["PROCESSING", "PROCESSING"]

    def test_is_enough_where_only_others_may_have_what_comes_before(
        self, changes: dict[str, Any]
    ) -> None:
        past = timezone.now() - timedelta(hours=1)
        for _ in range(2):
            created(run_after=past)
        held = backend_for("default").claim(wanted())
        created(priority=1, name="noop")
        Job.objects.filter(name="noop").update(name="unknown")
        created(priority=1, run_after=timezone.now() + timedelta(days=1))
        Job.objects.update(parked=None)
        created(priority=1, queue_name="other")

        assert self.written(held, changes) == ["PROCESSING", "PROCESSING"]

    def test_is_not_tried_for_what_is_put_off(self) -> None:
        for _ in range(2):
            created()
        held = backend_for("default").claim(wanted())
        later = timezone.now() + timedelta(days=1)

        outcomes = [goes_on(claim, run_after=later) for claim in held]

        assert statements.exchange(outcomes, wanted(), uuid.uuid4()).go_on == []

    def test_is_not_enough_where_the_databases_clock_says_that_it_is_early(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(2):
            created()
        held = backend_for("default").claim(wanted())
        # As if this machine's clock were ahead.
        monkeypatch.setattr(statements, "parked_until", lambda state, run_after: None)

        later = timezone.now() + timedelta(days=1)
        assert self.written(held, {"run_after": later}) == ["READY", "READY"]

    def test_is_not_enough_where_another_comes_first(self, changes: dict[str, Any]) -> None:
        for _ in range(2):
            created()
        held = backend_for("default").claim(wanted())
        created(priority=1)

        assert sorted(self.written(held, changes)) == [*2 * ["PROCESSING"], *2 * ["READY"]]
