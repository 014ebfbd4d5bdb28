"""Fetching base models while somebody watches: how far each one is, how fast, and how long it will take yet.

On a terminal one line is written over and over; elsewhere there is a line for each step and every ten seconds.
"""

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from studium.cli.output import note, printable

if TYPE_CHECKING:
    from studium.engines.ollama import OllamaEngine, Progress

PLAIN_EVERY_S = 10.0
RATE_WINDOW_S = 20.0
_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


@dataclass(frozen=True, slots=True)
class Pulled:
    """A base and what became of it: pulled, or in a dry run would_be_pulled or unchecked (no Ollama answered)."""

    base: str
    outcome: str = "pulled"
    bytes: int | None = None
    seconds: float | None = None


class Watch:
    """Pulls bases one after the other and tells how far they are. `at` is the last it told."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.at = ""
        self.pulled: list[Pulled] = []
        self._stream = stream or sys.stderr
        self._clock = clock
        self._live = self._stream.isatty()
        self._status = ""
        self._told_at = 0.0
        self._is_told = True

    async def pull(self, engine: "OllamaEngine", bases: Sequence[str], *, stall_s: float) -> None:
        """Pull `bases` in order; `pulled` holds those that are there. Raises what `OllamaEngine.pull` does."""
        for base in bases:
            started, meter = self._clock(), Meter(base, self._clock)
            try:
                async with aclosing(engine.pull(base, stall_s=stall_s)) as steps:
                    async for step in steps:
                        self._tell(step.status, meter.text(step))
            finally:
                self._tell_rest()
            self.pulled.append(
                Pulled(base, bytes=meter.total_bytes, seconds=round(self._clock() - started, 3))
            )

    def _tell(self, status: str, text: str) -> None:
        if self._live:
            self.at = printable(text)
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{self.at[:width]}", end="", file=self._stream, flush=True)
            return
        is_new = status != self._status
        if is_new:
            self._tell_rest()
        self.at, self._status, self._is_told = printable(text), status, False
        if is_new or self._clock() - self._told_at >= PLAIN_EVERY_S:
            self._tell_rest()

    def _tell_rest(self) -> None:
        """End the line on a terminal; elsewhere say the last there was to say, if it was not said."""
        if self._live:
            print(file=self._stream, flush=True)
        elif not self._is_told:
            note(self.at)
            self._told_at, self._is_told = self._clock(), True


class Meter:
    """Tells how far the pull of one model is, with its speed over the last twenty seconds."""

    def __init__(self, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._status = ""
        self._samples: deque[tuple[float, int]] = deque()
        self._sizes: dict[str, int] = {}

    @property
    def total_bytes(self) -> int:
        """The size of all parts that were told of."""
        return sum(self._sizes.values())

    def text(self, step: "Progress") -> str:
        """Return a line for people. What was there before the pull began counts as done, not as speed."""
        done, total = step.completed_bytes, step.total_bytes
        if done is None or not total:
            return f"{self._model}: {step.status}"
        self._sizes[step.status] = total
        share = f"{size(done)} of {size(total)} ({min(done / total, 1):.0%})"
        return f"{self._model}: {step.status}, {share}{self._pace(step.status, done, total)}"

    def _pace(self, status: str, done: int, total: int) -> str:
        now = self._clock()
        if status != self._status:
            self._status = status
            self._samples.clear()
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] >= RATE_WINDOW_S:
            self._samples.popleft()
        since, before = self._samples[0]
        if done >= total or now - since < 1:
            return ""
        if done <= before:
            return ", no bytes lately"
        rate = (done - before) / (now - since)
        return f", {size(rate)}/s, {duration((total - done) / rate)} left"


def size(count: float) -> str:
    """Return a number of bytes as people read it, in decimal units as registries give them."""
    for unit, factor in _UNITS:
        if count >= factor:
            return (
                f"{count / factor:.3g} {unit}" if count < 1000 * factor else f"{count / factor:,.0f} {unit}"
            )
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Return a time to wait as people say it."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest_minutes} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"
