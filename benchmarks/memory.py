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
        _ours("create", "plain", "0")
        sizes = {"a bare process": _megabytes(int(_run("-c", _BARE)))}
        worker = subprocess.Popen([sys.executable, "-m", "benchmarks.ours", "work", "plain"])
        try:
            for number in range(1, rounds + 1):
                _ours("add", "plain", str(jobs))
                while int(_ours("left", "plain")):
                    time.sleep(0.2)
                sizes[f"a worker, after {number * jobs:,} jobs"] = _megabytes(resident(worker.pid))
        finally:
            worker.terminate()
            worker.wait()
        print(json.dumps(sizes))


def resident(pid: int) -> int:
    """Return the resident memory of a process, in pages."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def _megabytes(pages: int) -> float:
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def _ours(*words: str) -> str:
    return _run("-m", "benchmarks.ours", *words)


def _run(*words: str) -> str:
    ran = subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
