"""What one value may be, and how its text is read: names, choices, numbers, sizes, durations.

Each kind reads a scalar of the document, or raises `Expected` with the words that complete "expected ...".
"""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Annotated, Protocol

from studium.config.document import Scalar
from studium.config.units import parse_duration, parse_size

_POWER_OF_TEN = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d{1,3}")
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Expected(Exception):
    """A value was not what its kind reads; the argument completes the sentence 'expected ...'."""


class Kind(Protocol):
    """How one scalar is read. `secret` keeps a wrong value out of the error message."""

    secret: bool

    def read(self, scalar: Scalar) -> object: ...


@dataclass(frozen=True, slots=True)
class Text:
    """Any text; with `pattern`, text that matches it whole; `meaning` says so in words."""

    meaning: str = "text"
    pattern: re.Pattern[str] | None = None
    longest: int = 100_000
    secret: bool = False

    def read(self, scalar: Scalar) -> str:
        if isinstance(scalar.value, bool) or scalar.value is None:
            raise Expected(
                f"{self.meaning}; YAML reads {scalar.text!r} as something else, so put it in quotes"
            )
        if len(scalar.text) > self.longest or "\0" in scalar.text:
            raise Expected(f"{self.meaning}, at most {self.longest} characters")
        if self.pattern is not None and not self.pattern.fullmatch(scalar.text):
            raise Expected(self.meaning)
        return scalar.text


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of a few."""

    words: tuple[str, ...]
    secret: bool = False

    def read(self, scalar: Scalar) -> str:
        if scalar.text not in self.words:
            raise Expected(f"one of {', '.join(self.words)}{_nearest(scalar.text, self.words)}")
        return scalar.text


@dataclass(frozen=True, slots=True)
class YesNo:
    secret: bool = False

    def read(self, scalar: Scalar) -> bool:
        if scalar.origin.startswith("--") and scalar.text in ("true", "false"):
            return scalar.text == "true"  # what comes from a command line is text
        if not isinstance(scalar.value, bool):
            raise Expected("true or false")
        return scalar.value


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer between `least` and `most`, both included."""

    least: int
    most: int = 2**31 - 1
    secret: bool = False

    def read(self, scalar: Scalar) -> int:
        value = scalar.value
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise Expected(f"a whole number from {self.least} to {self.most}")
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number between `least` and `most`, both included."""

    least: float
    most: float
    secret: bool = False

    def read(self, scalar: Scalar) -> float:
        value = scalar.value
        if isinstance(value, str) and _POWER_OF_TEN.fullmatch(value):
            value = float(value)  # 2e-4 is text in YAML 1.1, which wants 2.0e-4
        number = float(value) if isinstance(value, int | float) and abs(value) < 1e300 else math.nan
        if isinstance(value, bool) or not self.least <= number <= self.most:  # never true of NaN
            raise Expected(f"a number from {self.least:g} to {self.most:g}")
        return number


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes with a unit, or the word `automatic` (read as None)."""

    automatic: str | None = None
    least: int = 0
    secret: bool = False

    def read(self, scalar: Scalar) -> int | None:
        if self.automatic is not None and scalar.text == self.automatic:
            return None
        alternative = f", or {self.automatic}" if self.automatic else ""
        try:
            size = parse_size(scalar.text)
        except ValueError as error:
            raise Expected(f"{error}{alternative}") from error
        if size < self.least:
            raise Expected(f"at least {self.least} bytes{alternative}")
        return size


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds with a unit, more than nothing."""

    secret: bool = False

    def read(self, scalar: Scalar) -> float:
        try:
            seconds = parse_duration(scalar.text)
        except ValueError as error:
            raise Expected(str(error)) from error
        if seconds <= 0:
            raise Expected("a duration longer than zero, such as 30s")
        return seconds


Name = Annotated[str, Text("a name of a-z, 0-9, '.', '_', '-', at most 64 characters", NAME_PATTERN)]


def _nearest(word: str, words: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
