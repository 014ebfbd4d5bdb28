"""The zeros of the zeta function on the critical line, by number, to many digits and fast.

Between two good Gram points (where the Riemann-Siegel function Z has the sign that the rule of Gram
foretells) lie as many zeros as Gram intervals: Rosser's rule, which holds for the first 13 million. So
the k-th zero is found by looking for sign changes of Z in floating point inside one such block, and is
then refined with mpmath. Sources: H. M. Edwards, Riemann's Zeta Function, chapters 6-8; R. P. Brent,
On the zeros of the Riemann zeta function in the critical strip, Math. Comp. 33 (1979).
"""

from functools import lru_cache
from math import cos, log, pi, sqrt, tau
from typing import Any

LARGEST_INDEX = 5000
DIGITS = 45
"""Correct digits of a zero: more than any comparison here works with."""
_FINEST_GRID = 4096


@lru_cache(maxsize=8192)
def zero(index: int, context: Any) -> Any:
    """Return the imaginary part of zero number `index` (from 1 to 5000) as a number of `context`.

    Costs 10 to 200 milliseconds at the first call. `context` is an mpmath context that nobody else uses
    meanwhile; its precision is left as it was.
    """
    low, high = _bracket(index)
    found = _refined(low, high, context)
    if not low - 0.01 < found < high + 0.01:
        raise ArithmeticError(f"zero {index} cannot be told from its neighbours")
    return found


def hardy(height: float) -> float:
    """Return Z(height) by the Riemann-Siegel formula with one correction term; good to about 0.01."""
    root = sqrt(height / tau)
    terms = int(root)
    angle = siegel_theta(height)
    main = 2 * sum(cos(angle - height * log(term)) / sqrt(term) for term in range(1, terms + 1))
    part = root - terms
    divisor = cos(tau * part)
    correction = cos(tau * (part * part - part - 1 / 16)) / divisor if abs(divisor) > 1e-6 else 0.5
    return main + (-1) ** (terms - 1) * correction / sqrt(root)


def siegel_theta(height: float) -> float:
    """Return the Riemann-Siegel theta function, from its asymptotic series."""
    return height / 2 * log(height / tau) - height / 2 - pi / 8 + 1 / (48 * height) + 7 / (5760 * height**3)


@lru_cache(maxsize=16384)
def gram_point(index: int) -> float:
    """Return the height at which theta is `index` times pi; index -1 is the first."""
    height = 10.0 + 2.0 * (index + 1)
    for _ in range(60):
        step = (siegel_theta(height) - index * pi) / (log(height / tau) / 2)
        height = max(height - step, 8.0)
        if abs(step) < 1e-11 * height:
            break
    return height


def _is_good(index: int) -> bool:
    return index < 0 or (-1) ** index * hardy(gram_point(index)) > 0


def _bracket(index: int) -> tuple[float, float]:
    """Return two heights with zero number `index`, and no other, between them."""
    first, last = index - 2, index - 1
    while not _is_good(first):
        first -= 1
    while not _is_good(last):
        last += 1
    low, high = gram_point(first), gram_point(last)
    grid = 4 * (last - first)
    while grid <= _FINEST_GRID:
        heights = [low + (high - low) * step / grid for step in range(grid + 1)]
        signs = [hardy(height) > 0 for height in heights]
        changes = [place for place in range(grid) if signs[place] != signs[place + 1]]
        if len(changes) == last - first:
            place = changes[index - first - 2]
            return heights[place], heights[place + 1]
        grid *= 2
    raise ArithmeticError(f"zero {index} cannot be told from its neighbours")


def _refined(low: float, high: float, context: Any) -> Any:
    """Bisect in floating point, then follow the secant, with digits growing as the steps shrink."""
    rising = hardy(high) > 0
    for _ in range(40):
        middle = (low + high) / 2
        if (hardy(middle) > 0) == rising:
            high = middle
        else:
            low = middle
    before = context.dps
    try:
        context.dps = 15
        here, there = context.mpf(low), context.mpf(low) + context.mpf("1e-4")
        value_there, value_here = context.siegelz(there), context.siegelz(here)
        for _ in range(40):
            step = value_here * (here - there) / (value_here - value_there)
            there, value_there, here = here, value_here, here - step
            if abs(step) < context.mpf(10) ** (-DIGITS // 2 - 4):
                break
            digits_known = -int(context.log10(abs(step))) if step else DIGITS
            context.dps = min(DIGITS + 5, max(15, 2 * digits_known + 6))
            value_here = context.siegelz(here)
        return here
    finally:
        context.dps = before
