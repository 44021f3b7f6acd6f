"""``python -m tests.run``: the whole suite, once per database; arguments are pytest's.

The last lines say which databases were tested and which were not, and why. From the environment:

- ``DATABASE_URL``: test on this database only (``DATABASE_PORT`` overrides its port);
- ``DBQ_DATABASES``: names, with spaces between, of the only databases to test;
- ``MARIADB_URL``: a MariaDB or MySQL that runs already, to be used instead of one of our own;
- ``DBQ_REQUIRED_DATABASES``: names, with spaces between; not to test one of these is a failure.
"""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from types import FrameType

import django

from tests.databases import DATABASES, Unavailable, describe, name_of


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one database."""

    name: str
    text: str
    tested: bool = False
    passed: bool = False


def main(arguments: Sequence[str]) -> int:
    """Test every database, report, and return the exit status."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    results = [test_on(name, arguments) for name in chosen()]
    print(f"\nWith Django {django.get_version()} and Python {platform.python_version()}:")
    for result in results:
        print(f"    {result.text}")
    return exit_status(results, required=os.environ.get("DBQ_REQUIRED_DATABASES", "").split())


def chosen() -> list[str]:
    """Return the names of the databases, with that of ``DATABASE_URL``."""
    names = os.environ.get("DBQ_DATABASES", "").split() or list(DATABASES)
    url = os.environ.get("DATABASE_URL")
    return names if not url else list(dict.fromkeys([*names, name_of(url)]))


def server(name: str) -> AbstractContextManager[str]:
    """Return the context manager that yields the URL of that database."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        return DATABASES[name]()
    if name == name_of(url):
        return nullcontext(url)
    raise Unavailable("DATABASE_URL names another one")


def test_on(name: str, arguments: Sequence[str]) -> Result:
    """Run the suite on one database, if it is to be had."""
    begin = time.monotonic()
    try:
        with server(name) as url:
            product = describe(url)
            print(f"\n{product}", flush=True)
            status = run_pytest(url, arguments)
    except Unavailable as error:
        return Result(name=name, text=f"{name} was not tested: {error}")
    outcome = "passed" if status == 0 else f"FAILED (pytest's exit status was {status})"
    text = f"{product} was tested: {outcome}, in {time.monotonic() - begin:.0f} s"
    return Result(name=name, text=text, tested=True, passed=status == 0)


def run_pytest(url: str, arguments: Sequence[str]) -> int:
    """Run pytest in a process of its own, because Django has one set of databases per process."""
    command = [sys.executable, "-m", "pytest", *arguments]
    with subprocess.Popen(command, env=os.environ | {"DATABASE_URL": url}) as pytest:
        try:
            return pytest.wait()
        except BaseException as error:
            # Its fixtures still have workers and databases to remove. The terminal sent Ctrl-C to
            # pytest as well, and a second one would interrupt just that; what killed us did not.
            if not isinstance(error, KeyboardInterrupt):
                pytest.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                pytest.wait(timeout=30)
            pytest.kill()
            raise


def exit_status(results: Sequence[Result], *, required: Sequence[str]) -> int:
    """Return 0 if all that was tested passed, and nothing is missing that had to be tested."""
    tested = {result.name for result in results if result.tested}
    missing = [name for name in required if name not in tested]
    if missing:
        print(f"Required, but not tested: {', '.join(missing)}.")
    passed = all(result.passed for result in results if result.tested)
    return 0 if passed and tested and not missing else 1


def _leave(number: int, frame: FrameType | None) -> None:
    # An exception ends the `with` blocks on its way out: what runs here stops its servers.
    sys.exit(128 + number)


if __name__ == "__main__":
    # A shell has its background commands ignore this one, and pytest would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
