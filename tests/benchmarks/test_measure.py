"""What is measured, and how much of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import measure
from benchmarks.contenders import PLAIN, Contender


def test_each_process_of_a_drain_has_as_much_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def drains(contenders: object, *, jobs: int, processes: int, **_: Any) -> list[Any]:
        asked.append((processes, jobs))
        return []

    monkeypatch.setattr(measure, "drains", drains)
    measure.drained("postgresql", "", measure.Effort(part=0.5))
    assert asked == [(1, 50_000), (2, 100_000), (1, 50_000)]


@pytest.mark.parametrize(("part", "rounds"), [(1.0, [10, 20, 5]), (0.25, [5, 5, 5])])
def test_a_part_of_the_jobs_has_the_same_rounds_of_every_drain(
    monkeypatch: pytest.MonkeyPatch, part: float, rounds: list[int]
) -> None:
    asked: list[int] = []

    def drains(contenders: object, *, rounds: int, **_: Any) -> list[Any]:
        asked.append(rounds)
        return []

    monkeypatch.setattr(measure, "drains", drains)
    measure.drained("postgresql", "", measure.Effort(part=part))
    assert asked == rounds


def test_a_part_is_of_a_contender_s_own_number_of_jobs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def drains(contenders: Sequence[Contender], **_: Any) -> list[Any]:
        asked.extend(each.jobs for each in contenders)
        return []

    monkeypatch.setattr(measure, "drains", drains)
    a_quarter = measure.Effort(part=0.25)
    measure.drained("postgresql", "", a_quarter)
    measure.beside_peers("postgresql", "", a_quarter, [replace(PLAIN, name="peer", jobs=8)])
    assert [jobs for jobs in asked if jobs is not None] == [250, 2]
