"""What calls cost, in whole numbers: billionths of a dollar, and thousandths of a second on a GPU.

Whole numbers add up the same in every order, so that a cap is met exactly or not at all.
"""

import math
from dataclasses import dataclass

NANOUSD, MILLISECONDS = 1_000_000_000, 1_000
SCOPES = ("request", "hour", "day", "session")
CAPS = tuple(f"{unit}_per_{scope}" for unit in ("usd", "gpu_s") for scope in SCOPES)
"""The names of all caps, as they are configured: `usd_per_day`, `gpu_s_per_request`."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Money in billionths of a US dollar and time on a GPU in milliseconds."""

    nanousd: int = 0
    gpu_ms: int = 0

    @property
    def usd(self) -> float:
        return self.nanousd / NANOUSD

    @property
    def gpu_s(self) -> float:
        return self.gpu_ms / MILLISECONDS

    def __bool__(self) -> bool:
        return bool(self.nanousd or self.gpu_ms)


NOTHING = Amount()


def units_of(cap: str) -> int:
    """Return how many of the ledger's units are one of the unit in a cap's name."""
    return NANOUSD if cap.startswith("usd") else MILLISECONDS


def in_units(cap: str, value: float) -> int:
    """Return a cap's value in the ledger's units, rounded down: a cap is never more than was said."""
    return math.floor(round(value * units_of(cap), 3))


@dataclass(frozen=True, slots=True)
class Want:
    """A call that is to be made: who would be asked, for which request and session, and what it costs at most.

    `limit_s` is the longest the call can last. An empty session is none.
    """

    student: str
    request: str
    session: str
    most: Amount
    limit_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """How far a cap is used up, in the unit of its name. `cap` None: there is none.

    `reserved` is held for calls that are still going on. `free_in_s` is when all that was spent will have left the
    window, and, where a call was refused, when there would be room for it; None where time alone does not help.
    """

    name: str
    cap: float | None
    spent: float
    reserved: float
    free_in_s: float | None = None

    @property
    def left(self) -> float | None:
        """What may still be promised; None without a cap."""
        return None if self.cap is None else max(0.0, self.cap - self.spent - self.reserved)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call may not be made: every cap it would pass."""

    caps: tuple[Usage, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One setting of the governor changed: by whom, from what to what (None: what the configuration says)."""

    at: float
    by: str
    name: str
    old: str | None
    new: str | None
