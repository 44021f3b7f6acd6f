"""``python -m examples.demo``: the project that users see first, run as they run it."""

import os
import re
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

pytestmark = pytest.mark.skipif(
    connection.vendor != "sqlite",
    reason="The demo has a database of its own, which is SQLite.",
)

REPOSITORY = Path(__file__).resolve().parents[2]

SOURCES = {
    "alone.py": b"import os, os.path\nasync def wait(): ...\n",
    "package/__init__.py": b"from . import inner\n",
    "package/inner.py": b"# coding: latin-1\nclass Sp\xe9cial:\n    def method(self): '\\d'\n",
    "package/loop.py": b"while True:\n    from json import dumps\n    def again(): ...\n",
    "bad_syntax.py": b"print 'Python 2'\n",
    "bad_encoding.py": b"# coding: uft-8\n",
    "bad_bytes.py": b"name = '\xff'\n",
    "site-packages/installed.py": b"import pip\n",
}
REASONS = {
    "bad_syntax.py": "SyntaxError: Missing parentheses in call to 'print'.",
    "bad_encoding.py": "SyntaxError: unknown encoding: uft-8",
    "bad_bytes.py": "SyntaxError: invalid or missing encoding declaration",
}

LOSING = """
from examples import demo

def run_worker(run=demo.run_worker):
    from django_dbq.models import Job
    seconds = run()
    Job.objects.filter(state="FAILED").update(state="PROCESSING")
    return seconds

demo.run_worker = run_worker
raise SystemExit(demo.main([]))
"""


