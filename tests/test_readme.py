"""The README's quickstart, pasted into a fresh project, does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

from django_dbq.models import Job

README = Path(__file__).parent.parent / "README.md"


def section(title: str) -> str:
    text = README.read_text()
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def run(command: str, folder: Path) -> str:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "DBQ_"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    ran = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="a fresh project is on SQLite")
def test_the_quickstart_works_in_a_fresh_project(tmp_path: Path) -> None:
    quickstart = section("Quickstart")
    run("python -m django startproject mysite .", tmp_path)
    for block in blocks(quickstart, "python"):
        name, code = block.removeprefix("# ").split("\n", 1)
        with (tmp_path / name).open("a") as file:
            file.write(code)

    [_install, *sessions] = blocks(quickstart, "console")
    expected: list[str] = []
    printed: list[str] = []
    for line in "".join(sessions).splitlines():
        if line.startswith("$ "):
            printed += run(line[2:], tmp_path).splitlines()
        else:
            expected.append(line)
    # Django 5.2 and later say what the shell has imported; times differ from run to run.
    timeless = [re.sub(r"[\d.]+ s, \d+ jobs/s", "", line) for line in printed]
    for line in expected:
        assert re.sub(r"[\d.]+ s, \d+ jobs/s", "", line) in timeless
    assert connection.vendor == "sqlite"


def test_every_link_within_the_readme_leads_somewhere() -> None:
    text = README.read_text()
    anchors = {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    }
    links = set(re.findall(r"\]\(#([^)]+)\)", text))
    assert links <= anchors


def test_the_states_are_drawn_from_text() -> None:
    [diagram] = blocks(section("Jobs"), "mermaid")
    assert diagram.startswith("stateDiagram-v2\n")
    assert set(re.findall(r"[A-Z]{3,}", diagram)) == set(Job.STATES)


def test_the_table_of_checks_is_complete() -> None:
    source = (README.parent / "django_dbq" / "checks.py").read_text()
    assert set(re.findall(r"django_dbq\.E\d+", source)) == set(
        re.findall(r"`(django_dbq\.E\d+)` \|", README.read_text())
    )
