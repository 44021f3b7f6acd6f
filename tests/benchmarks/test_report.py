from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.contenders import BARE, PLAIN
from benchmarks.figures import FIGURES, verdicts
from benchmarks.measure import ONE, PEERS
from benchmarks.plot import plot
from benchmarks.publish import PLOT, README, RESULTS, with_table
from benchmarks.report import report, table
from benchmarks.results import Results, Series


def series(contender: str, values: list[float], measurement: str = ONE) -> Series:
    return Series(
        database="postgresql",
        measurement=measurement,
        contender=contender,
        unit="starts/s",
        values=values,
        baseline=BARE.name,
    )


@pytest.fixture
def results() -> Results:
    return Results(
        machine="a machine",
        servers={"postgresql": "PostgreSQL 18: fsync on"},
        configurations=["a peer: at its best"],
        missing=["celery: no Redis"],
        series=[
            series(BARE.name, [1000, 2000, 4000]),
            series(PLAIN.name, [2000, 3000, 4000]),
            series(BARE.name, [1000], PEERS),
            series(PLAIN.name, [2000], PEERS),
            series("procrastinate", [100], PEERS),
        ],
    )


def test_results_are_read_as_they_were_written(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results


def test_a_ratio_is_taken_within_each_round(results: Results) -> None:
    assert "| plain | 3,000 | starts/s | 1.50 | 1.00 | 2.00 |" in table(results, "postgresql")


def test_the_report_says_how_it_was_measured_and_what_was_not(results: Results) -> None:
    text = report(results)
    for part in ("a machine", "fsync on", "a peer: at its best", "celery: no Redis"):
        assert part in text


def test_each_figure_is_reached_or_not_or_was_not_measured(results: Results) -> None:
    rows = verdicts(results).splitlines()[2:]
    assert len(rows) == len(FIGURES)
    assert rows[0] == "| PostgreSQL, one process: plain to the bare loop | ≥ 1.5 | 1.5 | yes |"
    assert "| to the fastest peer in Python on a database | ≥ 10 | 20 | yes |" in rows
    assert rows[1].endswith("| not measured |")
    results.series[1] = series(PLAIN.name, [1000, 2000, 4000])
    assert verdicts(results).splitlines()[2].endswith("| 1 | **no** |")


def test_the_plot_has_a_bar_for_each_contender(results: Results) -> None:
    root = ET.fromstring(plot(results))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}rect")) == 5
    texts = {text.text for text in root.findall(f"{space}text")}
    assert {BARE.name, PLAIN.name, "procrastinate", "0.10  (100/s)"} <= texts


def test_the_readme_and_the_plot_show_the_results_that_are_kept() -> None:
    kept = Results.read(RESULTS)
    assert README.read_text() == with_table(README.read_text(), kept)
    assert PLOT.read_text() == plot(kept)
