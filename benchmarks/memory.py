"""``python -m benchmarks.memory``: a worker in memory, against a bare ``django.setup()``."""

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


def resident(pid: int) -> int:
    """Return the resident memory of a process, in pages."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def main(jobs: int, rounds: int) -> None:
    """Print the ratio to the bare process after each round of that many jobs, as JSON."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    with tempfile.TemporaryDirectory() as directory:
        record, gate = Path(directory, "record"), Path(directory, "gate")
        gate.touch()
        record.touch()
        os.environ |= {"DBQ_BENCHMARK_RECORD": str(record), "DBQ_BENCHMARK_GATE": str(gate)}
        bare = int(
            subprocess.run([sys.executable, "-c", _BARE], check=True, stdout=subprocess.PIPE).stdout
        )
        ours = [sys.executable, "-m", "benchmarks.ours"]
        subprocess.run([*ours, "create", "plain", "0"], check=True)
        worker = subprocess.Popen([*ours, "work", "plain"])
        ratios: list[float] = []
        try:
            for _ in range(rounds):
                subprocess.run([*ours, "create", "plain", str(jobs)], check=True)
                while int(
                    subprocess.run(
                        [*ours, "left", "plain"], check=True, stdout=subprocess.PIPE
                    ).stdout
                ):
                    time.sleep(0.2)
                ratios.append(round(resident(worker.pid) / bare, 2))
        finally:
            worker.terminate()
            worker.wait()
        print(json.dumps(ratios))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
