"""The results as tables in Markdown."""

import statistics

from benchmarks.figures import verdicts
from benchmarks.results import Results, Series


def report(results: Results) -> str:
    """Return all that was measured, how it was set up, and which of the wanted figures it is."""
    parts = [results.machine]
    for database, server in results.servers.items():
        parts += [server, table(results, database)]
    if results.configurations:
        parts += ["The peers:", "\n".join(f"- {line}" for line in results.configurations)]
    if results.missing:
        parts += ["Not measured:", "\n".join(f"- {line}" for line in results.missing)]
    parts.append(verdicts(results))
    return "\n\n".join(parts)


def table(results: Results, database: str) -> str:
    """Return the table of one database: medians, and ratios with their spread."""
    lines = [
        "| | | median | | ratio | from | to |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    last = ""
    for series in results.series:
        if series.database != database:
            continue
        title = "" if series.measurement == last else series.measurement
        last = series.measurement
        lines.append(
            f"| {title} | {series.contender} | {_number(series.median)} | {series.unit} |"
            f" {_ratios(results, series)} |"
        )
    return "\n".join(lines)


def _ratios(results: Results, series: Series) -> str:
    """Return the cells for the ratio to the baseline: its median, least and largest."""
    if (baseline := results.baseline_of(series)) is None:
        return "| |"
    if baseline is series:
        return "1 | |"
    ratios = series.ratios_to(baseline)
    spread = (min(ratios), max(ratios)) if len(ratios) > 1 else ()
    cells = [f"{value:.3f}" if value < 0.1 else f"{value:.2f}" for value in (*spread,)]
    median = statistics.median(ratios)
    shown = f"{median:.3f}" if median < 0.1 else f"{median:.2f}"
    return " | ".join([shown, *(cells or ["", ""])])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.3g}"
