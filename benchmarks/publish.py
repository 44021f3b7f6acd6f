"""``python -m benchmarks.publish``: the README's table and plot, made again from the results."""

from pathlib import Path

from benchmarks.plot import plot
from benchmarks.report import report
from benchmarks.results import Results

_ROOT = Path(__file__).resolve().parent.parent
RESULTS = _ROOT / "benchmarks" / "results.json"
PLOT = _ROOT / "docs" / "benchmark.svg"
README = _ROOT / "README.md"
#: Between these lines of the README stands what the run has measured.
BEGIN, END = "<!-- benchmark: begin -->\n", "<!-- benchmark: end -->\n"


def publish(results: Results) -> None:
    """Write the results, the plot and the README's table."""
    results.write(RESULTS)
    PLOT.write_text(plot(results))
    README.write_text(with_table(README.read_text(), results))


def with_table(readme: str, results: Results) -> str:
    """Return the README with the tables of these results."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{report(results)}\n\n{END}{after}"


if __name__ == "__main__":
    publish(Results.read(RESULTS))
