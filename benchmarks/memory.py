"""``python -m benchmarks.memory JOBS ROUNDS``: a worker's memory, and a bare process's.

The bare process does ``django.setup()`` for the same project and connects with the same driver.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.attendant import Attendant
from benchmarks.contenders import PLAIN

_BARE = """
import os, django
django.setup()
from django.db import connection
connection.ensure_connection()
print(open("/proc/self/statm").read().split()[1])
"""


def main(jobs: int, rounds: int) -> None:
    """Print the megabytes of both, the worker's after each round of that many jobs, as JSON."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    with tempfile.TemporaryDirectory(prefix="dbq-memory-") as directory:
        record, gate = Path(directory, "record"), Path(directory, "gate")
        gate.touch()
        os.environ |= {"DBQ_BENCHMARK_RECORD": str(record), "DBQ_BENCHMARK_GATE": str(gate)}
        with Attendant(os.environ["DATABASE_URL"]) as attendant:
            attendant.run(PLAIN, "create", 0)
            bare = subprocess.check_output([sys.executable, "-c", _BARE])
            sizes = {"a bare process": _megabytes(int(bare))}
            worker = PLAIN.start(environment={})
            try:
                for number in range(1, rounds + 1):
                    attendant.run(PLAIN, "add", jobs)
                    while int(attendant.run(PLAIN, "left")):
                        time.sleep(0.2)
                    size = _megabytes(resident(worker.pid))
                    sizes[f"a worker, after {number * jobs:,} jobs"] = size
            finally:
                worker.terminate()
                worker.wait()
        print(json.dumps(sizes))


def resident(pid: int) -> int:
    """Return the resident memory of a process, in pages."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def _megabytes(pages: int) -> float:
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
