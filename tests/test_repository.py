"""The repository itself: what is packed, the migrations, and the tests' own tools."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import NoReturn

import pytest
from django.core.management import call_command

from django_dbq.models import Job
from tests import databases, run
from tests.conftest import WorkerProcess

ROOT = Path(__file__).resolve().parent.parent


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", str(tmp_path)], cwd=ROOT, check=True)
    [wheel] = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == {
        path.relative_to(ROOT).as_posix()
        for package in ("django_dbq", "django_dbq_typed")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "django_dbq/py.typed" in packed


@pytest.mark.django_db
def test_the_models_have_no_changes_without_a_migration() -> None:
    out = StringIO()
    call_command("makemigrations", check=True, dry_run=True, stdout=out)
    assert "No changes detected" in out.getvalue()


class TestWorkerProcess:
    def test_works_on_the_test_database(self, worker_process: Callable[..., WorkerProcess]) -> None:
        job = Job.objects.create(name="noop")
        worker = worker_process("--burst", "--rate_limit", "0")
        assert worker.wait() == 0, worker.output
        job.refresh_from_db()
        assert job.state == Job.STATES.COMPLETE

    def test_its_environment_is_the_test_s_to_choose(
        self, worker_process: Callable[..., WorkerProcess]
    ) -> None:
        worker = worker_process("--dry-run", DJANGO_SETTINGS_MODULE="no.such.settings")
        assert worker.wait() != 0
        worker.wait_for_output("No module named 'no'")
        with pytest.raises(AssertionError, match="did not print"):
            worker.wait_for_output("nothing of the kind")


class TestServers:
    @pytest.mark.django_db
    def test_a_server_is_gone_after_its_block(
        self, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MARIADB_URL", raising=False)
        start = databases.DATABASES[{"mysql": "mariadb"}.get(database, database)]
        with pytest.raises(KeyboardInterrupt), start() as url:
            product = databases.describe(url)
            raise KeyboardInterrupt
        assert product.split()[0].lower() == start.__name__
        if database != "sqlite":
            with pytest.raises(databases.Unavailable):
                databases.describe(url)

    def test_a_running_mariadb_is_used_instead_of_one_of_our_own(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("MySQLdb", exc_type=ImportError)
        monkeypatch.setenv("MARIADB_URL", "mysql://somebody@db.example/dbq")
        with databases.mariadb() as url:
            assert url == "mysql://somebody@db.example/dbq"


class TestSettings:
    def test_the_port_of_a_server_on_the_network_can_be_overridden(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = "postgresql://somebody@db.example:5432/dbq"
        assert databases.settings_for(url)["PORT"] == 5432
        monkeypatch.setenv("DATABASE_PORT", "6543")
        assert databases.settings_for(url)["PORT"] == "6543"
        assert not databases.settings_for("postgresql:///dbq?host=/run/socket")["PORT"]

    @pytest.mark.parametrize("url", ["sqlite:////tmp/dbq", "postgresql:///dbq", "mysql:///dbq"])
    def test_each_alias_is_a_database_of_its_own(self, url: str) -> None:
        default, other = (databases.settings_for(url, alias=name) for name in ("default", "other"))
        assert default["NAME"] != other["NAME"]
        assert default["ENGINE"] == other["ENGINE"]


class TestRun:
    """The runner, with pytest itself left out."""

    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing() -> NoReturn:
            raise databases.Unavailable("nobody brought one")

        for name in ("DATABASE_URL", "MARIADB_URL", "DBQ_DATABASES", "DBQ_REQUIRED_DATABASES"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setitem(databases.DATABASES, "postgresql", missing)
        monkeypatch.setitem(databases.DATABASES, "mariadb", missing)
        monkeypatch.setattr(run, "run_pytest", lambda url, arguments: 0)

    def test_says_what_was_tested_and_what_was_not(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run.main([]) == 0
        with_versions, sqlite, postgresql, mariadb = capsys.readouterr().out.splitlines()[-4:]
        assert with_versions.startswith("With Django ")
        assert sqlite.strip().startswith("SQLite 3.")
        assert " was tested: passed" in sqlite
        assert postgresql.strip() == "postgresql was not tested: nobody brought one"
        assert mariadb.strip() == "mariadb was not tested: nobody brought one"

    def test_a_failure_on_any_database_is_one_of_the_run(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(run, "run_pytest", lambda url, arguments: 1)
        assert run.main([]) == 1
        assert "was tested: FAILED" in capsys.readouterr().out

    def test_a_required_database_that_is_not_there_is_a_failure(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("DBQ_REQUIRED_DATABASES", "sqlite mariadb")
        assert run.main([]) == 1
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == "Required, but not tested: mariadb."

    def test_a_url_chooses_the_only_database(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        urls: list[str] = []

        def run_pytest(url: str, arguments: Sequence[str]) -> int:
            urls.append(url)
            return 0

        monkeypatch.setattr(run, "run_pytest", run_pytest)
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/mine")
        assert run.main([]) == 0
        assert urls == [f"sqlite:///{tmp_path}/mine"]

    @pytest.mark.django_db
    def test_a_server_that_does_not_answer_is_a_failure_if_nothing_else_was_tested(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/dbq")
        assert run.main([]) == 1

    def test_a_terminated_run_lets_the_fixtures_of_its_tests_end(self, tmp_path: Path) -> None:
        started, ended, suite = tmp_path / "started", tmp_path / "ended", tmp_path / "test_it.py"
        suite.write_text(
            "import pathlib, time, pytest\n"
            "@pytest.fixture\n"
            "def resource():\n"
            f"    yield pathlib.Path({str(started)!r}).touch()\n"
            f"    pathlib.Path({str(ended)!r}).touch()\n"
            "def test_it(resource):\n"
            "    time.sleep(60)\n"
        )
        # Ctrl-C is ignored, as in a background command of a shell.
        ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
        arguments = ["-c", str(ROOT / "pyproject.toml"), str(suite)]
        command = [*ignoring, sys.executable, "-m", "tests.run", *arguments]
        url = f"sqlite:///{tmp_path}/mine"
        with subprocess.Popen(command, env=os.environ | {"DATABASE_URL": url}) as runner:
            while not started.exists():
                assert runner.poll() is None
                time.sleep(0.05)
            runner.terminate()
            assert runner.wait(timeout=25) == 128 + signal.SIGTERM
        assert ended.exists()


class TestWithoutMysqlclient:
    """It takes a compiler and headers: where they are missing, all the rest is tested."""

    def test_make_says_so_and_goes_on(self, tmp_path: Path) -> None:
        python = tmp_path / "bin" / "python"
        python.parent.mkdir()
        python.write_text("#!/bin/sh\necho 'no compiler here' >&2\nexit 1\n")
        python.chmod(0o755)
        (tmp_path / ".development").touch()
        make = ["make", "--no-print-directory", "mysqlclient", f"VENV={tmp_path}"]
        ran = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        log = tmp_path / "mysqlclient.log"
        assert ran.stdout == f"mysqlclient cannot be built here; why: {log}\n"
        assert "no compiler here" in log.read_text()

    def test_mariadb_is_named_as_not_tested_and_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> NoReturn:
            raise ImportError(f"No module named {name!r}")

        monkeypatch.setattr("tests.databases.importlib.import_module", missing)
        monkeypatch.delenv("DATABASE_URL", raising=False)
        result = run.test_on("mariadb", [])
        assert not result.tested
        assert result.text.startswith("mariadb was not tested: mysqlclient cannot be imported")
        assert "apt-get install gcc pkg-config default-libmysqlclient-dev" in result.text
