"""By how much a paired share changed, with an interval that holds where no pair, or every pair, differs.

Tango's score interval (1998, "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17, equations 6 to 9), solved by bisection in place of the secant. It is
for one look at a fixed number of pairs: what a frozen suite is, and what a report's tables show.
"""

import math
from statistics import NormalDist

from studium.evals.gate.betting import Tally
from studium.evals.intervals import Interval

_HALVINGS = 60


def change(tally: Tally, *, level: float = 0.95) -> Interval:
    """Return gains minus losses as a share of all pairs, -1 to 1, with its two-sided interval.

    Raises ValueError without pairs: a change of nothing is not measured.
    """
    if tally.pairs <= 0:
        raise ValueError("the change of no pairs is not measured")
    z = NormalDist().inv_cdf((1 + level) / 2)
    value = (tally.gains - tally.losses) / tally.pairs
    return Interval(value, -_upper(tally.reversed(), z), _upper(tally, z))


def most_lost(tally: Tally, *, level: float = 0.95) -> float:
    """Return the one-sided upper bound on losses minus gains, as a share of all pairs. Raises as `change` does."""
    if tally.pairs <= 0:
        raise ValueError("the loss of no pairs is not measured")
    return _upper(tally.reversed(), NormalDist().inv_cdf(level))


def _upper(tally: Tally, z: float) -> float:
    """Return the largest change that the pairs do not refuse at `z` standard errors."""
    low, high = (tally.gains - tally.losses) / tally.pairs, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _score(tally, middle) > -z:
            low = middle
        else:
            high = middle
    return high


def _score(tally: Tally, change: float) -> float:
    """Return the standardised distance of what was seen from a supposed change; -inf where it is impossible."""
    n, gains, losses = tally.pairs, tally.gains, tally.losses
    # The likeliest share of losses, were the change so: Tango's equation 7.
    b = -gains - losses + (2 * n - gains + losses) * change
    c = -losses * change * (1 - change)
    share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * share + change * (1 - change))
    distance = gains - losses - n * change
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)
