"""The gate behind which workers that are ready wait, so that all of them start at once."""

import os
import time
from pathlib import Path


def wait_for_gate() -> None:
    """Say that this process is ready, and return when the gate opens."""
    gate = Path(os.environ["DBQ_BENCHMARK_GATE"])
    Path(f"{gate}.{os.getpid()}").touch()
    while not gate.exists():
        time.sleep(0.001)
