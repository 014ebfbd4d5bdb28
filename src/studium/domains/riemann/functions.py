"""The functions of the language, each bounded in size and in cost.

Two calculators of different precision share one `Work`. Their mpmath contexts are this module's own, so
nobody else's precision changes.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from threading import RLock
from typing import Any

from studium.domains.riemann import primes, zeros
from studium.domains.riemann.calculator import LARGEST_WHOLE, Calculator, Function, OutOfReach

PRECISIONS_DIGITS = (25, 40)
TOPIC_FUNCTIONS = frozenset(
    {"zeta", "zeta'", "eta", "xi", "zero", "rho", "sigma", "H", "M", "mu", "phi", "primepi", "prime"}
    | {"li", "Li", "R", "theta", "psi", "Lambda", "lambda", "N", "Z"}
)
LOCK = RLock()
"""Held while evaluating: mpmath's contexts and caches are not made for several threads."""


@cache
def calculator(digits: int) -> Calculator:
    """Return the calculator of a precision, in decimal digits."""
    return Calculator(digits, FUNCTIONS)


def _zeta(c: Calculator, s: Any) -> Any:
    real, height = c.within(s, -300, 10_000, 30_000)
    c.work.spend(600 + 6 * height + (3 * abs(real) if real < 0 else 0))
    if s == 1:
        raise OutOfReach("zeta has a pole at 1")
    return c.context.zeta(s)


def _zeta_derivative(c: Calculator, s: Any) -> Any:
    real, height = c.within(s, -30, 1000, 5000)
    c.work.spend(1000 + 25 * height + (500 + 3 * height) * max(0.0, -real))
    if s == 1:
        raise OutOfReach("zeta has a pole at 1")
    return c.context.zeta(s, 1, 1)


def _eta(c: Calculator, s: Any) -> Any:
    _real, height = c.within(s, -300, 10_000, 30_000)
    c.work.spend(800 + 8 * height)
    return c.context.altzeta(s)


def _xi(c: Calculator, s: Any) -> Any:
    """s (s - 1) / 2 pi^(-s/2) Gamma(s/2) zeta(s), made symmetric so that the poles stay on the far side."""
    context = c.context
    _real, height = c.within(s, -300, 300, 5000)
    c.work.spend(1500 + 7 * height)
    if context.re(s) < 0.5:
        s = 1 - s
    if s == 1:
        return context.mpf(1) / 2
    return (s - 1) * context.pi ** (-s / 2) * context.gamma(s / 2 + 1) * context.zeta(s)


def _zero(c: Calculator, index: Any) -> Any:
    number = c.whole(index, zeros.LARGEST_INDEX)
    c.work.spend_once(("zero", number), 25_000 + 90 * zeros.gram_point(number))
    c.work.spend(10)
    try:
        return +c.context.mpf(zeros.zero(number, calculator(zeros.DIGITS + 5).context))
    except ArithmeticError as error:
        raise OutOfReach(str(error)) from error


def _hardy(c: Calculator, t: Any) -> Any:
    real, _ = c.within(c.real(t), -10_000, 10_000, 0)
    c.work.spend(1000 + 6 * abs(real))
    return c.context.siegelz(t)


def _zeros_up_to(c: Calculator, height: Any) -> Any:
    real, _ = c.within(c.real(height), 0, 50_000, 0)
    c.work.spend_once(("N", real), 90_000)
    c.work.spend(10)
    return c.context.mpf(_counted_zeros(real)) if real > 14 else c.context.mpf(0)


@lru_cache(maxsize=1024)
def _counted_zeros(height: float) -> int:
    return int(calculator(15).context.nzeros(height))


def _of_factors(compute: Callable[[Any], int], largest: int = LARGEST_WHOLE) -> Function:
    def function(c: Calculator, value: Any) -> Any:
        number = c.whole(value, largest)
        c.work.spend(15 if number < 100_000 else 35 if number < 10**6 else 8000)
        parts = primes.factors(number)
        if parts is None:
            raise OutOfReach("a number in it is too hard to factorise")
        return c.context.mpf(compute(parts))

    return function


def _mangoldt(c: Calculator, value: Any) -> Any:
    number = c.whole(value, 10**12)
    c.work.spend(8000 if number > 10**6 else 30)
    parts = primes.factors(number) or ()
    return c.context.log(parts[0][0]) if len(parts) == 1 else c.context.mpf(0)


def _mertens(c: Calculator, value: Any) -> Any:
    limit = max(0, c.floor(value, primes.LARGEST_MERTENS))
    size = "small" if limit <= 10_000 else "large" if limit <= primes.TABLE else limit
    c.work.spend_once(("M", size), 0 if size == "small" else 80_000 + 0.007 * limit)
    c.work.spend(8)
    return c.context.mpf(primes.mertens(limit))


