"""What the peers run in: a virtual environment each, our Python where it will do, and a Redis."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from benchmarks.interpreter import interpreter_of

#: The names of the peers, which are those of their folders.
PEERS: list[str] = ["django_tasks_db", "dj_queue", "procrastinate", "oban", "celery", "huey"]

#: The peers that want ``$REDIS_URL``; the others want ``$DATABASE_URL``.
ON_REDIS: frozenset[str] = frozenset({"celery", "huey"})

#: Some of the peers run on nothing older.
_OLDEST = (3, 12)
#: Where ours is older: the newest first.
_VERSIONS = ("3.13", "3.12")
_HERE = Path(__file__).resolve().parent
_ENVIRONMENTS = _HERE.parents[1] / ".benchmarks"
_REDIS_SECONDS = 5.0


class NoPython(Exception):
    """No Python that the peers run on: run this with 3.12 or newer, or install 3.13 or 3.12."""


class NoRedis(Exception):
    """The private Redis did not start."""


def script_of(name: str) -> Path:
    """Return the script of the peer of that name."""
    return _HERE / name / "peer.py"


def python_of(name: str) -> Path:
    """Return the Python of that peer's virtual environment, which is made if it is not there.

    It is made anew when the requirements or the Python change. Raises `NoPython`, and
    ``CalledProcessError`` when a requirement cannot be installed.
    """
    requirements = _HERE / name / "requirements.txt"
    base = base_python()
    environment = _ENVIRONMENTS / name
    python = environment / "bin" / "python"
    stamp = environment / "stamp"
    # Not by its path alone, which is the same for whatever Python an environment is made with.
    version = f"{base} {interpreter_of(base)}"
    digest = hashlib.sha256(requirements.read_bytes() + version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    subprocess.run([base, "-m", "venv", "--clear", environment], check=True)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--requirement", str(requirements)], check=True)
    # Last, so that what was interrupted is made anew.
    stamp.write_text(digest)
    return python


@contextmanager
def redis_url() -> Iterator[str | None]:
    """Give ``$REDIS_URL``, or a Redis of our own that ends with the block, or None without one.

    Ours writes nothing to disk: the fastest that Redis can be. Raises `NoRedis`.
    """
    if url := os.environ.get("REDIS_URL"):
        yield url
    elif program := shutil.which("redis-server"):
        with tempfile.TemporaryDirectory(prefix="dbq-redis-") as folder:
            # A port and not a socket, whose URL each client spells differently.
            port = _free_port()
            options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", folder]
            options += ["--save", "", "--appendonly", "no"]
            with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
                try:
                    _wait_for(server, port)
                    yield f"redis://127.0.0.1:{port}/0"
                finally:
                    server.terminate()
    else:
        yield None


@cache
def base_python() -> str:
    """Return the Python of the peers: ours, unless that is too old for them. Raises `NoPython`."""
    if sys.version_info >= _OLDEST:
        return sys.executable
    for version in _VERSIONS:
        by_pyenv = (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")
        for candidate in [f"python{version}", *map(str, by_pyenv)]:
            if runs(candidate):
                return candidate
    raise NoPython(NoPython.__doc__)


def runs(python: str) -> bool:
    """Return whether that Python runs, and can make a virtual environment."""
    # Being on the PATH is not enough: it may be a launcher for a version that is not chosen.
    try:
        subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return False
    return True


def _free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_for(server: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + _REDIS_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            with closing(socket.create_connection(("127.0.0.1", port), timeout=1)):
                return
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise NoRedis(f"{NoRedis.__doc__} Port {port}, exit status {server.poll()}.")
