"""How strongly pairs speak for one side: a bet that the other side's friends could not refuse.

A gambler starts with 1 and stakes a share of it on "the next difference is a gain". Where gains are no likelier than
losses, what he holds is a supermartingale, so it ever reaches 1/alpha with a probability of at most alpha, however
often one looks (Ville's inequality; Ramdas, Grünwald, Vovk and Shafer 2023, "Game-theoretic statistics and safe
anytime-valid inference", section 2). His shares are a mixture (Waudby-Smith and Ramdas 2023, "Estimating means of
bounded random variables by betting", section 4): with ties left out it is the truncated Beta mixture likelihood ratio
of a sign test (Robbins 1970). We differ in the mixture, chosen for winners of six to eight differences in ten, and in
summing over 64 midpoints in place of the incomplete Beta function, so that a margin costs nothing more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SHAPE = (16.0, 9.0)
"""Of the Beta mixture over the share of gains among differences, above a half. `benchmarks.gate` has others beside it:
they find a winner of 70 % as early, and see harm later."""

_MIDPOINTS = 64

Counts = Any
"""A whole number, or an array of them."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Pairs by their difference: the challenger did better (`gains`), worse (`losses`), or as well (`ties`)."""

    gains: int = 0
    losses: int = 0
    ties: int = 0

    @property
    def pairs(self) -> int:
        return self.gains + self.losses + self.ties

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.gains + other.gains, self.losses + other.losses, self.ties + other.ties)

    def reversed(self) -> "Tally":
        """Return the same pairs seen from the other side."""
        return Tally(self.losses, self.gains, self.ties)


def log_evidence(
    gains: Counts,
    losses: Counts,
    ties: Counts = 0,
    *,
    margin: float = 0.0,
    shape: tuple[float, float] = SHAPE,
) -> Any:
    """Return the natural logarithm of what the gambler holds after so many pairs; arrays are taken elementwise.

    His opponent claims that gains minus losses are at most `margin` of all pairs, above -1 and below 1. Ties tell
    nothing at a margin of 0. Swap gains and losses to ask for harm.
    """
    if not -1.0 < margin < 1.0:
        raise ValueError(f"a margin of {margin} is none")
    import numpy as np

    stakes, log_weights = _mixture(shape)
    outcomes = ((gains, 1.0), (losses, -1.0), (ties, 0.0))
    held_J = log_weights + sum(
        np.asarray(count, dtype=float)[..., None] * np.log1p(stakes * (value - margin) / (1.0 + margin))
        for count, value in outcomes
    )
    top = held_J.max(axis=-1)
    return top + np.log(np.exp(held_J - top[..., None]).sum(axis=-1))


def mean_of(logs: Sequence[Any]) -> Any:
    """Return the logarithm of the mean of evidence given as logarithms: it is evidence against all claims at once."""
    import numpy as np

    return np.logaddexp.reduce(list(logs), axis=0) - np.log(len(logs))


def odds(log: float) -> float:
    """Return evidence as people read it: how rarely chance comes so far, at most a billion billions."""
    return math.exp(min(log, math.log(1e18)))


@cache
def _mixture(shape: tuple[float, float]) -> "tuple[np.ndarray, np.ndarray]":
    """Return stakes between 0 and 1 and the logarithms of their weights, which sum to 1."""
    import numpy as np

    stakes = (np.arange(_MIDPOINTS) + 0.5) / _MIDPOINTS
    alpha, beta = shape
    logs = (alpha - 1) * np.log1p(stakes) + (beta - 1) * np.log1p(-stakes)
    weights = np.exp(logs - logs.max())
    return stakes, np.log(weights / weights.sum())
