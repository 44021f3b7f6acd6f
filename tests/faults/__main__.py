"""``python -m tests.faults``: the fault suite, on every database that is to be had.

Prints a line per scenario and database, and all of them again at the end; the exit status is 1 if
one failed. The databases have their turn at the same time: most of it is waiting.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from tests.databases import DATABASES
from tests.faults.suite import play, result_of


def main() -> int:
    """Play the scenarios, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the full figures, for an hour or more")
    parser.add_argument("--databases", nargs="+", choices=[*DATABASES], default=[*DATABASES])
    parser.add_argument("--only", nargs="+", type=int, metavar="N", help="these scenarios alone")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: 1)")
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.results:
        return _play_on_one(options)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dbq-faults-") as directory:
        results = _play_on_all(options, Path(directory))
    return _report(results, time.monotonic() - begin)


def _play_on_all(options: argparse.Namespace, directory: Path) -> list[dict[str, Any]]:
    """Play on each database in a process of its own, since Django has one set of them in each."""
    files = {name: directory / f"{name}.json" for name in options.databases}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, file in files.items():
            command = [sys.executable, "-m", "tests.faults", "--databases", name]
            command += ["--seed", str(options.seed), "--results", str(file)]
            command += ["--long"] if options.long else []
            command += ["--only", *map(str, options.only)] if options.only else []
            processes.append(subprocess.Popen(command))
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()
    results: list[dict[str, Any]] = []
    for name, file in files.items():
        if file.exists():
            results += json.loads(file.read_text())
        else:
            results.append(result_of(name, 0, "the suite itself", "FAILED", "it came to no end"))
    return results


def _play_on_one(options: argparse.Namespace) -> int:
    """Play on one database, and write the results to a file."""
    [name] = options.databases
    results = play(name, only=options.only, long=options.long, seed=options.seed)
    options.results.write_text(json.dumps(results))
    return 0


def _report(results: Sequence[dict[str, Any]], seconds: float, out: TextIO = sys.stdout) -> int:
    """Print all results in the order of the scenarios; return the exit status."""
    out.write("\n")
    # What failed comes last: of a long log often no more than the end is kept.
    for result in sorted(results, key=lambda it: (it["outcome"] == "FAILED", it["number"])):
        text = result["text"].splitlines()[0][:300]  # all of it stands above
        line = "{number:3} {database:11} {outcome:7} {name}: ".format_map(result)
        out.write(f"{line}{text}\n")
    failed = sum(result["outcome"] == "FAILED" for result in results)
    out.write(f"{len(results)} scenarios in {seconds:.0f} s, {failed} of them FAILED\n")
    required = os.environ.get("DBQ_REQUIRED_DATABASES", "").split()
    played = {result["database"] for result in results if result["outcome"] == "ok"}
    if missing := [name for name in required if name not in played]:
        out.write(f"Required, but not played: {', '.join(missing)}.\n")
    return 1 if failed or missing else 0


def _leave(number: int, frame: FrameType | None) -> None:
    # An exception ends the `with` blocks on its way out: what runs here stops its servers.
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
