"""Recorded traces: one JSON object a line, a header first, then one line for each ask.

    {"trace": "monday", "contention": 0, "devices": [{"name": "gpu", "budget_bytes": 11000000000}],
     "models": [{"name": "alpha", "bytes": 4100000000, "load_seconds": 4.9, "unload_seconds": 1, "slots": 1}]}
    {"at_s": 0.0, "model": "alpha", "priority": "interactive", "run_seconds": 6.2}
    {"at_s": 3.5, "model": "alpha", "priority": "session", "run_seconds": 20, "deadline_s": 60, "after": [1]}

(The header is one line too.) Asks are numbered from 1 by their place; `after` names asks that have to end
before this one is issued, and `announced`, 0 to 1, says how surely its coming was known (`comes` false: it
was announced, but not asked after all). A device may have a `slowdown`, a model may be `preemptible`.
Seconds count from any moment: the earliest ask becomes 0.
"""

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from math import isfinite
from pathlib import Path

import orjson

from studium.errors import ConfigurationError
from studium.fleet.simulate.world import Trace, VirtualAsk, VirtualDevice, VirtualModel
from studium.records.scheduling import Priority

MOST_ASKS = 1_000_000
CLASSES = {one.name.lower(): one for one in Priority}


def read_trace(path: Path) -> Trace:
    """Read a trace from a file. Raises ConfigurationError, which names the line that is wrong."""
    try:
        with path.open("rb") as lines:
            return parse_trace(lines, name=path.name)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror or error}",
            expected="a file of JSON lines, a header first",
            try_next="check the path",
        ) from error


def parse_trace(lines: Iterable[bytes], *, name: str) -> Trace:
    """Return the trace that `lines` describe; `name` stands in errors, and where the header has no name."""
    objects = (_Fields.of(text, f"{name}, line {n}") for n, text in enumerate(lines, start=1) if text.strip())
    header = next(objects, None)
    if header is None:
        raise ConfigurationError(
            f"{name} is empty",
            expected="a header line with devices and models, then one line for each ask",
            try_next="see the example: studium bench schedule --help",
        )
    devices = [_device(one) for one in header.children("devices")]
    models = {one.name: one for one in map(_model, header.children("models"))}
    title, contention = header.text("trace", name), header.number("contention", 0.0, most=1.0)
    header.nothing_else()
    asks: list[VirtualAsk] = []
    for line in objects:
        if len(asks) == MOST_ASKS:
            raise line.wrong(f"this is ask {MOST_ASKS + 1:,}", f"at most {MOST_ASKS:,} asks")
        asks.append(_ask(line, len(asks) + 1, models))
    if not asks:
        raise header.wrong("no ask follows the header", "at least one line with an ask")
    first_s = min(ask.at_s for ask in asks)
    return Trace(title, devices, models, [replace(ask, at_s=ask.at_s - first_s) for ask in asks], contention)


class _Fields:
    """A JSON object of which each field is taken once, checked; what is left over is a mistake."""

    def __init__(self, values: dict[str, object], where: str) -> None:
        self._values = dict(values)
        self._taken: set[str] = set()
        self._where = where

    @classmethod
    def of(cls, text: bytes, where: str) -> "_Fields":
        try:
            values = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise cls({}, where).wrong(f"not JSON: {error}", "one JSON object") from error
        if not isinstance(values, dict):
            raise cls({}, where).wrong(f"a {type(values).__name__}", "one JSON object")
        return cls(values, where)

    def wrong(self, happened: str, expected: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._where}: {happened}", expected=expected, try_next="correct that line of the trace"
        )

    def text(self, key: str, default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or not value:
            raise self.wrong(f"{key} is {value!r}", "a text")
        return value

    def number(
        self, key: str, default: float | None = None, *, least: float = 0.0, most: float = 1e15
    ) -> float:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise self.wrong(f"{key} is {value!r}", "a number")
        if not least <= value <= most:
            raise self.wrong(f"{key} is {value}", f"a number from {least:g} to {most:g}")
        return value

    def whole(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        value = self.number(key, default, least=least)
        if value != int(value):
            raise self.wrong(f"{key} is {value}", "a whole number")
        return int(value)

    def yes(self, key: str, default: bool = False) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self.wrong(f"{key} is {value!r}", "true or false")
        return value

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def numbers(self, key: str) -> tuple[int, ...]:
        value = self._take(key, [])
        if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, int) for v in value):
            raise self.wrong(f"{key} is {value!r}", "a list of ask numbers")
        return tuple(value)

    def children(self, key: str) -> "list[_Fields]":
        value = self._take(key, None)
        if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
            raise self.wrong(f"{key} is {value!r:.80}", "a list of objects, at least one")
        children = [_Fields(one, f"{self._where}, {key}[{n}]") for n, one in enumerate(value)]
        names = [child._values.get("name") for child in children]
        if len({str(one) for one in names}) < len(names):
            raise self.wrong(f"two of the {key} have the same name", "a name for each")
        return children

    def nothing_else(self) -> None:
        for key in self._values.keys() - self._taken:
            near = get_close_matches(key, self._taken, 1)
            raise self.wrong(
                f"unknown field {key!r}",
                f"did you mean {near[0]!r}?" if near else f"one of {', '.join(sorted(self._taken))}",
            )

    def _take(self, key: str, default: object) -> object:
        self._taken.add(key)
        value = self._values.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.wrong(f"{key} is missing", f"a value for {key}")
        return value


def _device(line: _Fields) -> VirtualDevice:
    device = VirtualDevice(
        line.text("name"), line.whole("budget_bytes", least=1), line.number("slowdown", 1.0, least=0.01)
    )
    line.nothing_else()
    return device


def _model(line: _Fields) -> VirtualModel:
    model = VirtualModel(
        line.text("name"),
        line.whole("bytes"),
        line.number("load_seconds"),
        line.number("unload_seconds", 0.0),
        line.whole("slots", 1, least=1),
        line.yes("preemptible"),
    )
    line.nothing_else()
    return model


def _ask(line: _Fields, number: int, models: dict[str, VirtualModel]) -> VirtualAsk:
    name = line.text("model")
    if name not in models:
        raise line.wrong(f"the model {name!r} is not in the header", f"one of {', '.join(models)}")
    priority = line.text("priority", "interactive")
    if priority not in CLASSES:
        raise line.wrong(f"priority is {priority!r}", f"one of {', '.join(CLASSES)}")
    after = line.numbers("after")
    if any(not 1 <= one < number for one in after):
        raise line.wrong(f"after is {list(after)}, this is ask {number}", "numbers of earlier asks")
    deadline_s = line.number("deadline_s", 0.0) if line.has("deadline_s") else None
    ask = VirtualAsk(
        number,
        name,
        CLASSES[priority],
        line.number("at_s", least=-1e15),
        line.number("run_seconds"),
        deadline_s,
        after,
        line.number("announced", 0.0, most=1.0),
        line.yes("comes", True),
    )
    line.nothing_else()
    return ask
