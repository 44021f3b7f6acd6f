"""The database goes away: how long a worker waits, and what it says of it."""

import pytest
from django.db import OperationalError

from django_dbq.weather import FIRST_PAUSE, LONGEST_PAUSE, Weather
from tests.conftest import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def weather(clock: Clock) -> Weather:
    return Weather("test", clock=clock)


def test_the_pauses_grow_up_to_a_limit_and_begin_anew(weather: Weather) -> None:
    pauses = [weather.worsened(OperationalError("gone")) for _ in range(10)]
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    weather.cleared()
    assert weather.worsened(OperationalError("gone")) == FIRST_PAUSE


def test_it_is_logged_at_most_once_a_second(
    weather: Weather, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        weather.worsened(OperationalError("the server\nis gone"))
        weather.cleared()
        clock.now += 0.1
    lines = [record.getMessage() for record in caplog.records]
    unavailable = [line for line in lines if "database_unavailable" in line]
    assert len(unavailable) == 3
    assert unavailable[0] == 'event=database_unavailable by=test error="the server is gone"'
    assert sum("event=database_available by=test" in line for line in lines) == 3


def test_that_it_is_back_is_said_once(
    weather: Weather, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    weather.cleared()
    assert caplog.records == []
    weather.worsened(OperationalError("gone"))
    clock.now += 12.34
    weather.cleared()
    weather.cleared()
    assert caplog.text.count("event=database_available by=test after_seconds=12.3") == 1
