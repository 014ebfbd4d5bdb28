"""Li's coefficients: all of them are positive exactly if the Riemann hypothesis holds.

lambda_n = 1 - n/2 (log 4 pi + gamma) - sum_j C(n, j) eta_(j-1)
           + sum_(j >= 2) (-1)^j C(n, j) (1 - 2^-j) zeta(j),
where the eta are the coefficients of -zeta'/zeta at 1 without its pole. E. Bombieri and J. C. Lagarias,
Complements to Li's criterion, J. Number Theory 77 (1999), theorem 2. The Taylor coefficients of
(s - 1) zeta(s) at 1 come from its values on a circle of radius 1 (Cauchy's formula); they fall off so
fast that 64 points leave no error above 1e-40.
"""

from functools import lru_cache
from math import comb
from typing import Any

LARGEST_INDEX = 30
_POINTS = 64


@lru_cache(maxsize=4)
def _taylor(context: Any, digits: int) -> list[Any]:
    """Return the first coefficients of (s - 1) zeta(s) around 1; computed with `digits` digits."""
    before, context.dps = context.dps, digits + 15
    try:
        roots = [context.expjpi(context.mpf(2 * k) / _POINTS) for k in range(_POINTS)]
        values = [root * context.zeta(1 + root) for root in roots]
        return [
            context.re(sum(values[k] * roots[-k * power % _POINTS] for k in range(_POINTS))) / _POINTS
            for power in range(LARGEST_INDEX + 1)
        ]
    finally:
        context.dps = before


@lru_cache(maxsize=128)
def _coefficient(number: int, context: Any, digits: int) -> Any:
    taylor = _taylor(context, digits)
    before, context.dps = context.dps, digits + 15
    try:
        # log-derivative: f'/f = sum b_k (s-1)^k gives eta_k = -b_k
        logarithmic: list[Any] = []
        for k in range(number):
            earlier = sum(logarithmic[j] * taylor[k - j] for j in range(k))
            logarithmic.append((k + 1) * taylor[k + 1] - earlier)
        total = 1 - (context.log(4 * context.pi) + context.euler) * number / 2
        total += sum(comb(number, j) * logarithmic[j - 1] for j in range(1, number + 1))
        total += sum(
            (-1) ** j * comb(number, j) * (1 - context.mpf(2) ** -j) * context.zeta(j)
            for j in range(2, number + 1)
        )
        return total
    finally:
        context.dps = before


def li_coefficient(number: int, context: Any) -> Any:
    """Return lambda_number, for 1 to 30, as a number of `context` at its precision."""
    return +_coefficient(number, context, context.dps)