class Demo:
    """A directory in which the demo is run, and what it leaves there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.library: Path | None = None

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self._python("-m", "examples.demo", *arguments)

    def run_with_lost_jobs(self) -> "subprocess.CompletedProcess[str]":
        """Run the demo with a worker that leaves behind what it should have called FAILED."""
        return self._python("-c", LOSING)

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self._python("examples/manage.py", *arguments)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self._database() as connection:
            return connection.execute(sql).fetchall()

    def change(self, sql: str) -> None:
        with self._database() as connection, connection:
            connection.execute(sql)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.directory / "demo.sqlite3")) as connection:
            yield connection

    def _python(self, *command: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            **os.environ,
            "DEMO_DIRECTORY": str(self.directory),
            "DEMO_LIBRARY": str(self.library or ""),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONUTF8": "1",
        }
        # The test run's own settings are not those of the demo.
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        return subprocess.run(
            [sys.executable, *command],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path / "run")


@pytest.fixture
def small_library(demo: Demo, tmp_path: Path) -> Path:
    """Let the demo index a few files that we know, some of them broken."""
    demo.library = tmp_path / "library"
    for name, content in SOURCES.items():
        path = demo.library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return demo.library


def test_a_sample_of_the_standard_library_is_indexed(demo: Demo) -> None:
    run = demo.run("--limit", "50")

    assert (run.returncode, run.stderr) == (0, ""), run.stderr
    states: dict[str, int] = dict(
        demo.query(
            "SELECT state, COUNT(*) FROM django_dbq_job WHERE name = 'index_file' GROUP BY state"
        )
    )
    assert sum(states.values()) == 50
    assert states.keys() <= {"COMPLETE", "FAILED"}
    report = run.stdout.partition("Jobs by state")[2]
    # Some systems install the library without its tests, and these files are among them.
    if Path(sysconfig.get_path("stdlib"), "test/tokenizedata/bad_coding.py").exists():
        assert states["FAILED"] > 0
        assert re.search(r"^test/tokenizedata/bad.* in (read|parse)\n +SyntaxError: ", report, re.M)
    assert demo.query("SELECT COUNT(*) FROM library_index_module") == [(states["COMPLETE"],)]
    # The seconds, the log and the widths are the same for a whole library.
    assert re.search(r"^\d+ jobs in \d+\.\d seconds: \d+ jobs per second\.$", run.stdout, re.M)
    assert "examples/manage.py runserver" in run.stdout
    for title in ("Found", "Most imported", "Largest packages", "Files that failed"):
        assert title in report
    assert max(len(line) for line in report.splitlines()) <= 80
    assert demo.query("SELECT username, is_superuser FROM auth_user") == [("demo", 1)]


def test_files_that_do_not_parse_or_decode_fail_with_their_reason(
    demo: Demo, small_library: Path
) -> None:
    run = demo.run()

    assert (run.returncode, run.stderr) == (0, ""), run.stderr
    lines = run.stdout.splitlines()
    assert re.search(r"^COMPLETE +5 ", run.stdout, re.M)
    assert re.search(r"^FAILED +3 ", run.stdout, re.M)
    failures = lines.index("Files that failed: 3")
    shown = "\n".join(lines[failures:])
    for path, reason in REASONS.items():
        assert re.search(rf"^{path} .*\n  {re.escape(reason)}", shown, re.M), shown
    failed = demo.query(
        "SELECT json_extract(workspace, '$.path'), error FROM django_dbq_job WHERE state = 'FAILED'"
    )
    assert {path for path, _ in failed} == REASONS.keys()
    assert all(str(error).splitlines()[-1].startswith("SyntaxError: ") for _, error in failed)


def test_the_index_holds_definitions_and_imports(demo: Demo, small_library: Path) -> None:
    demo.run()

    definitions = demo.query(
        "SELECT m.name, d.kind, d.name, d.line FROM library_index_definition d"
        " JOIN library_index_module m ON m.id = d.module_id ORDER BY d.id"
    )
    assert sorted(definitions) == [
        ("alone", "function", "wait", 2),
        ("package.inner", "class", "Spécial", 2),
        ("package.inner", "function", "Spécial.method", 3),
        ("package.loop", "function", "again", 3),
    ]
    imports = demo.query(
        "SELECT m.name, i.name FROM library_index_import i"
        " JOIN library_index_module m ON m.id = i.module_id"
    )
    assert sorted(imports) == [("alone", "os"), ("package.loop", "json")]
    assert demo.query(
        "SELECT encoding, lines FROM library_index_module WHERE name LIKE '%inner'"
    ) == [("iso-8859-1", 3)]
    # What was found has moved from the workspaces into the index.
    assert demo.query("SELECT id FROM django_dbq_job WHERE workspace LIKE '%definitions%'") == []


def test_tasks_that_run_again_leave_the_same_index(demo: Demo, small_library: Path) -> None:
    demo.run()
    index = "SELECT m.path, d.name FROM library_index_module m JOIN library_index_definition d"
    before = demo.query(f"{index} ON d.module_id = m.id ORDER BY 1, 2")

    demo.change("UPDATE django_dbq_job SET state = 'NEW', next_task = ''")
    worker = demo.manage("worker", "--burst", "--rate_limit", "0")

    assert "5 job(s) complete, 3 failed" in worker.stdout
    assert demo.query(f"{index} ON d.module_id = m.id ORDER BY 1, 2") == before


def test_a_file_that_no_longer_parses_leaves_the_index(demo: Demo, small_library: Path) -> None:
    demo.run()

    (small_library / "alone.py").write_bytes(b"import\n")
    demo.manage("index_library")
    demo.manage("worker", "--burst", "--rate_limit", "0")

    paths = {path for (path,) in demo.query("SELECT path FROM library_index_module")}
    assert paths == {"package/__init__.py", "package/inner.py", "package/loop.py"}


def test_typed_jobs_sum_up_the_packages_when_their_files_are_indexed(
    demo: Demo, small_library: Path
) -> None:
    run = demo.run()

    summaries = demo.query(
        "SELECT json_extract(workspace, '$.package'), json_extract(workspace, '$.modules'),"
        " json_extract(workspace, '$.lines'), priority FROM django_dbq_job"
        " WHERE name = 'sum_up_package'"
    )
    assert summaries == [("package", 3, 7, -1)]
    assert re.search(r"Largest packages, by lines\n.*\n.* package +7$", run.stdout, re.M)


def test_nothing_to_index_is_an_error(demo: Demo, small_library: Path) -> None:
    for path in small_library.rglob("*.py"):
        path.unlink()

    run = demo.run()

    assert run.returncode == 1
    assert "Something is wrong: of 0 jobs" in run.stderr


def test_jobs_that_have_not_ended_are_an_error(demo: Demo, small_library: Path) -> None:
    run = demo.run_with_lost_jobs()

    assert run.returncode == 1
    assert "Something is wrong: of 8 jobs, 5 are COMPLETE and 0 FAILED" in run.stderr
    assert re.search(r"^PROCESSING +3 ", run.stdout, re.M)


def test_the_project_passes_its_checks_and_has_all_its_migrations(demo: Demo) -> None:
    demo.directory.mkdir()
    for command in (["check"], ["makemigrations", "--check", "--dry-run"]):
        run = demo.manage(*command)
        assert run.returncode == 0, run.stdout + run.stderr
