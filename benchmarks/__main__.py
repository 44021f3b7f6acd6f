"""``python -m benchmarks``: what django-dbq does, side by side with others, in one run.

On each database, rounds in which the contenders take turns; quoted are the medians of the ratios
to one of them in the same round. ``make bench`` runs it with a quarter of the jobs;
``make bench-peers`` with all of them, and the peers.
"""

import argparse
import os
import re
import sys
import time
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from benchmarks.contenders import Contender, peers
from benchmarks.interpreter import interpreter, interpreter_of
from benchmarks.measure import ONE, TWO, Effort, measure
from benchmarks.peers.environments import redis_url
from benchmarks.plot import plot
from benchmarks.publish import publish
from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.servers import serve
from tests.databases import Unavailable

DATABASES = ("postgresql", "sqlite", "mariadb")


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", type=float, default=1.0, help="of the usual number of jobs")
    parser.add_argument("--databases", nargs="*", default=DATABASES, choices=DATABASES)
    parser.add_argument("--peers", action="store_true", help="measure other queues as well")
    parser.add_argument("--json", type=Path, help="where to write all values")
    parser.add_argument("--plot", type=Path, help="where to write the plot")
    parser.add_argument(
        "--publish", action="store_true", help="bring the files that the README shows up to date"
    )
    options = parser.parse_args()
    if options.publish and options.part != 1:
        parser.error("--publish is for all of the jobs: leave --part out, or use make bench-peers")
    return options


def run(options: argparse.Namespace) -> Results:
    """Measure all that was asked for."""
    effort = Effort(rounds=options.rounds, part=options.part)
    results = Results(
        machine=f"{interpreter()}, Django {version('Django')}, {os.cpu_count()} cores,"
        f"{'' if effort.part == 1 else f' {effort.part:g} of the usual jobs,'}"
        f" {effort.rounds} rounds, on PostgreSQL"
        f" {effort.rounds_of('postgresql', ONE)} with one process"
        f" and {effort.rounds_of('postgresql', TWO)} with two"
    )
    for database in options.databases:
        try:
            with ExitStack() as stack:
                url, server = stack.enter_context(serve(database))
                others: list[Contender] = []
                if options.peers and database == "postgresql":
                    redis = stack.enter_context(redis_url())
                    others = stack.enter_context(peers(redis, results.missing))
                    environment = {"DATABASE_URL": url, "DBQ_BENCHMARK_RECORD": os.devnull}
                    for each in others:
                        line = each.run("describe", environment=environment)
                        python = interpreter_of(each.command[0])
                        named = re.sub(r"Python [\w.+]+", python, line.strip(), count=1)
                        results.configurations.append(named)
                results.servers[database] = server
                results.series += measure(database, url, effort, others)
        except Unavailable as reason:
            results.missing.append(f"{database}: {reason}")
    return results


def main() -> None:
    """Measure, print the tables, and write what was asked for."""
    options = arguments()
    begin, load = time.monotonic(), os.getloadavg()[0]
    results = run(options)
    # Others who used the machine meanwhile are seen in that; a run of ours comes to about 2.
    results.machine += f", load average {load:.1f} at first and {os.getloadavg()[0]:.1f} at the end"
    print(report(results))
    print(f"\nIt took {(time.monotonic() - begin) / 60:.1f} minutes.", file=sys.stderr)
    if options.json:
        results.write(options.json)
    if options.plot:
        options.plot.write_text(plot(results))
    if options.publish:
        publish(results)


if __name__ == "__main__":
    main()
