"""Counts for Prometheus and logs for machines, in plain Python.

`Metrics` keeps counters, gauges and histograms for one event loop and renders them in the Prometheus text
format (version 0.0.4). Every label must come from a bounded set: routes, students, error codes, never
what a caller typed. `configure_logging` is called once, by the command that starts a server.
"""

import logging
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import IO, TypeVar

import orjson

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Bucket bounds. They reach past OpenTelemetry's 81.92 s, which a cold load on a small machine exceeds."""

_Labels = tuple[str, ...]
_Family = TypeVar("_Family", bound="Counter | Histogram")


class Counter:
    """A number that only grows, one per combination of label values."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: Sequence[str]) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._values: dict[_Labels, float] = {}

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Add `amount` to the series of these label values, given in the order of their names."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def value(self, *labels: str) -> float:
        """Return what was counted; 0.0 for a series never touched."""
        return self._values.get(labels, 0.0)

    def lines(self) -> list[str]:
        """Return the samples as text lines."""
        return [f"{self.name}{_label_text(self.labels, key)} {value}" for key, value in self._values.items()]


class Gauge(Counter):
    """A number that goes up and down."""

    kind = "gauge"

    def set(self, value: float, *labels: str) -> None:
        """Replace the value of the series of these label values."""
        self._values[labels] = value

    def clear(self) -> None:
        """Forget every series, before those that still exist are set again."""
        self._values.clear()


class Histogram:
    """How values are spread over buckets. `bounds` are upper bounds, ascending; infinity is added."""

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name, self.help, self.labels = name, help, tuple(labels)
        self._bounds = tuple(bounds)
        self._counts: dict[_Labels, list[int]] = {}
        self._sums: dict[_Labels, float] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count one value under these label values."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * (len(self._bounds) + 1)
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> list[str]:
        """Return the cumulated buckets, sum and count of every series as text lines."""
        lines: list[str] = []
        names = (*self.labels, "le")
        bounds = [f"{bound:g}" for bound in self._bounds] + ["+Inf"]
        for key, counts in self._counts.items():
            below = 0
            for bound, count in zip(bounds, counts, strict=True):
                below += count
                lines.append(f"{self.name}_bucket{_label_text(names, (*key, bound))} {below}")
            text = _label_text(self.labels, key)
            lines += [f"{self.name}_sum{text} {self._sums[key]}", f"{self.name}_count{text} {below}"]
        return lines


class Metrics:
    """All metrics of one process, in the order they were made."""

    def __init__(self) -> None:
        self._families: list[Counter | Histogram] = []

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """Make a counter; by custom its name ends in `_total`."""
        return self._keep(Counter(name, help, labels))

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        """Make a gauge."""
        return self._keep(Gauge(name, help, labels))

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), bounds: Sequence[float] = REQUEST_SECONDS
    ) -> Histogram:
        """Make a histogram with these upper bounds."""
        return self._keep(Histogram(name, help, labels, bounds))

    def render(self) -> bytes:
        """Return everything in the Prometheus text format."""
        lines: list[str] = []
        for family in self._families:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            lines += family.lines()
        return ("\n".join(lines) + "\n").encode()

    def _keep(self, family: _Family) -> _Family:
        self._families.append(family)
        return family


class JsonLines(logging.Formatter):
    """One JSON object per record: at, level, logger, message, the record's own `fields`, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure_logging(stream: IO[str], *, level: str = "INFO") -> None:
    """Send every log record of the process to `stream` as JSON lines, replacing what was set up before.

    Extra fields travel as `extra={"fields": {...}}`.
    """
    target = logging.StreamHandler(stream)
    target.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[target], force=True)


def _label_text(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
