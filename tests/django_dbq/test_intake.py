"""What a claim has found is taken in while the next one is under way, and never lost."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import (
    DataError,
    Error,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)

from django_dbq.backends import Wanted, backend_for
from django_dbq.claims import Claim, Outcome, UnreadClaims
from django_dbq.execution import Execution, release
from django_dbq.limits import Limits
from django_dbq.models import Job
from django_dbq.worker import Worker
from tests.conftest import states

pytestmark = pytest.mark.django_db

#: How many jobs the dispatchers here hold ahead.
AHEAD = 10


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Return a worker that has claimed 11 jobs, and started and ended 6 of them."""
    with transaction.atomic():
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(40))
    worker = Worker(queues=["default"], using="default", limits=Limits(rate=0))
    worker.dispatcher._size.size = worker.dispatcher._size.largest = AHEAD
    worker.dispatcher.turn()
    run(worker, 6)
    return worker


def run(worker: Worker, count: int) -> None:
    for _ in range(count):
        claim = worker.batch.start(wait=False)
        assert claim is not None
        worker.batch.end(Execution(claim).run())


def exchange_that_runs(worker: Worker, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many jobs be run while the database works on the next exchange."""
    exchange = worker.backend.exchange

    def running(*given: Any, **options: Any) -> Any:
        monkeypatch.setattr(worker.backend, "exchange", exchange)
        run(worker, count)
        return exchange(*given, **options)

    monkeypatch.setattr(worker.backend, "exchange", running)


@pytest.fixture
def waiting(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Return the worker when it has claimed 6 more, and is about to claim again."""
    exchange_that_runs(worker, 5, monkeypatch)
    assert worker.dispatcher.turn()
    assert worker.dispatcher.intake.waiting == 6
    assert worker.batch.unstarted == 0
    return worker


def test_a_claim_is_taken_in_at_once_where_no_other_follows(worker: Worker) -> None:
    assert not worker.dispatcher.turn()
    assert worker.dispatcher.intake.waiting == 0
    assert worker.batch.unstarted == AHEAD + 1


def test_a_claim_is_taken_in_beside_the_next_one(
    waiting: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both together are no more than the worker may hold."""
    taken: list[int] = []
    exchange = waiting.backend.exchange

    def calling(*given: Any, meanwhile: Callable[[], None]) -> Any:
        meanwhile()
        taken.append(waiting.batch.unstarted)
        return exchange(*given, meanwhile=meanwhile)

    monkeypatch.setattr(waiting.backend, "exchange", calling)
    assert not waiting.dispatcher.turn()
    assert taken == [6]
    assert waiting.batch.unstarted == AHEAD + 1
    assert states() == {"COMPLETE": 11, "PROCESSING": 11, "NEW": 18}


def test_it_is_taken_in_before_a_claim_that_writes_nothing(
    waiting: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when all outcomes were written by those who ran the jobs: atomic ones."""
    waiting.dispatcher._write()
    held: list[int] = []
    claim = waiting.backend.claim

    def claiming(wanted: Wanted) -> Any:
        held.append(waiting.batch.unstarted)
        return claim(wanted)

    monkeypatch.setattr(waiting.backend, "claim", claiming)
    waiting.dispatcher.turn()
    assert held == [6]


@pytest.mark.parametrize("end", ["stop", "close", "limit", "end"])
def test_what_was_not_taken_in_goes_back_at_the_end(
    waiting: Worker, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = waiting.dispatcher
    if end == "stop":
        waiting.stop.request()
    elif end == "close":
        waiting.batch.close()
    elif end == "limit":
        monkeypatch.setattr(dispatcher, "_has_worked_enough", lambda: True)
    else:
        dispatcher.end()
    monkeypatch.setattr(waiting.batch, "hold", None)
    dispatcher._has_taken_turns() if end == "end" else dispatcher.turn()
    assert states() == {"COMPLETE": 11, "NEW": 29}


def test_it_is_taken_in_before_strays_are_looked_for(waiting: Worker) -> None:
    waiting.dispatcher._doubt()
    waiting.dispatcher.turn()
    assert waiting.batch.unstarted == AHEAD + 1
    assert states() == {"COMPLETE": 11, "PROCESSING": 11, "NEW": 18}


def test_it_is_taken_in_before_a_wait(waiting: Worker) -> None:
    waiting.bell.ring()
    waiting.dispatcher.wait()
    assert waiting.batch.unstarted == 6


def test_a_burst_does_not_end_before_it(waiting: Worker) -> None:
    dispatcher = waiting.dispatcher
    dispatcher.limits = Limits(rate=0, burst=True)
    Job.objects.filter(state="NEW").delete()
    dispatcher.turn()
    assert waiting.batch.unstarted == 6
    assert not waiting.batch.closed


class TestWhatAsksForMore:
    """Nothing is held beside a suspect, and what others are to have is written before it starts."""

    def suspect(self, worker: Worker, place: int) -> None:
        """Let a worker have been lost with one of the claims that wait."""
        intake = worker.dispatcher.intake
        claims = list(intake._claimed)
        claims[place] = claims[place]._replace(losses=1)
        intake._claimed = claims

    def test_it_is_no_matter_for_in_between(self, waiting: Worker) -> None:
        self.suspect(waiting, 2)
        waiting.dispatcher.intake.take_in_meanwhile()
        assert waiting.batch.unstarted == 0
        waiting.dispatcher.intake.take_in()
        assert waiting.batch.unstarted == 2
        assert waiting.dispatcher._size.size == 0
        # Of those that it holds, five have ended and are not written.
        assert states() == {"COMPLETE": 6, "PROCESSING": 7, "NEW": 27}

    @pytest.mark.parametrize(("place", "held"), [(0, 1), (2, 2), (5, 5)])
    def test_the_next_claim_goes_back_before_it_is_held(
        self, waiting: Worker, place: int, held: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.suspect(waiting, place)
        seen: list[object] = []
        hold = waiting.batch.hold

        def holding(claimed: Sequence[Claim], **options: Any) -> None:
            seen.append((len(claimed), states()))
            hold(claimed, **options)

        monkeypatch.setattr(waiting.batch, "hold", holding)
        waiting.dispatcher.turn()
        assert seen == [(held, {"COMPLETE": 11, "PROCESSING": held, "NEW": 29 - held})]

    def test_what_went_back_is_worth_another_look(self, waiting: Worker) -> None:
        """Or a burst would end before it, if there was no more of it than was asked for."""
        self.suspect(waiting, 0)
        left = Job.objects.filter(state="NEW").values_list("pk", flat=True)[:2]
        Job.objects.filter(state="NEW").exclude(pk__in=list(left)).delete()
        waiting.dispatcher.turn()
        assert Job.objects.filter(state="NEW").count() == 2 + 5
        assert waiting.dispatcher._promising

    def test_one_alone_does_not_start_in_between_either(self, waiting: Worker) -> None:
        self.suspect(waiting, 0)
        intake = waiting.dispatcher.intake
        intake._claimed = intake._claimed[:1]
        intake.take_in_meanwhile()
        assert waiting.batch.unstarted == 0

    def test_what_newer_code_made_goes_back_alone(self, waiting: Worker) -> None:
        intake = waiting.dispatcher.intake
        claims = list(intake._claimed)
        claims[1] = claims[1]._replace(row=claims[1].row._replace(version=2))
        intake._claimed = claims
        intake.take_in_meanwhile()
        assert waiting.batch.unstarted == 0
        intake.take_in()
        assert waiting.batch.unstarted == 5
        assert waiting.dispatcher._size.size == AHEAD


def test_what_goes_on_with_a_higher_priority_takes_its_place(worker: Worker) -> None:
    """The claim had been sent when it ended, and the outcome is under way when that is held."""
    run(worker, 4)
    worker.dispatcher._write()
    waiting = worker.backend.claim(Wanted(["default"], ["noop"], 6, worker.id))
    worker.dispatcher.intake.bring(waiting, asked=worker.dispatcher.clock())
    claim = worker.batch.start(wait=False)
    assert claim is not None
    outcome = release(claim)
    worker.batch.end(outcome._replace(row=outcome.row._replace(priority=5), edited=True))
    worker.dispatcher.turn()
    assert worker.batch.overtaken
    worker.dispatcher.intake.take_in()
    assert [claim.row.priority for claim in worker.batch._unstarted][:2] == [5, 0]


def test_one_behind_a_slow_task_goes_back(waiting: Worker) -> None:
    dispatcher = waiting.dispatcher
    dispatcher.intake.take_in()
    extra = waiting.backend.claim(Wanted(["default"], ["noop"], 2, waiting.id))
    dispatcher.intake.bring(extra, asked=dispatcher.clock())
    waiting.batch.last_progress -= 60
    dispatcher._adapt()
    assert dispatcher.intake.waiting == waiting.batch.unstarted == 0


@pytest.mark.parametrize("error", [DataError("timestamp too large"), InterfaceError("closed")])
def test_one_that_cannot_be_read_takes_no_other_along(waiting: Worker, error: Error) -> None:
    """It is given back by a look at the table, as after an answer that never came."""

    def unreadable() -> list[Claim]:
        raise error

    waiting.dispatcher.intake._claimed = UnreadClaims(6, unreadable)
    waiting.dispatcher.turn()
    waiting.dispatcher.turn()
    assert states() == {"COMPLETE": 11, "PROCESSING": 11, "NEW": 18}
    assert waiting.batch.unstarted == 11


def test_it_is_run_while_the_database_is_away(
    waiting: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting.bell, "wait", lambda seconds: waiting.stop.request())
    seen: list[int] = []
    monkeypatch.setattr(
        waiting.dispatcher.outcomes, "put_back", lambda: seen.append(waiting.batch.unstarted)
    )
    monkeypatch.setattr(connections["default"], "close", lambda: None)
    waiting.dispatcher._shelter(OperationalError("gone"))
    assert seen == [6]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="as PostgreSQL does it")
class TestPostgreSQL:
    @pytest.fixture
    def exchanged(self) -> tuple[Sequence[Claim], list[str]]:
        """Return what an exchange has claimed, and the session's state in the middle of it."""
        Job.objects.bulk_enqueue(Job(name="noop") for _ in range(4))
        backend = backend_for("default")
        wanted = Wanted(["default"], ["noop"], 2, uuid.uuid4())
        outcomes: list[Outcome] = [Execution(claim).run() for claim in backend.claim(wanted)]
        seen: list[str] = []

        def meanwhile() -> None:
            status = getattr(connection.connection.info, "pipeline_status", None)
            seen.append(getattr(status, "name", "psycopg 2"))

        late, claimed = backend.exchange(outcomes, wanted, meanwhile=meanwhile)
        assert late == []
        return claimed, seen

    @pytest.mark.skipif("not hears_notices()", reason="psycopg 2 cannot do both at once")
    def test_the_statements_are_sent_before(
        self, exchanged: tuple[Sequence[Claim], list[str]]
    ) -> None:
        assert exchanged[1] == ["ON"]

    def test_the_claims_outlive_their_connection(
        self, exchanged: tuple[Sequence[Claim], list[str]]
    ) -> None:
        claimed, _ = exchanged
        connection.close()
        assert len(claimed) == 2
        assert [claim.job_name for claim in claimed] == ["noop", "noop"]
        assert states() == {"COMPLETE": 2, "PROCESSING": 2}
