"""The type checker accepts typed jobs as users write them, and none of their mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

pytestmark = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="No database is needed, so it is tested once."
)

ROOT = Path(__file__).parents[2]
MISTAKES = ROOT / "tests" / "types" / "mistakes.py"


def mypy(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mypy", *arguments],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_correct_code_is_accepted_and_each_mistake_is_refused() -> None:
    checked = mypy("tests/types")
    assert checked.returncode == 0, checked.stdout


def test_a_mistake_that_is_none_any_more_would_be_noticed(tmp_path: Path) -> None:
    repaired = tmp_path / "repaired.py"
    wrong = 'welcome.enqueue(workspace={"user_id": 1})'
    assert wrong in MISTAKES.read_text()
    right = "welcome.enqueue(workspace=Welcome(user_id=1))"
    repaired.write_text(MISTAKES.read_text().replace(wrong, right))
    checked = mypy(str(repaired))
    assert checked.returncode == 1
    [error, summary] = checked.stdout.splitlines()
    assert 'Unused "type: ignore" comment' in error
    assert summary.startswith("Found 1 error")
