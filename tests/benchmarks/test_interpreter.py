"""The interpreter is named, with whose it is."""

import platform
import sys
import sysconfig

import pytest

from benchmarks.interpreter import interpreter, interpreter_of
from benchmarks.peers import environments


@pytest.mark.parametrize(
    ("prefix", "arguments", "name"),
    [
        ("/usr", "'--prefix=/usr'", "the system's {}"),
        ("/home/somebody/.pyenv/versions/3.13.0", "", "pyenv's {}"),
        ("/opt/python", None, "{}"),
        ("/opt/python", "'--enable-optimizations'", "{} (built with optimizations)"),
    ],
)
def test_is_named_with_whose_it_is_and_how_it_was_built(
    prefix: str, arguments: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "base_prefix", prefix)
    monkeypatch.setattr(sysconfig, "get_config_var", {"CONFIG_ARGS": arguments}.get)
    assert interpreter() == name.format(f"Python {platform.python_version()}")


def test_can_be_asked_of_any() -> None:
    assert interpreter_of(sys.executable) == interpreter()


@pytest.mark.parametrize(("version", "ours"), [((3, 12), True), ((3, 11, 9), False)])
def test_is_that_of_the_peers_where_it_is_new_enough(
    version: tuple[int, ...], ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(environments, "runs", "python3.13".__eq__)
    assert environments.base_python.__wrapped__() == (sys.executable if ours else "python3.13")
