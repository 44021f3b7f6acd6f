"""The interpreter is named, with whose it is."""

import platform
import sys

import pytest

from benchmarks.interpreter import interpreter, interpreter_of


@pytest.mark.parametrize(
    ("prefix", "whose"),
    [
        ("/usr", "the system's "),
        ("/home/somebody/.pyenv/versions/3.13.0", "pyenv's "),
        ("/opt/python", ""),
    ],
)
def test_is_named_with_whose_it_is(
    prefix: str, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "base_prefix", prefix)
    assert interpreter() == f"{whose}Python {platform.python_version()}"


def test_can_be_asked_of_any() -> None:
    assert interpreter_of(sys.executable) == interpreter()