def _prime_count(c: Calculator, value: Any) -> Any:
    limit = max(0, c.floor(value, primes.LARGEST_COUNT))
    if limit > primes.TABLE:
        c.work.spend_once(("pi", limit), 60_000 + limit * 2.5e-4)
    c.work.spend(8)
    return c.context.mpf(primes.prime_count(limit))


def _prime(c: Calculator, value: Any) -> Any:
    table = primes.primes()
    return c.context.mpf(table[c.whole(value, len(table)) - 1])


def _chebyshev(
    exponential: Callable[[int], int],
) -> Function:
    product = lru_cache(maxsize=64)(exponential)

    def function(c: Calculator, value: Any) -> Any:
        limit = max(1, c.floor(value, primes.TABLE))
        c.work.spend(40 + limit / 40 + (limit / 2600) ** 2)
        return c.context.log(c.context.mpf(product(limit)))

    return function


def _harmonic(c: Calculator, value: Any) -> Any:
    c.work.spend(50)
    return c.context.harmonic(c.whole(value, LARGEST_WHOLE, 0))


def _li(c: Calculator, value: Any) -> Any:
    c.work.spend(90)
    real = c.real(value)
    if real < 0 or real == 1:
        raise OutOfReach("li is not defined there")
    return c.context.li(real)


def _riemann_count(c: Calculator, value: Any) -> Any:
    c.work.spend(4000)
    real, _ = c.within(c.real(value), 1, 1e12, 0)
    return c.context.riemannr(real if real == value else value)


def _li_coefficient(c: Calculator, value: Any) -> Any:
    from studium.domains.riemann.coefficients import LARGEST_INDEX, li_coefficient

    number = c.whole(value, LARGEST_INDEX)
    c.work.spend_once(("lambda", c.digits), 80_000)
    c.work.spend(200 + 3 * number * number)
    return li_coefficient(number, c.context)


def _log(c: Calculator, value: Any) -> Any:
    c.work.spend(12)
    if value == 0:
        raise OutOfReach("it takes the logarithm of zero")
    return c.context.log(value)


def _exp(c: Calculator, value: Any) -> Any:
    c.work.spend(16)
    c.bounded_exponent(value)
    return c.context.exp(value)


def _circular(name: str) -> Function:
    def function(c: Calculator, value: Any) -> Any:
        c.work.spend(15)
        c.within(value, -1e9, 1e9, 1000)
        return getattr(c.context, name)(value)

    return function


def _gamma(c: Calculator, value: Any) -> Any:
    c.within(value, -2000, 5000, 30_000)
    c.work.spend(100)
    real = c.context.re(value)
    if value == real and real <= 0 and real == c.context.floor(real):
        raise OutOfReach("Gamma has a pole there")
    return c.context.gamma(value)


def _factorial(c: Calculator, value: Any) -> Any:
    c.work.spend(20)
    return c.context.factorial(c.whole(value, 5000, 0))


def _sqrt(c: Calculator, value: Any) -> Any:
    c.work.spend(10)
    return c.context.sqrt(value)


FUNCTIONS: dict[str, Function] = {
    "zeta": _zeta,
    "zeta'": _zeta_derivative,
    "eta": _eta,
    "xi": _xi,
    "zero": _zero,
    "rho": lambda c, k: c.context.mpc(c.context.mpf(1) / 2, _zero(c, k)),
    "Z": _hardy,
    "N": _zeros_up_to,
    "sigma": _of_factors(primes.divisor_sum),
    "phi": _of_factors(primes.totient),
    "mu": _of_factors(primes.moebius),
    "Lambda": _mangoldt,
    "M": _mertens,
    "primepi": _prime_count,
    "prime": _prime,
    "theta": _chebyshev(primes.exponential_theta),
    "psi": _chebyshev(primes.exponential_psi),
    "H": _harmonic,
    "li": _li,
    "Li": lambda c, x: _li(c, x) - c.context.li(2),
    "R": _riemann_count,
    "lambda": _li_coefficient,
    "log": _log,
    "exp": _exp,
    "sqrt": _sqrt,
    "sin": _circular("sin"),
    "cos": _circular("cos"),
    "abs": lambda c, z: abs(z),
    "re": lambda c, z: c.context.re(z),
    "im": lambda c, z: c.context.im(z),
    "floor": lambda c, x: c.context.mpf(c.floor(x)),
    "Gamma": _gamma,
    "factorial": _factorial,
}
"""Each function of the language: it checks its argument, spends what it costs, and computes."""
