"""What a claim is evaluated with: every function of the language, bounded in size and in cost.

A `Work` is what one reply may cost, in microseconds as estimated from the arguments *before* each step,
so that no text can make us hang and the same text always gets the same verdict, however fast the
machine. What is outside the bounds raises `OutOfReach` with the reason. Two `Calculator`s of different
precision share one `Work`; their contexts are this module's own, so nobody else's precision changes.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache, lru_cache
from math import inf
from threading import RLock
from typing import Any

from studium.domains.riemann import primes, zeros
from studium.domains.riemann.syntax import Call, Constant, Node, Number, Operation, Variable, walk

PRECISIONS_DIGITS = (25, 40)
LARGEST_MAGNITUDE_DIGITS = 20_000
BUDGET_US = 800_000
TOPIC_FUNCTIONS = frozenset(
    {"zeta", "zeta'", "eta", "xi", "zero", "rho", "sigma", "H", "M", "mu", "phi", "primepi", "prime"}
    | {"li", "Li", "R", "theta", "psi", "Lambda", "lambda", "N", "Z"}
)
LOCK = RLock()
"""Held while evaluating: mpmath's contexts and caches are not made for several threads."""


class OutOfReach(Exception):
    """A value that cannot be computed within the bounds; the message says why, for people."""


class Work:
    """What may still be spent on one reply."""

    def __init__(self, budget_us: float = BUDGET_US) -> None:
        self.left_us = budget_us
        self._paid: set[object] = set()

    def spend(self, cost_us: float) -> None:
        self.left_us -= cost_us
        if self.left_us < 0:
            raise OutOfReach("it would take too long to compute")

    def spend_once(self, what: object, cost_us: float) -> None:
        """Spend on something that is kept once computed, such as a zero or a table."""
        if what not in self._paid:
            self._paid.add(what)
            self.spend(cost_us)


class Calculator:
    """Evaluates trees at one precision. Use `calculator`; hold `LOCK`."""

    def __init__(self, digits: int) -> None:
        import mpmath

        self.digits = digits
        self.context: Any = mpmath.MPContext()
        # The functions about zeros look for these two on their context, as on mpmath's own.
        self.context._mp = self.context
        self.context._fp = mpmath.fp
        self.context.dps = digits
        self.work = Work()
        self.largest_digits = 0.0
        self._kept: dict[int, Any] = {}
        self._largest_bits = LARGEST_MAGNITUDE_DIGITS * 3.33

    def keep_constants(self, *sides: Node) -> None:
        """Evaluate the parts of a claim without a variable once and for all; no sides: forget them.

        The caller keeps the trees alive until then.
        """
        self._kept = {}
        kept: dict[int, Any] = {}
        for side in sides:
            for part in outermost_constants(side):
                kept[id(part)] = self.value(part)
        self._kept = kept

    def value(self, node: Node, variable: int | None = None) -> Any:
        """Return the value of a tree. Raises OutOfReach."""
        self.work.spend(3)
        if self._kept and id(node) in self._kept:
            return self._kept[id(node)]
        made = self._value(node, variable)
        bits = self._bits(made)
        self.largest_digits = max(self.largest_digits, bits * 0.30103)
        return made

    def _value(self, node: Node, variable: int | None) -> Any:
        match node:
            case Number(value):
                return self._fraction(value)
            case Constant(name):
                return self._constant(name)
            case Variable(name):
                if variable is None:
                    raise OutOfReach(f"nothing says what {name} is")
                return self.context.mpf(variable)
            case Call(function, argument):
                return FUNCTIONS[function](self, self.value(argument, variable))
            case Operation(sign, left, right):
                return self._combined(sign, self.value(left, variable), self.value(right, variable))

    def _fraction(self, value: Fraction) -> Any:
        return self.context.mpf(value.numerator) / value.denominator

    def _constant(self, name: str) -> Any:
        context = self.context
        return +{"pi": context.pi, "e": context.e, "gamma": context.euler, "i": context.j}[name]

    def _combined(self, sign: str, left: Any, right: Any) -> Any:
        self.work.spend(3)
        if sign == "+":
            return left + right
        if sign == "-":
            return left - right
        if sign == "*":
            return left * right
        if sign == "/":
            if right == 0:
                raise OutOfReach("it divides by zero")
            return left / right
        return self.power(left, right)

    def power(self, base: Any, exponent: Any) -> Any:
        self.work.spend(20)
        if base == 0:
            if self.context.re(exponent) <= 0:
                raise OutOfReach("it raises zero to a power that is not positive")
            return base
        if exponent == 0 or base == 1:
            return self.context.mpf(1)
        self.bounded_exponent(exponent * self.context.log(base))
        return base**exponent

    def bounded_exponent(self, exponent: Any) -> None:
        """Refuse exp(exponent) where it has too many digits, or turns too often to be known."""
        if abs(exponent) > LARGEST_MAGNITUDE_DIGITS * 2.302:
            raise OutOfReach("a number in it is too large or too small")

    def _bits(self, value: Any) -> float:
        """Return the size of a value as a power of two; refuses what has no size."""
        size = self.context.mag(value)
        if size == -inf:
            return 0.0
        if not abs(size) < self._largest_bits:
            raise OutOfReach("a number in it is too large or too small")
        return float(size)

    def whole(self, value: Any, largest: int, smallest: int = 1) -> int:
        """Return an argument that must be a whole number of a certain size. Raises OutOfReach."""
        if self.context.im(value) != 0 or value != self.context.floor(self.context.re(value)):
            raise OutOfReach("a function of whole numbers is given another number")
        value = self.context.re(value)
        if not smallest <= value <= largest:
            raise OutOfReach(f"an argument is not between {smallest} and {_short(largest)}")
        return int(value)

    def floor(self, value: Any, largest: int = 10**15) -> int:
        """Return a real argument rounded down; refuses one too near a whole number to know which."""
        real = self.real(value)
        if abs(real) > largest:
            raise OutOfReach(f"an argument is larger than {_short(largest)}")
        nearest = int(self.context.nint(real))
        if real != nearest and abs(real - nearest) < self.context.mpf("1e-15") * max(1, abs(nearest)):
            raise OutOfReach("an argument is too near a whole number to be rounded")
        return nearest if nearest <= real else nearest - 1

    def real(self, value: Any) -> Any:
        if self.context.im(value) != 0:
            raise OutOfReach("a function of real numbers is given a complex one")
        return self.context.re(value)

    def within(self, value: Any, smallest: float, largest: float, heights: float) -> tuple[float, float]:
        """Return real and imaginary part of an argument as floats, after checking their size."""
        real, imaginary = self.context.re(value), self.context.im(value)
        if not smallest <= real <= largest or abs(imaginary) > heights:
            allowed = f"real part {smallest:g} to {largest:g}, height at most {heights:g}"
            raise OutOfReach(f"an argument is outside what is computed here ({allowed})")
        return float(real), abs(float(imaginary))


