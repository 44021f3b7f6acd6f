"""The rooms of the engine import one way."""

import ast
from pathlib import Path

import pytest

import django_dbq
import django_dbq_typed

ROOT = Path(django_dbq.__file__).parent

#: A room may import those before it; rooms in one line do not know each other.
FLOORS = [
    {"errors", "logs", "ids", "indexes", "upstream", "bell", "notices", "deadlines"},
    {"conf", "retries", "timeouts", "weather"},
    {"entries", "tracebacks"},
    {"registry"},
    {"tasks"},
    {"workspace", "clock", "claims", "parking"},
    {"models"},
    {"edits", "backends", "checks", "admin", "limits", "task_connections"},
    {"execution", "stopping"},
    {"batch", "known", "wakeup"},
    {"running", "heartbeat", "writing"},
    {"concurrency", "intake"},
    {"dispatcher"},
    {"worker"},
    {"supervisor"},
    {"management"},
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it the statement stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_of(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports(path) if name.startswith("django_dbq.")}
    return names - {"__version__"}


TYPED = Path(django_dbq_typed.__file__).parent


@pytest.mark.parametrize("path", sorted(TYPED.rglob("*.py")), ids=lambda path: path.name)
def test_the_typed_layer_knows_only_what_jobs_are_and_nothing_that_runs_them(path: Path) -> None:
    assert rooms_of(path) <= {"registry", "retries", "errors", "workspace", "models"}


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room in ("migrations", "apps", "__init__"):
        return
    upward = {other for other in rooms_of(path) - {room} if HEIGHT[other] >= HEIGHT[room]}
    assert not upward, f"{room} must not import {upward}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_engine_knows_neither_pydantic_nor_the_typed_layer(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"pydantic", "django_dbq_typed", "tests"}
