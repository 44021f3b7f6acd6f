"""What the benchmark's command line says, and how the report tells of it."""

import sys

import pytest

from benchmarks.__main__ import arguments, run


def test_a_part_of_the_jobs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--part", "0.25", "--databases"])
    assert ", 0.25 of the usual jobs" in run(arguments()).machine
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--databases"])
    assert "of the usual jobs" not in run(arguments()).machine


def test_a_part_of_the_jobs_is_not_published(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--part", "0.25", "--publish"])
    with pytest.raises(SystemExit):
        arguments()
    assert "--publish is for all of the jobs" in capsys.readouterr().err
