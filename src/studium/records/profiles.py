"""What is known of one model on one device, as sufficient statistics, and the forecasts made from it.

A profile is one small record however long the history is; reading it costs the same after ten runs as
after ten million. Everything here is plain data: `studium.fleet.profiles` learns and forecasts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from studium.records.models import MemoryEstimate


class Quantity(StrEnum):
    """A positive quantity that every run or load of a model tells something about."""

    MEMORY_BYTES = "memory_bytes"
    LOAD_SECONDS = "load_seconds"
    UNLOAD_SECONDS = "unload_seconds"
    RUN_SECONDS = "run_seconds"
    PROMPT_TOKENS_PER_SECOND = "prompt_tokens_per_second"
    TOKENS_PER_SECOND = "tokens_per_second"
    TOKENS_PER_ANSWER = "tokens_per_answer"


@dataclass(frozen=True, slots=True)
class Spread:
    """Sufficient statistics of the natural logarithm of one quantity, the newest counting most.

    `observations` counts all there ever were; `weight` those not yet forgotten; `squares` is the
    weighted sum of squared distances from `mean`. `surprises` counts the latest observations in a row
    that lay far above (positive) or far below (negative) what was expected.
    """

    observations: int = 0
    weight: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    surprises: int = 0

    @property
    def typical(self) -> float | None:
        """The geometric mean of what was measured, None where nothing was."""
        return math.exp(self.mean) if self.weight > 0 else None


NOTHING_MEASURED = Spread()


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """One model in one shape on one device. Zeros in `loads` and `runs` mean: never measured.

    `model` is the key (`studium.fleet.profiles.profile_key`). `peak_bytes` is the highest ever measured.
    `estimate` is what the engine said of the file; `recent_failures` and `recent_successes` are runs
    that are not yet forgotten.
    """

    model: str
    name: str = ""
    engine: str = ""
    device: str = ""
    runs: int = 0
    failures: int = 0
    loads: int = 0
    peak_bytes: int | None = None
    estimate: MemoryEstimate | None = None
    spreads: Mapping[Quantity, Spread] = field(default_factory=dict[Quantity, Spread])
    recent_failures: float = 0.0
    recent_successes: float = 0.0

    def spread(self, quantity: Quantity) -> Spread:
        """Return what was measured of one quantity."""
        return self.spreads.get(quantity, NOTHING_MEASURED)

    @property
    def load_seconds(self) -> float | None:
        """A typical load, None where none was measured."""
        return self.spread(Quantity.LOAD_SECONDS).typical

    @property
    def unload_seconds(self) -> float | None:
        """What giving the memory back typically takes."""
        return self.spread(Quantity.UNLOAD_SECONDS).typical

    @property
    def run_seconds(self) -> float | None:
        """A typical run without its load."""
        return self.spread(Quantity.RUN_SECONDS).typical

    @property
    def prompt_tokens_per_second(self) -> float | None:
        """The typical speed at which a prompt is read."""
        return self.spread(Quantity.PROMPT_TOKENS_PER_SECOND).typical

    @property
    def tokens_per_second(self) -> float | None:
        """The typical speed at which an answer is generated."""
        return self.spread(Quantity.TOKENS_PER_SECOND).typical

    @property
    def tokens_per_answer(self) -> float | None:
        """The typical length of an answer."""
        return self.spread(Quantity.TOKENS_PER_ANSWER).typical


@dataclass(frozen=True, slots=True)
class Range:
    """What to expect of one quantity next time: the median, and an interval that holds 90 % of cases.

    `observations` counts this model's own; with 0 the range comes from its file and from other models
    of the engine.
    """

    median: float
    low: float
    high: float
    observations: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one model will cost on one device. None is unknown: neither it nor its like was ever measured.

    `reserve_bytes` is the memory to set aside, at the cautious end and never below the highest measured.
    `failure_rate` is a share, 0 to 1, with the interval of the rate itself.
    """

    model: str
    device: str
    loads: int
    runs: int
    failures: int
    reserve_bytes: int | None
    memory_bytes: Range | None
    load_seconds: Range | None
    unload_seconds: Range | None
    run_seconds: Range | None
    prompt_tokens_per_second: Range | None
    tokens_per_second: Range | None
    tokens_per_answer: Range | None
    failure_rate: Range | None
