"""How a tree is evaluated: within bounds of size and cost, at one precision.

A `Work` is what one reply may cost, in microseconds as estimated from the arguments *before* each step,
so that no text can make us hang and the same text always gets the same verdict, however fast the
machine. What is outside the bounds raises `OutOfReach` with the reason. The functions themselves are
given from outside; each checks its argument with the methods of the `Calculator` and spends its cost.
"""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from math import inf
from typing import Any

from studium.domains.riemann.syntax import Call, Constant, Node, Number, Operation, Variable, walk

LARGEST_MAGNITUDE_DIGITS = 20_000
BUDGET_US = 800_000
# Where a sum is so much smaller than its parts, what is left is mostly rounding.
_MOST_CANCELLED_BITS = 50
_EXACT_BITS = 80
# Beyond this, a value of 25 digits would look whole because nothing is left behind the point.
LARGEST_WHOLE = 10**18


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


Function = Callable[["Calculator", Any], Any]


class Calculator:
    """Evaluates trees at one precision. Not for several threads."""

    def __init__(self, digits: int, functions: "Mapping[str, Function]") -> None:
        import mpmath

        self.digits = digits
        self._functions = functions
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

    def side(self, node: Node, variable: int | None) -> Any:
        """Return the value of one side of a comparison: here sums may cancel, as the sides may.

        `largest_digits` says afterwards how large the numbers were that were added.
        """
        kept = id(node) in self._kept
        if not kept and isinstance(node, Operation) and node.sign in ("+", "-"):
            left, right = self.side(node.left, variable), self.side(node.right, variable)
            self.work.spend(6)
            return left + right if node.sign == "+" else left - right
        if not kept and isinstance(node, Call) and node.function == "abs":
            return abs(self.side(node.argument, variable))
        made = self.value(node, variable)
        self.largest_digits = max(self.largest_digits, self._bits(made) * 0.30103)
        return made

    def value(self, node: Node, variable: int | None = None) -> Any:
        """Return the value of a tree. Raises OutOfReach."""
        self.work.spend(3)
        if self._kept and id(node) in self._kept:
            return self._kept[id(node)]
        made = self._value(node, variable)
        self._bits(made)
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
                return self._functions[function](self, self.value(argument, variable))
            case Operation(sign, left, right):
                return self._combined(sign, self.value(left, variable), self.value(right, variable))

    def _fraction(self, value: Fraction) -> Any:
        return self.context.mpf(value.numerator) / value.denominator

    def _constant(self, name: str) -> Any:
        context = self.context
        return +{"pi": context.pi, "e": context.e, "gamma": context.euler, "i": context.j}[name]

    def _combined(self, sign: str, left: Any, right: Any) -> Any:
        self.work.spend(3)
        if sign in ("+", "-"):
            return self._added(left, right if sign == "+" else -right)
        if sign == "*":
            return left * right
        if sign == "/":
            if right == 0:
                raise OutOfReach("it divides by zero")
            return left / right
        return self.power(left, right)

    def _added(self, left: Any, right: Any) -> Any:
        total, largest = left + right, max(self._bits(left), self._bits(right))
        if self.context.mag(total) < largest - _MOST_CANCELLED_BITS:
            exact = self.context.isint(left) and self.context.isint(right) and largest < _EXACT_BITS
            if not exact:
                raise OutOfReach("it subtracts numbers that are too near each other")
        return total

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