def outermost_constants(node: Node) -> Iterator[Node]:
    """Yield the largest parts of a tree that have no variable in them."""
    if not any(isinstance(part, Variable) for part in walk(node)):
        yield node
    elif isinstance(node, Call):
        yield from outermost_constants(node.argument)
    elif isinstance(node, Operation):
        yield from outermost_constants(node.left)
        yield from outermost_constants(node.right)


def _short(number: int) -> str:
    return f"{number:,}" if number < 10**7 else f"{number:.0e}"


@cache
def calculator(digits: int) -> Calculator:
    """Return the calculator of a precision, in decimal digits."""
    return Calculator(digits)


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
    c.work.spend_once(("zero", number), 20_000 + 70 * zeros.gram_point(number))
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
    c.work.spend_once(("N", real), 60_000)
    c.work.spend(10)
    return c.context.mpf(_counted_zeros(real)) if real > 14 else c.context.mpf(0)


@lru_cache(maxsize=1024)
def _counted_zeros(height: float) -> int:
    return int(calculator(15).context.nzeros(height))


def _of_factors(compute: Callable[[Any], int], largest: int = 10**60) -> Callable[["Calculator", Any], Any]:
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
    c.work.spend_once(("M", size), 0 if size == "small" else 80_000 + 0.005 * limit)
    c.work.spend(8)
    return c.context.mpf(primes.mertens(limit))


def _prime_count(c: Calculator, value: Any) -> Any:
    limit = max(0, c.floor(value, primes.LARGEST_COUNT))
    if limit > primes.TABLE:
        c.work.spend_once(("pi", limit), 60_000 + limit * 1.7e-4)
    c.work.spend(8)
    return c.context.mpf(primes.prime_count(limit))


def _prime(c: Calculator, value: Any) -> Any:
    table = primes.primes()
    return c.context.mpf(table[c.whole(value, len(table)) - 1])


def _chebyshev(
    exponential: Callable[[int], int],
) -> Callable[["Calculator", Any], Any]:
    product = lru_cache(maxsize=64)(exponential)

    def function(c: Calculator, value: Any) -> Any:
        limit = max(1, c.floor(value, primes.TABLE))
        c.work.spend(40 + limit / 40 + (limit / 2600) ** 2)
        return c.context.log(c.context.mpf(product(limit)))

    return function


def _harmonic(c: Calculator, value: Any) -> Any:
    c.work.spend(50)
    return c.context.harmonic(c.whole(value, 10**30, 0))


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


def _circular(name: str) -> Callable[["Calculator", Any], Any]:
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


FUNCTIONS: dict[str, Callable[[Calculator, Any], Any]] = {
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
