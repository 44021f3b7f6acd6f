"""The program behind ``make demo``: index the standard library of this machine, as a user would.

Each step is a command that also works alone, as ``python examples/manage.py ...``.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import django
from django.core.management import call_command
from django.db import connection

from examples import settings

MANAGE = Path(__file__).resolve().with_name("manage.py")
USER = PASSWORD = "demo"  # noqa: S105


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo, and return the exit status: 0 if every job is accounted for."""
    limit = _limit(arguments)
    # A file's name or an error may hold what this terminal cannot show.
    sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    print(f"Indexing the standard library of Python {platform.python_version()}:")
    print(settings.LIBRARY, end="\n\n")
    make_database()
    call_command("index_library", limit=limit)
    enqueued = count_jobs()
    seconds = run_worker()
    print()
    call_command("index_report")
    print()
    print(f"{enqueued:,} jobs in {seconds:.1f} seconds: {enqueued / seconds:,.0f} jobs per second.")
    print()
    print_directions()
    return exit_status(enqueued)


def make_database() -> None:
    """Begin with an empty database and log, and an administrator to look at them."""
    settings.DIRECTORY.mkdir(parents=True, exist_ok=True)
    # SQLite keeps up to three files: the database, its write-ahead log, and the index of that.
    for path in (settings.LOG, *settings.DIRECTORY.glob(f"{settings.DATABASE.name}*")):
        path.unlink(missing_ok=True)
    os.environ["DJANGO_SETTINGS_MODULE"] = settings.__name__
    django.setup()
    call_command("migrate", verbosity=0)
    # The file remembers it. From Django 5.1 on, the settings do it for each connection.
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")
    os.environ["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
    call_command("createsuperuser", username=USER, email="", interactive=False, verbosity=0)


def run_worker() -> float:
    """Run a worker, in a process of its own, until no job is due; return the seconds it took."""
    begin = time.monotonic()
    command = [sys.executable, str(MANAGE), "worker", "--burst", "--rate_limit", "0"]
    subprocess.run(command, check=True)  # noqa: S603
    return time.monotonic() - begin


def count_jobs(*states: str) -> int:
    """Return how many jobs there are, in these states or in any."""
    from django_dbq.models import Job  # noqa: PLC0415 - there are no models before django.setup()

    return Job.objects.filter(state__in=states or Job.STATES.values).count()


def complete_files() -> int:
    """Return how many files were indexed, as their jobs have it."""
    from django_dbq.models import Job  # noqa: PLC0415 - as above

    return Job.objects.filter(name="index_file", state=Job.STATES.COMPLETE).count()


def count_modules() -> int:
    """Return how many modules stand in the index."""
    from examples.library_index.models import Module  # noqa: PLC0415 - as above

    return Module.objects.count()


def exit_status(enqueued: int) -> int:
    """Return 0 if every job ended, and the index has exactly the files whose job is COMPLETE."""
    complete, failed, modules = count_jobs("COMPLETE"), count_jobs("FAILED"), count_modules()
    if complete + failed == enqueued and complete_files() == modules > 0:
        return 0
    print(
        f"\nSomething is wrong: of {enqueued:,} jobs, {complete:,} are COMPLETE and {failed:,}"
        f" FAILED, and the index has {modules:,} modules. The log: {settings.LOG}",
        file=sys.stderr,
    )
    return 1


def print_directions() -> None:
    """Say how to look at all this in the admin."""
    print("Look at the jobs and the index in Django's admin:")
    print(f"    {_relative(sys.executable)} {_relative(MANAGE)} runserver")
    print(f"    http://127.0.0.1:8000/    user {USER}, password {PASSWORD}")


def _limit(arguments: Sequence[str] | None) -> int | None:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--limit", type=int, metavar="N", help="index only N files, from all over")
    limit: int | None = parser.parse_args(arguments).limit
    if limit is not None and limit < 1:
        parser.error("--limit is a number of files, 1 or more.")
    return limit


def _relative(path: str | Path) -> Path:
    """Return the path as it is typed in this directory, if it lies below it."""
    path, here = Path(path), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nInterrupted.")
