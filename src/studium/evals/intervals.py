"""Intervals for what was measured: a share, a mean, a paired difference. Standard library only."""

import math
from collections.abc import Sequence
from random import Random
from statistics import NormalDist, fmean
from typing import NamedTuple


class Interval(NamedTuple):
    """A value with its lower and upper bound."""

    value: float
    low: float
    high: float


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Return a share with its score interval (Wilson 1927), which holds its level near 0 and 1.

    Raises ValueError without trials: a share of nothing is not scored.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / trials
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Rounding must not put the share itself outside (it does at 0 and 1 otherwise).
    return Interval(share, min(share, max(0.0, centre - reach)), max(share, min(1.0, centre + reach)))


def bootstrap_mean(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return a mean with its percentile bootstrap interval.

    Give paired differences to compare two systems on the same items. Raises ValueError without values.
    """
    if not values:
        raise ValueError("the mean of nothing is not scored")
    rng = Random(seed)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(resamples))
    tail = (1 - level) / 2
    low, high = means[int(tail * resamples)], means[min(resamples - 1, int((1 - tail) * resamples))]
    return Interval(fmean(values), low, high)
