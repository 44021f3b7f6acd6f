"""What a worker holds: each job in one place, in the right order, whatever threads do."""

import os
import random
import resource
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from django_dbq.batch import ISOLATION_SECONDS, Batch
from django_dbq.bell import Bell
from django_dbq.claims import Claim, JobValues, Outcome
from django_dbq.models import Job
from tests.conftest import Clock, wait_for

#: Seconds that nothing takes on any machine, and that no test waits for unless it fails.
LONG = 20


@pytest.fixture
def batch() -> Batch:
    """The batch of a worker that serves two queues."""
    return Batch(queues=["first", "second"], bell=Bell())


def held(*, queue: str = "first", priority: int = 0, losses: int = 0) -> Claim:
    """Return the claim of a job that nobody needs to load."""
    row = JobValues("PROCESSING", "tests.tasks.first", "{}", priority, None, queue, 1)
    return Claim(
        job_id=uuid.uuid4(),
        job_name="three",
        token=uuid.uuid4(),
        started=datetime.now(UTC),
        attempts=1,
        losses=losses,
        cancelled=False,
        error=None,
        row=row,
        load=Job,
    )


def complete(claim: Claim) -> Outcome:
    return Outcome(claim, claim.row.moved("COMPLETE", ""), 1)


def goes_on(claim: Claim) -> Outcome:
    return Outcome(claim, claim.row.moved("READY", "tests.tasks.second"), 0)


def started(batch: Batch) -> list[Claim]:
    """Start all that is to be started, and return it in that order."""
    claims = []
    while claim := batch.start(wait=False):
        claims.append(claim)
    return claims


