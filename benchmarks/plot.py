"""The plot: bars, one group per measurement, as an SVG that needs no library and no script."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from benchmarks.contenders import BARE
from benchmarks.measure import ONE, PEERS, TWO
from benchmarks.results import Results

TITLES = {"postgresql": "PostgreSQL", "sqlite": "SQLite", "mariadb": "MariaDB"}
_WIDTH, _LABELS, _NUMBERS, _BAR, _GAP = 760, 210, 150, 16, 6
#: It is shown on a light page or on a dark one.
_STYLE = """
text { font: 13px sans-serif; fill: #333 } .title { font-weight: bold } .line { stroke: #777 }
.bar { fill: #2a78b8 } .bare { fill: #999 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .bar { fill: #4b9bdc } }
"""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One contender: the ratio to the bare loop, its least and largest, and starts per second."""

    name: str
    ratio: float
    least: float
    largest: float
    rate: float


def plot(results: Results) -> str:
    """Return the SVG of the drains, as ratios to the bare loop in the same round."""
    groups = list(_groups(results))
    scale = max((bar.largest for _, bars in groups for bar in bars), default=1)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg")
    ET.SubElement(root, "style").text = _STYLE
    top = 0
    for title, bars in groups:
        top += 24
        _text(root, 0, top, title, style="title")
        for bar in bars:
            top += _BAR + _GAP
            _draw(root, bar, top, scale)
        top += _GAP
    root.set("viewBox", f"0 0 {_WIDTH} {top + 6}")
    root.set("width", str(_WIDTH))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _groups(results: Results) -> Iterator[tuple[str, Sequence[Bar]]]:
    for database in results.servers:
        for measurement in (ONE, TWO, PEERS):
            if bars := _bars(results, database, measurement):
                yield f"{TITLES[database]}: {measurement}, to the bare loop", bars


def _bars(results: Results, database: str, measurement: str) -> list[Bar]:
    bars: list[Bar] = []
    for series in results.series:
        if (series.database, series.measurement) != (database, measurement):
            continue
        baseline = results.find(database, measurement, BARE.name)
        assert baseline
        ratios = series.ratios_to(baseline)
        bars.append(
            Bar(
                name=series.contender,
                ratio=statistics.median(ratios),
                least=min(ratios),
                largest=max(ratios),
                rate=series.median,
            )
        )
    return bars


def _draw(root: ET.Element, bar: Bar, top: int, scale: float) -> None:
    def x(ratio: float) -> float:
        return round(_LABELS + (_WIDTH - _LABELS - _NUMBERS) * ratio / scale, 1)

    _text(root, _LABELS - 8, top, bar.name, anchor="end")
    width = max(1, x(bar.ratio) - _LABELS)  # so that there is something to be seen
    style = "bare" if bar.name == BARE.name else "bar"
    _shape(root, "rect", style, x=_LABELS, y=top - _BAR + 4, width=width, height=_BAR)
    middle = top - _BAR / 2 + 4
    _shape(root, "line", "line", x1=x(bar.least), x2=x(bar.largest), y1=middle, y2=middle)
    digits = 3 if bar.ratio < 0.1 else 2
    text = f"{bar.ratio:.{digits}f}  ({bar.rate:,.0f}/s)"
    _text(root, x(max(bar.largest, bar.ratio)) + 6, top, text)


def _shape(root: ET.Element, tag: str, style: str, **numbers: float) -> None:
    attributes = {name: f"{number:g}" for name, number in numbers.items()}
    ET.SubElement(root, tag, {"class": style, **attributes})


def _text(
    root: ET.Element, x: float, y: float, text: str, *, anchor: str = "start", style: str = ""
) -> None:
    attributes = {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor, "class": style}
    ET.SubElement(root, "text", attributes).text = text
