"""The benchmark at work, on a few jobs: on the test database, since it empties the table."""

import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection

from benchmarks.attendant import Attendant
from benchmarks.bare import DEADLOCK, OnMariaDB
from benchmarks.contenders import BARE, CHANGING, PLAIN, THREE, TYPED, Contender
from benchmarks.drain import Unaccounted, drain, drains
from benchmarks.latency import LATER
from benchmarks.measure import ask
from django_dbq.models import Job


@pytest.fixture
def url(transactional_db: None) -> Iterator[str]:
    """The URL of the test database, which gets rid of the benchmark's own tables afterwards."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        yield f"sqlite:///{name}"
    else:
        yield urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    for table in connection.introspection.table_names():
        if table.startswith(("benchmark_", "bare_job")):
            with connection.cursor() as cursor:
                cursor.execute(f"DROP TABLE {table}")


@pytest.mark.parametrize(
    "contender", [BARE, PLAIN, TYPED, THREE, CHANGING], ids=lambda contender: contender.name
)
def test_every_start_is_counted(contender: Contender, url: str) -> None:
    with Attendant(url) as attendant:
        assert drain(contender, jobs=30, processes=2, attendant=attendant) >= 0


def test_a_bare_loop_survives_a_deadlock_with_another(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "mysql":
        pytest.skip("MariaDB undoes one of two transactions")
    loop = OnMariaDB(url)
    loop.create(30)
    execute, fallen = loop._execute, set[str]()

    def fall_once(statement: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        if statement.startswith("UPDATE") and statement not in fallen:
            fallen.add(statement)
            loop.connection.rollback()
            raise loop.error(DEADLOCK, "Deadlock found when trying to get lock")
        return execute(statement, parameters)

    monkeypatch.setattr(loop, "_execute", fall_once)
    assert (loop.run(), loop.left(), len(fallen)) == (30, 0, 2)
    loop.connection.close()


def test_those_that_take_turns_are_compared_to_the_first(url: str) -> None:
    series = drains(
        [PLAIN, CHANGING],
        database="sqlite",
        measurement="a drain",
        jobs=20,
        processes=1,
        rounds=1,
        url=url,
    )
    assert [(each.contender, len(each.values)) for each in series] == [
        (PLAIN.name, 1),
        (CHANGING.name, 1),
    ]
    assert {each.baseline for each in series} == {PLAIN.name}
    assert Job.objects.filter(state=Job.STATES.COMPLETE).count() == 20


def test_a_start_too_many_is_noticed(url: str) -> None:
    twice = Contender(name="twice", command=PLAIN.command, kind="three")
    problem = "twice: 10 jobs, 30 starts of 10, from 3 to 3 of one"
    with Attendant(url) as attendant, pytest.raises(Unaccounted, match=problem):
        drain(twice, jobs=10, processes=1, attendant=attendant)


def test_what_fails_in_the_process_that_stays_ends_the_drain(url: str) -> None:
    unknown = Contender(name="unknown", command=PLAIN.command, kind="unknown")
    with Attendant(url) as attendant:
        with pytest.raises(RuntimeError, match="unknown: create has failed, with exit status 1"):
            drain(unknown, jobs=10, processes=1, attendant=attendant)
        assert drain(PLAIN, jobs=10, processes=1, attendant=attendant) >= 0
        [process] = attendant._processes.values()
        process.kill()
        process.wait()
        with pytest.raises(RuntimeError, match="plain: left has failed, with exit status -9"):
            attendant.run(PLAIN, "left")


def test_creating_jobs_is_measured_by_round(url: str) -> None:
    answer = ask("enqueue", 2, 5, url=url)
    for ways in answer.values():
        assert all(len(rates) == 2 and min(rates) > 0 for rates in ways.values())


def test_the_wait_for_an_idle_worker_is_measured(url: str) -> None:
    answer = ask("latency", 3, url=url)
    assert 0 < answer["p50, of a job for later, from its time"] <= answer[LATER]
    assert 0 < answer["p50"] <= answer["p99"] <= answer["max"]
    assert answer["p50"] < answer["p50, with create itself"]
