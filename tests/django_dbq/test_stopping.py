"""Requests to stop: none of them gets lost, and only the worker's own count."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from django_dbq.bell import Bell
from django_dbq.stopping import SIGNALS, StopRequests
from tests.conftest import wait_for


@pytest.fixture
def stop() -> StopRequests:
    return StopRequests(Bell())


def after(call: Callable[..., Any], then: Callable[[], object]) -> Callable[..., Any]:
    """Return the call, with something done after it."""

    def called(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        then()
        return result

    return called


def test_a_signal_counts_from_the_moment_that_it_does_nothing_else(
    stop: StopRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first handler and the last step of listening, too."""

    def send() -> None:
        if not stop.count and signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGTERM)
            wait_for(lambda: stop.count == 1, timeout=5)

    monkeypatch.setattr(signal, "signal", after(signal.signal, send))
    with stop.watched():
        assert stop.count == 1


def test_what_was_heard_before_is_heard_again_afterwards(stop: StopRequests) -> None:
    previous = [signal.getsignal(number) for number in SIGNALS]
    with stop.watched():
        assert all(signal.getsignal(number) not in previous for number in SIGNALS)
    assert [signal.getsignal(number) for number in SIGNALS] == previous
    assert signal.set_wakeup_fd(-1) == -1
