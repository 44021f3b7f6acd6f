"""Each kind of limit interrupts what it can, and nothing rings when its block has ended."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

import pytest

from django_dbq import timeouts
from django_dbq.errors import TaskTimeout
from django_dbq.timeouts import awaited_within, time_limit

# The time of each test itself is kept by an alarm otherwise.
pytestmark = pytest.mark.timeout(300, method="thread")

#: Seconds after which a block that was to be interrupted ends by itself, and its test fails.
FOR_EVER = 60


def in_main_thread(function: Callable[[], object]) -> None:
    function()


def in_other_thread(function: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


everywhere = pytest.mark.parametrize("run", [in_main_thread, in_other_thread])


def busy(seconds: float = FOR_EVER) -> None:
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        pass


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let threads follow each other so fast that the watchdog meets ends of blocks."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.000_01)
    yield
    sys.setswitchinterval(before)


@everywhere
class TestAnywhere:
    def test_a_busy_task_is_interrupted(self, run: Callable[..., None]) -> None:
        def task() -> None:
            with time_limit(0.05):
                busy()

        with pytest.raises(TaskTimeout, match="longer than its timeout of 0.05 seconds"):
            run(task)

    def test_a_task_in_time_is_left_alone(self, run: Callable[..., None]) -> None:
        def task() -> None:
            with time_limit(0.05):
                pass
            busy(0.1)
            with time_limit(FOR_EVER):
                busy(0.1)

        run(task)

    def test_without_a_timeout_nothing_is_set_up(self, run: Callable[..., None]) -> None:
        assert time_limit(None) is time_limit(None)

        def task() -> None:
            with time_limit(None):
                assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)

        run(task)

    def test_other_errors_pass(self, run: Callable[..., None]) -> None:
        def task() -> None:
            with time_limit(FOR_EVER):
                raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            run(task)

    def test_a_task_that_swallows_it_is_not_told_again(self, run: Callable[..., None]) -> None:
        caught: list[Exception] = []

        def task() -> None:
            with time_limit(0.02):
                try:
                    busy()
                except Exception as error:
                    caught.append(error)
                busy(0.1)

        run(task)
        assert [type(error) for error in caught] == [TaskTimeout]

    def test_nothing_rings_when_the_block_has_ended(
        self, run: Callable[..., None], quick_switches: None
    ) -> None:
        seen = Counter[str]()

        def block(seconds: float) -> str:
            try:
                with time_limit(0.000_5):
                    busy(seconds)
            except TaskTimeout:
                return "interrupted"
            return "in time"

        def task() -> None:
            for number in range(2000):
                ended = block(0.000_5 * (0.5 + number % 100 / 50))
                # Outside of any `try`: what rang late would end the test.
                busy(0.000_01)
                seen[ended] += 1

        run(task)
        assert seen.total() == 2000
        assert all(seen[how] for how in ("interrupted", "in time")), seen


class TestMainThread:
    @pytest.fixture(autouse=True)
    def _nothing_stays_behind(self) -> Iterator[None]:
        before = signal.getsignal(signal.SIGALRM)
        timer = signal.getitimer(signal.ITIMER_REAL)
        yield
        assert signal.getsignal(signal.SIGALRM) == before
        assert signal.getitimer(signal.ITIMER_REAL) == timer

    @pytest.mark.parametrize(
        "wait", [lambda: time.sleep(FOR_EVER), lambda: threading.Event().wait(FOR_EVER)]
    )
    def test_what_waits_is_interrupted(self, wait: Callable[[], object]) -> None:
        begun = time.monotonic()
        with pytest.raises(TaskTimeout), time_limit(0.05):
            wait()
        assert time.monotonic() - begun < FOR_EVER / 2

    def test_a_system_call_is_interrupted(self) -> None:
        reader, writer = os.pipe()
        with pytest.raises(TaskTimeout), time_limit(0.05):
            os.read(reader, 1)
        os.close(reader)
        os.close(writer)

    def test_the_previous_handler_and_timer_go_on(self) -> None:
        rung: list[int] = []

        def ring(signum: int, frame: FrameType | None) -> None:
            rung.append(signum)

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with time_limit(FOR_EVER):
            time.sleep(0.2)
            assert rung == []
        assert signal.getsignal(signal.SIGALRM) == ring
        # It was due meanwhile, and comes at once.
        time.sleep(0.1)
        assert rung == [signal.SIGALRM]
        signal.setitimer(signal.ITIMER_REAL, FOR_EVER)
        with pytest.raises(TaskTimeout), time_limit(0.02):
            busy()
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        assert 0 < left < FOR_EVER
        signal.signal(signal.SIGALRM, before)

    def test_an_alarm_while_the_block_is_left_is_not_heard(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_timer = signal.setitimer
        rung: list[float] = []

        def set_late(which: int, seconds: float, interval: float = 0) -> tuple[float, float]:
            signal.raise_signal(signal.SIGALRM)
            rung.append(seconds)
            return set_timer(which, seconds, interval)

        with time_limit(FOR_EVER):
            monkeypatch.setattr(signal, "setitimer", set_late)
        assert rung == [0]

    def test_an_alarm_before_the_block_has_begun_leaves_nothing_behind(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_timer = signal.setitimer

        def ring_at_once(which: int, seconds: float, interval: float = 0) -> tuple[float, float]:
            previous = set_timer(which, seconds, interval)
            if seconds:
                signal.raise_signal(signal.SIGALRM)
            return previous

        monkeypatch.setattr(signal, "setitimer", ring_at_once)
        with pytest.raises(TaskTimeout), time_limit(FOR_EVER):
            raise AssertionError


class TestOtherThreads:
    def test_what_rings_while_the_block_is_left_is_not_heard(self) -> None:
        entered, leaving = threading.Event(), threading.Event()
        ended: list[str] = []

        def task() -> None:
            with time_limit(FOR_EVER):
                entered.set()
                leaving.wait()
            ended.append("in time")

        thread = threading.Thread(target=task)
        thread.start()
        entered.wait()
        watchdog = timeouts._watchdog
        [limit] = watchdog._limits.values()
        with watchdog._lock:
            leaving.set()
            assert thread.ident is not None
            while sys._current_frames()[thread.ident].f_code.co_name != "leave":
                time.sleep(0.001)
            watchdog._ring(limit)
        thread.join()
        assert ended == ["in time"]
        assert watchdog._limits == {}

    def test_one_watchdog_serves_them_all(self) -> None:
        ended: list[str] = []

        def task(seconds: float) -> None:
            try:
                with time_limit(seconds):
                    busy()
            except TaskTimeout as error:
                ended.append(str(error))

        # The later ones are due before those that the watchdog waits for.
        seconds = [0.9, 0.7, 0.5, 0.3, 0.1]
        threads = [threading.Thread(target=task, args=[each]) for each in seconds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(ended) == [str(TaskTimeout.after(each)) for each in sorted(seconds)]
        watchdogs = [each for each in threading.enumerate() if each.name == "dbq-watchdog"]
        assert [each.daemon for each in watchdogs] == [True]

    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_a_forked_child_gets_a_watchdog_of_its_own(self) -> None:
        def task() -> None:
            with time_limit(0.05):
                busy()

        def child() -> None:
            try:
                in_other_thread(task)
            except TaskTimeout:
                os._exit(7)

        with pytest.raises(TaskTimeout):
            in_other_thread(task)
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(FOR_EVER)
        assert process.exitcode == 7

    def test_a_wait_in_c_ends_first(self) -> None:
        begun = time.monotonic()

        def task() -> None:
            with time_limit(0.02):
                time.sleep(0.3)

        with pytest.raises(TaskTimeout):
            in_other_thread(task)
        assert time.monotonic() - begun >= 0.3


class TestCoroutines:
    def test_what_is_in_time_returns(self) -> None:
        async def task() -> str:
            await asyncio.sleep(0)
            return "done"

        assert asyncio.run(awaited_within(task(), FOR_EVER)) == "done"
        assert asyncio.run(awaited_within(task(), None)) == "done"

    def test_what_takes_longer_is_cancelled_and_says_where(self) -> None:
        cleaned_up: list[str] = []

        async def task() -> None:
            try:
                await asyncio.sleep(FOR_EVER)
            finally:
                cleaned_up.append("yes")

        with pytest.raises(TaskTimeout, match="timeout of 0.02 seconds") as raised:
            asyncio.run(awaited_within(task(), 0.02))
        assert cleaned_up == ["yes"]
        cause = raised.value.__cause__
        assert isinstance(cause, asyncio.CancelledError)
        assert cause.__traceback__ is not None

    def test_a_timeout_error_of_the_task_stays_one(self) -> None:
        async def at_once() -> NoReturn:
            raise TimeoutError("of the task")

        async def when_cancelled() -> NoReturn:
            try:
                await asyncio.sleep(FOR_EVER)
            except asyncio.CancelledError:
                raise TimeoutError("of the task") from None
            raise AssertionError

        async def within_the_task() -> None:
            async with asyncio.timeout(0.02):
                await asyncio.sleep(FOR_EVER)

        for task in (at_once(), when_cancelled(), within_the_task()):
            with pytest.raises(TimeoutError):
                asyncio.run(awaited_within(task, 0.2))

    def test_a_cancellation_from_outside_stays_one(self) -> None:
        async def main() -> None:
            task = asyncio.create_task(awaited_within(asyncio.sleep(FOR_EVER), FOR_EVER))
            await asyncio.sleep(0)
            task.cancel()
            await task

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(main())

    def test_a_broad_except_does_not_swallow_it(self) -> None:
        async def task() -> None:
            try:
                await asyncio.sleep(FOR_EVER)
            except Exception:
                raise AssertionError from None

        with pytest.raises(TaskTimeout):
            asyncio.run(awaited_within(task(), 0.02))