def in_thread(run: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


class TestPlaces:
    def test_are_gone_through_one_after_the_other(self, batch: Batch) -> None:
        assert batch.size == (0, 0, 0)
        claim = held()
        batch.hold([claim])
        assert batch.size == (1, 0, 0)
        assert batch.start() == claim
        assert (batch.size, batch.running) == ((0, 1, 0), [claim])
        batch.end(complete(claim))
        assert (batch.size, batch.running) == ((0, 0, 1), [])
        assert batch.take_ended() == [complete(claim)]
        assert batch.size == (0, 0, 1)
        batch.put_back()
        assert batch.take_ended() == [complete(claim)]
        batch.written()
        assert batch.size == (0, 0, 0)
        assert batch.take_ended() == []

    def test_change_for_two_jobs_in_one_step(self, batch: Batch) -> None:
        first, second = held(), held()
        batch.hold([first, second])
        assert batch.start() == first
        assert batch.start(complete(first)) == second
        assert (batch.size, batch.running) == ((0, 1, 1), [second])
        assert batch.start(complete(second), wait=False) is None
        assert (batch.size, batch.running) == ((0, 0, 2), [])
        assert batch.take_ended() == [complete(first), complete(second)]

    def test_are_changed_before_there_is_anything_to_wait_for(self, batch: Batch) -> None:
        claim = held()
        batch.hold([claim])
        batch.start()
        waiting = in_thread(lambda: batch.start(complete(claim)))
        wait_for(lambda: batch.size == (0, 0, 1), LONG)
        assert waiting.is_alive()
        batch.close()
        waiting.join(LONG)
        assert (waiting.is_alive(), batch.take_ended()) == (False, [complete(claim)])

    def test_of_what_is_handed_back_are_those_of_outcomes(self, batch: Batch) -> None:
        claims = [held() for _ in range(3)]
        batch.hold(claims)
        batch.start()
        batch.hand_back()
        assert batch.size == (0, 1, 2)
        batch.hand_back_running()
        assert batch.size == (0, 0, 3)
        # The task ends all the same, which is nobody's concern any more.
        batch.end(complete(claims[0]))
        outcomes = batch.take_ended()
        assert [outcome.claim for outcome in outcomes] == [claims[i] for i in (1, 2, 0)]
        assert {(o.row.state, o.row.next_task, o.attempts) for o in outcomes} == {
            ("NEW", "tests.tasks.first", 0)
        }

    def test_are_never_two_nor_none_with_many_threads(self, batch: Batch) -> None:
        """Six threads run jobs, while the dispatcher's brings, hands back, and takes away."""
        choice = random.Random(0)
        waiting = [held(priority=choice.randrange(3)) for _ in range(4000)]
        identities = [claim.job_id for claim in waiting]
        endings = [complete, complete, complete, goes_on]

        def run_jobs() -> None:
            number, ended = 0, None
            while claim := batch.start(ended):
                number += 1
                ended = endings[number % 4](claim)
                if number % 2:
                    batch.end(ended)
                    ended = None

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            threads = [in_thread(run_jobs) for _ in range(6)]
            brought, outcomes = 0, []
            while waiting:
                some = [waiting.pop() for _ in range(min(len(waiting), choice.randrange(30)))]
                batch.hold(some)
                brought += len(some)
                match choice.randrange(8):
                    case 0:
                        batch.hand_back()
                    case 1:
                        batch.hand_back_running()
                    case 2 | 3 | 4:
                        outcomes += batch.take_ended()
                        batch.written()
                assert sum(batch.size) + len(outcomes) == brought
            batch.close()
            for thread in threads:
                thread.join()
        finally:
            batch.close()
            sys.setswitchinterval(interval)
        outcomes += batch.take_ended()
        batch.written()
        assert batch.size == (0, 0, 0)
        assert Counter(outcome.claim.job_id for outcome in outcomes) == Counter(identities)
        # All of it happened, or it proves nothing.
        assert {outcome.row.state for outcome in outcomes} == {"NEW", "READY", "COMPLETE"}


class TestStart:
    def test_does_not_wait_unless_it_is_to(self, batch: Batch) -> None:
        assert batch.start(wait=False) is None

    @pytest.mark.parametrize("number", [1, 3])
    def test_waits_until_there_is_a_job(self, batch: Batch, number: int) -> None:
        """Each of the threads that wait gets one of the jobs."""
        results: list[Claim | None] = []
        threads = [in_thread(lambda: results.append(batch.start())) for _ in range(number)]
        # The bell is rung under the lock that waiting gives back: who rang it waits by then.
        assert batch.bell.wait(LONG)
        claims = [held() for _ in range(number)]
        batch.hold(claims)
        for thread in threads:
            thread.join(LONG)
        assert set(results) == set(claims)
        assert batch.size == (0, number, 0)

    def test_is_told_by_close_that_no_more_will_come(self, batch: Batch) -> None:
        results: list[Claim | None] = []
        threads = [in_thread(lambda: results.append(batch.start())) for _ in range(3)]
        assert batch.bell.wait(LONG)
        assert not batch.closed
        batch.close()
        for thread in threads:
            thread.join(LONG)
        assert results == [None, None, None]
        assert batch.closed

    def test_gives_what_is_left_after_close(self, batch: Batch) -> None:
        claims = [held() for _ in range(2)]
        batch.hold(claims)
        batch.close()
        assert [batch.start(), batch.start(), batch.start()] == [*claims, None]

    def test_rings_when_no_more_is_left_than_the_low_water(self, batch: Batch) -> None:
        batch.low_water = 2
        batch.hold([held() for _ in range(5)])
        rung = []
        for _ in range(5):
            batch.start()
            rung.append(batch.bell.wait(0))
        assert rung == [False, False, True, True, True]


class TestOrder:
    def test_is_the_one_of_the_claim(self, batch: Batch) -> None:
        claims = [held() for _ in range(3)]
        batch.hold(claims[:2])
        batch.hold(claims[2:])
        assert started(batch) == claims

    @pytest.mark.parametrize("later", [[5, 4], [5]])
    def test_puts_higher_ranks_that_come_later_first(self, batch: Batch, later: list[int]) -> None:
        first, second = held(priority=2), held()
        batch.hold([first, second])
        urgent = [held(priority=priority) for priority in later]
        batch.hold(urgent)
        assert started(batch) == [*urgent, first, second]

    @pytest.mark.parametrize("lowest", [0, -1])
    def test_puts_them_first_also_if_lower_ones_come_with_them(
        self, batch: Batch, lowest: int
    ) -> None:
        before = [held() for _ in range(2)]
        batch.hold(before)
        urgent, low = held(priority=5), held(priority=lowest)
        batch.hold([urgent, low])
        assert started(batch) == [urgent, *before, low]

    def test_of_equal_ranks_is_that_of_their_coming(self, batch: Batch) -> None:
        low = [held() for _ in range(3)]
        high = [held(priority=1) for _ in range(3)]
        batch.hold(low)
        batch.hold(high[:2])
        batch.hold(high[2:])
        assert started(batch) == [*high, *low]

    def test_has_the_queue_before_the_priority(self, batch: Batch) -> None:
        second = held(queue="second", priority=9)
        first = held(queue="first", priority=-9)
        batch.hold([second])
        batch.hold([first])
        assert started(batch) == [first, second]


class TestSuspects:
    """A job with which a worker was lost runs alone: it may be what killed that."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def batch(self, clock: Clock) -> Batch:
        return Batch(queues=["first", "second"], bell=Bell(), concurrency=3, clock=clock)

    def test_wait_until_nothing_runs_any_more(self, batch: Batch) -> None:
        batch.hold([held(), held()])
        first, second = batch.start(), batch.start()
        assert first is not None
        assert second is not None
        suspect = held(losses=1)
        batch.hold([suspect])
        taken: list[Claim | None] = []
        thread = in_thread(lambda: taken.append(batch.start()))
        batch.end(complete(first))
        thread.join(0.2)
        assert taken == []
        batch.end(complete(second))
        thread.join(10)
        assert taken == [suspect]

    def test_nothing_starts_beside_one(self, batch: Batch) -> None:
        suspect, other = held(losses=1), held()
        batch.hold([suspect])
        assert batch.start() == suspect
        assert batch.isolating
        batch.hold([other])
        taken: list[Claim | None] = []
        thread = in_thread(lambda: taken.append(batch.start()))
        thread.join(0.2)
        assert taken == []
        batch.end(complete(suspect))
        thread.join(10)
        assert taken == [other]

    def test_are_isolated_no_longer_when_they_have_ended(self, batch: Batch) -> None:
        batch.hold([held(losses=1)])
        claim = batch.start()
        assert claim is not None
        batch.end(complete(claim))
        assert not batch.isolating

    def test_never_are_there_more_than_may_run(self, batch: Batch, clock: Clock) -> None:
        batch.hold([held(), held(), held()])
        for _ in range(3):
            batch.start()
        batch.hold([held(losses=1)])
        clock.now += ISOLATION_SECONDS
        taken: list[Claim | None] = []
        in_thread(lambda: taken.append(batch.start())).join(0.2)
        assert taken == []
        batch.close()

    def test_are_started_beside_others_that_take_very_long(
        self, batch: Batch, clock: Clock
    ) -> None:
        batch.hold([held()])
        batch.start()
        batch.hold([held(losses=1)])
        clock.now += ISOLATION_SECONDS
        assert batch.start() is not None


class TestWhatIsHeld:
    def test_is_known_until_it_is_written(self, batch: Batch) -> None:
        assert (batch.tokens, batch.held_since) == (set(), None)
        early, late = held(), held()
        batch.hold([early])
        assert batch.start() == early
        batch.hold([late])
        assert batch.held_since == early.started
        batch.end(complete(early))
        batch.take_ended()
        assert batch.tokens == {early.token, late.token}
        assert batch.held_since == early.started
        batch.written()
        assert batch.held_since == late.started

    def test_reaches_back_to_the_last_claim_when_nothing_is_held(self, batch: Batch) -> None:
        """A claim that is under way is later than the last one."""
        claim = held()
        batch.hold([claim])
        batch.start()
        batch.end(complete(claim))
        batch.take_ended()
        batch.written()
        assert batch.held_since == claim.started

    def test_reaches_back_to_before_an_error(self, batch: Batch) -> None:
        early, late = held(), held()
        batch.hold([early])
        batch.frozen_since = batch.held_since
        batch.start()
        batch.end(complete(early))
        batch.take_ended()
        batch.written()
        batch.hold([late])
        assert batch.held_since == early.started


class TestOvertaking:
    @pytest.fixture
    def running(self, batch: Batch) -> Claim:
        """A job that runs, of the priority 1, while three of a lower one wait behind it."""
        one = held(priority=1)
        batch.hold([one, *[held() for _ in range(3)]])
        assert batch.start() == one
        return one

    def test_hands_back_what_ranks_behind_the_next_task(self, batch: Batch, running: Claim) -> None:
        batch.end(goes_on(running))
        assert batch.overtaken
        assert batch.size == (0, 0, 4)
        assert Counter(o.row.state for o in batch.take_ended()) == {"READY": 1, "NEW": 3}

    def test_hands_back_what_was_claimed_before_it_was_written_that_the_job_goes_on(
        self, batch: Batch
    ) -> None:
        batch.hold([held(priority=1)])
        running = batch.start()
        assert running is not None
        batch.end(goes_on(running))
        batch.hold([held(priority=0)])
        assert batch.size == (0, 0, 2)
        assert batch.overtaken

    def test_hands_back_only_what_ranks_behind_it(self, batch: Batch) -> None:
        batch.hold([held(priority=1)])
        running = batch.start()
        assert running is not None
        equal, behind = held(priority=1), held(priority=0)
        batch.hold([equal, behind])
        batch.end(goes_on(running))
        assert batch.size == (1, 0, 2)
        assert batch.start() == equal
        assert {o.claim for o in batch.take_ended()} == {running, behind}

    @pytest.mark.parametrize(
        "changes",
        [{"priority": 0}, {"priority": -1}, {"queue_name": "second"}, {"queue_name": "x"}],
    )
    def test_needs_a_next_task_that_ranks_before_the_others(
        self, batch: Batch, running: Claim, changes: dict[str, Any]
    ) -> None:
        outcome = goes_on(running)
        batch.end(outcome._replace(row=outcome.row._replace(**changes)))
        assert not batch.overtaken
        assert batch.size == (3, 0, 1)

    def test_needs_a_job_that_goes_on(self, batch: Batch, running: Claim) -> None:
        batch.end(complete(running))
        assert not batch.overtaken
        assert batch.size == (3, 0, 1)
        batch.hold([held()])
        assert not batch.overtaken
        assert batch.size == (4, 0, 1)


def test_the_pace_is_the_mean_since_it_was_last_asked(batch: Batch) -> None:
    now = [1000.0]
    batch.clock = lambda: now[0]
    assert batch.take_pace() is None
    batch.hold([held() for _ in range(3)])
    for seconds in (1, 2, 6):
        one = batch.start()
        assert one is not None
        now[0] += seconds
        batch.end(complete(one))
    assert batch.take_pace() == 3
    assert batch.take_pace() is None


def test_the_pace_is_without_the_time_that_was_waited(batch: Batch) -> None:
    now = [1000.0]
    batch.clock = lambda: now[0]
    batch.hold([held()])
    first = batch.start()
    assert first is not None
    now[0] += 2
    taken: list[Claim | None] = []
    thread = in_thread(lambda: taken.append(batch.start(complete(first))))
    wait_for(lambda: batch.size == (0, 0, 1), LONG)
    now[0] += 100
    batch.hold([held()])
    thread.join(LONG)
    [second] = taken
    assert second is not None
    now[0] += 4
    assert batch.start(complete(second), wait=False) is None
    assert batch.take_pace() == 3


def test_a_bell_is_heard_whatever_the_number_of_its_file() -> None:
    """Where a process has more than 1,024 files open; and it gives back its own."""
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        bell = Bell()
        assert not bell.wait(0)
        bell.ring()
        assert bell.wait(LONG)
        reader = bell._reader
        del bell
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(reader)
    finally:
        for file in others:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))


class TestLease:
    """A worker that was taken for dead starts nothing that others may have by now."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    def batch(self, now: list[float]) -> Batch:
        batch = Batch(queues=["first"], bell=Bell(), clock=lambda: now[0])
        batch.lease_until = 10.0
        return batch

    def test_that_ends_while_it_waits_is_noticed(self, batch: Batch, now: list[float]) -> None:
        thread = in_thread(batch.start)
        wait_for(lambda: batch.bell.wait(0), LONG)  # it has looked, and waits or is about to
        now[0] = 11.0
        claim = held()
        batch.hold([claim])
        wait_for(lambda: batch.size == (0, 0, 1), LONG)
        assert [outcome.claim for outcome in batch.take_ended()] == [claim]
        batch.close()
        thread.join(LONG)

    def test_nothing_starts_when_it_has_run_out(self, batch: Batch, now: list[float]) -> None:
        batch.hold([held(), held()])
        now[0] = 11.0
        assert batch.start(wait=False) is None
        assert batch.size == (0, 0, 2)

    def test_what_was_held_when_it_ran_out_goes_back(self, batch: Batch, now: list[float]) -> None:
        batch.hold([held(), held()], asked=1.0)
        now[0] = 11.0
        # The report comes before anybody wanted to start them.
        assert batch.renew_lease(21.0)
        assert started(batch) == []
        assert [outcome.row.state for outcome in batch.take_ended()] == ["NEW", "NEW"]

    def test_what_was_asked_for_before_it_ran_out_goes_back(
        self, batch: Batch, now: list[float]
    ) -> None:
        now[0] = 11.0
        batch.renew_lease(21.0)
        batch.hold([held()], asked=9.0)
        assert started(batch) == []
        assert len(batch.take_ended()) == 1

    def test_a_report_in_time_changes_nothing(self, batch: Batch, now: list[float]) -> None:
        claims = [held(), held()]
        batch.hold(claims, asked=1.0)
        now[0] = 9.0
        assert not batch.renew_lease(18.0)
        assert started(batch) == claims
