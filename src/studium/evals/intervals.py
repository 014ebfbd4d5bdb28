"""Intervals for what was measured: a share, a mean, a paired difference. Standard library only."""

import math
from collections.abc import Callable, Sequence
from random import Random
from statistics import NormalDist, fmean
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")


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
    return _score_interval(successes / trials, trials, level)


def bootstrap_mean(values: Sequence[float], *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return a mean with its percentile bootstrap interval.

    Give paired differences to compare two systems on the same items. Raises ValueError without values.
    """
    if not values:
        raise ValueError("the mean of nothing is not scored")
    return bootstrap(values, fmean, resamples=resamples, seed=seed)


def bounded_mean(values: Sequence[float]) -> Interval:
    """Return the mean of values from 0 to 1 with Wilson's interval for a share of the same size.

    Exact for zeros and ones; else wide rather than narrow, since no variable on [0, 1] varies more than a coin of its
    mean. Unlike a bootstrap it is an interval where all values are equal. Raises ValueError without values.
    """
    if not values or not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError("the mean of nothing, or of what is not from 0 to 1")
    return _score_interval(fmean(values), len(values), 0.95)


def bootstrap(
    items: Sequence[Item],
    statistic: Callable[[Sequence[Item]], float],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of items with its percentile bootstrap interval; items are drawn whole.

    Raises ValueError without items.
    """
    if not items:
        raise ValueError("a statistic of nothing is not scored")
    rng = Random(seed)
    found = sorted(statistic(rng.choices(items, k=len(items))) for _ in range(resamples))
    tail = (1 - level) / 2
    value = statistic(items)
    low, high = found[int(tail * resamples)], found[min(resamples - 1, int((1 - tail) * resamples))]
    # A biased statistic (F1 of few) may lie outside its own resamples.
    return Interval(value, min(low, value), max(high, value))


def _score_interval(share: float, trials: int, level: float) -> Interval:
    z = NormalDist().inv_cdf((1 + level) / 2)
    scale = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Rounding must not put the share itself outside (it does at 0 and 1 otherwise).
    return Interval(share, min(share, max(0.0, centre - reach)), max(share, min(1.0, centre + reach)))
