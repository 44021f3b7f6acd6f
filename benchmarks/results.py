"""What a run measured: series of values, round by round, and the ratios between them."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Series:
    """What one contender came to in one measurement, by round.

    ``baseline``: the contender of the same measurement that ratios are taken to, or None.
    """

    database: str
    measurement: str
    contender: str
    unit: str
    values: Sequence[float]
    baseline: str | None = None

    @property
    def median(self) -> float:
        """The value in the middle."""
        return statistics.median(self.values)

    def ratios_to(self, other: "Series") -> list[float]:
        """Return the ratio to the other's value in the same round, for each round."""
        return [mine / its for mine, its in zip(self.values, other.values, strict=True)]


@dataclass(kw_only=True)
class Results:
    """A whole run.

    ``machine``: on what it was made. ``servers``: the databases by name, with their settings.
    ``configurations``: how each peer is set up. ``missing``: what was not measured, and why.
    """

    machine: str
    servers: dict[str, str] = field(default_factory=dict)
    configurations: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)

    def find(self, database: str, measurement: str, contender: str) -> Series | None:
        """Return that series, if it was measured."""
        wanted = (database, measurement, contender)
        for each in self.series:
            if (each.database, each.measurement, each.contender) == wanted:
                return each
        return None

    def baseline_of(self, series: Series) -> Series | None:
        """Return the series that this one is compared to."""
        if series.baseline is None:
            return None
        return self.find(series.database, series.measurement, series.baseline)

    def write(self, path: Path) -> None:
        """Write all of it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Return what ``write`` has written."""
        stored = json.loads(path.read_text())
        series = [Series(**each) for each in stored.pop("series")]
        return cls(**stored, series=series)
