"""``python -m benchmarks``: what django-dbq does, side by side with the bare loop, in one run.

On each database, rounds in which the contenders take turns; quoted are the medians of the ratios
to the bare loop of the same round. ``make bench`` runs it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.drain import Contender, drain
from tests.databases import DATABASES, describe

BARE = Contender(name="the bare loop", command=[sys.executable, "-m", "benchmarks.bare"])
_OURS = [sys.executable, "-m", "benchmarks.ours"]
OURS = {
    "plain": Contender(name="plain", command=_OURS),
    "three tasks": Contender(name="three tasks", command=_OURS, kind="three", starts=3),
    "workspace changed": Contender(name="workspace changed", command=_OURS, kind="changing"),
    "plain, as the typed": Contender(name="plain, as the typed", command=_OURS, kind="like_typed"),
    "typed": Contender(name="typed", command=_OURS, kind="typed"),
}
#: Jobs per round, and what is drained: by database.
DRAINS: dict[str, tuple[int, Sequence[str]]] = {
    "postgresql": (40_000, list(OURS)),
    "sqlite": (20_000, ["plain", "workspace changed"]),
    "mariadb": (10_000, ["plain", "workspace changed"]),
}
LATENCY_JOBS = 100


def drains(url: str, names: Sequence[str], *, jobs: int, processes: int, rounds: int) -> Any:
    """Return, by contender, the starts per second and the ratios to the bare loop, by round."""
    results: dict[str, Any] = {name: {"rate": [], "ratio": []} for name in [BARE.name, *names]}
    for _ in range(rounds):
        bare = drain(BARE, jobs=jobs, processes=processes, url=url)
        rates = {BARE.name: bare}
        for name in names:
            each = OURS[name]
            rates[name] = drain(each, jobs=jobs // each.starts, processes=processes, url=url)
        for name, rate in rates.items():
            results[name]["rate"].append(round(rate))
            results[name]["ratio"].append(round(rate / bare, 3))
    return results


def ask(module: str, *arguments: object, url: str) -> str:
    """Run one of the other measurements in a process of its own; return its last line."""
    words = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    environment = os.environ | {"DATABASE_URL": url}
    ran = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout.splitlines()[-1]


def measure(name: str, url: str, rounds: int) -> dict[str, Any]:
    """Return all that is measured on that database."""
    jobs, names = DRAINS[name]
    results: dict[str, Any] = {"server": describe(url)}
    for processes in (1, 2) if name == "postgresql" else (1,):
        results[f"drain, {processes} process(es)"] = drains(
            url, names, jobs=jobs, processes=processes, rounds=rounds
        )
    results["pickup, ms"] = ask("latency", LATENCY_JOBS, url=url)
    if name == "postgresql":
        results["claim of 100, ms"] = json.loads(ask("claims", url=url))
        results["memory, to a bare process"] = json.loads(ask("memory", 50_000, 4, url=url))
    return results


def report(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as tables in Markdown."""
    lines: list[str] = []
    for measured in results.values():
        lines += [f"\n{measured['server']}", "", "| | starts/s | to the bare loop | from | to |"]
        lines.append("| --- | ---: | ---: | ---: | ---: |")
        for title, rows in measured.items():
            if not title.startswith("drain"):
                continue
            for contender, row in rows.items():
                ratios = row["ratio"]
                lines.append(
                    f"| {contender}, {title.removeprefix('drain, ')} |"
                    f" {statistics.median(row['rate']):,.0f} | {statistics.median(ratios):.2f} |"
                    f" {min(ratios):.2f} | {max(ratios):.2f} |"
                )
        lines += [
            f"\n{title}: {value}"
            for title, value in measured.items()
            if not title.startswith(("drain", "server"))
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print the tables, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--databases", nargs="*", default=list(DRAINS))
    parser.add_argument("--json", type=Path, help="where to write everything that was measured")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.rounds} rounds")
    results: dict[str, dict[str, Any]] = {}
    for name in options.databases:
        with DATABASES[name]() as url:
            results[name] = measure(name, url, options.rounds)
    print(report(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
