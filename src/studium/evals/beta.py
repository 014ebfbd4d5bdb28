"""The Beta distribution's quantiles. Standard library only: the smallest install has no scipy."""

import math
from functools import lru_cache

_TINY = 1e-300
_STEPS = 60


@lru_cache(maxsize=4096)
def beta_quantile(alpha: float, beta: float, share: float) -> float:
    """Return the x below which a Beta(alpha, beta) lies with probability `share`, to about 1e-9.

    Raises ValueError for parameters that are not positive.
    """
    if alpha <= 0 or beta <= 0:
        raise ValueError(f"Beta({alpha}, {beta}) is no distribution")
    low, high = 0.0, 1.0
    while high - low > 1e-10:
        middle = (low + high) / 2
        if beta_cdf(alpha, beta, middle) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(alpha: float, beta: float, x: float) -> float:
    """Return the regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (alpha + 1) / (alpha + beta + 2):  # where the fraction converges slowly its mirror image is quick
        return 1.0 - beta_cdf(beta, alpha, 1.0 - x)
    log_front = (
        math.lgamma(alpha + beta)
        - math.lgamma(alpha)
        - math.lgamma(beta)
        + alpha * math.log(x)
        + beta * math.log1p(-x)
    )
    return math.exp(log_front) / (alpha * _fraction(alpha, beta, x))


def _fraction(alpha: float, beta: float, x: float) -> float:
    """Evaluate the fraction's denominator by the modified method of Lentz."""
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, 20 * _STEPS):
        m = step // 2
        if step % 2:
            term = -(alpha + m) * (alpha + beta + m) * x / ((alpha + 2 * m) * (alpha + 2 * m + 1))
        else:
            term = m * (beta - m) * x / ((alpha + 2 * m - 1) * (alpha + 2 * m))
        d = 1.0 / ((1.0 + term * d) or _TINY)
        c = (1.0 + term / c) or _TINY
        value *= c * d
        if abs(c * d - 1.0) < 1e-13:
            break
    return value
