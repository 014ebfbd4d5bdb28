"""Canonical form: the same expression in another notation gives the same text.

An expression becomes a sum of monomials with rational coefficients over atoms (function values, named
numbers, the variable). Sums are collected, factors and signs are moved to their places, `sqrt`, `e^x`
and `rho` are written in one way. Brackets are not multiplied out, so the result is never larger than
what was written. Nothing is evaluated but plain arithmetic of small numbers.
"""

import hashlib
import re
from fractions import Fraction
from math import factorial

from studium.domains.riemann.functions import TOPIC_FUNCTIONS
from studium.domains.riemann.syntax import Call, Constant, Node, Number, Operation, Unreadable, Variable

Factor = tuple[str, Fraction]
Monomial = tuple[Factor, ...]
Sum = dict[Monomial, Fraction]

_LARGEST_POWER_BITS = 400
_LARGEST_FOLDED_FACTORIAL = 20
_LARGEST_NUMBER_BITS = 4000
# Products of sums repeat their factors: without a bound, a nested text could grow without one.
_LONGEST_ATOM_CHARACTERS = 240
_LONG, _LONG_ON_TOPIC = "long", "longtopic"
_HALF = Fraction(1, 2)
_NAMES = "|".join(sorted({*TOPIC_FUNCTIONS, _LONG_ON_TOPIC}, key=len, reverse=True))
_TOPIC = re.compile(rf"(?<![A-Za-z])(?:{_NAMES})\(")
_PLAIN = re.compile(r"[A-Za-z']*(?:\([^()]*\))?|\d+")


def normal(node: Node, substitute: Fraction | None = None) -> Sum:
    """Return the canonical form of a tree, with a number in place of the variable if one is given.

    Raises Unreadable where it divides by zero.
    """
    match node:
        case Number(value):
            return _number(value)
        case Constant(name):
            return {((name, Fraction(1)),): Fraction(1)}
        case Variable():
            return {(("n", Fraction(1)),): Fraction(1)} if substitute is None else _number(substitute)
        case Call(function, argument):
            return _called(function, normal(argument, substitute))
        case Operation(sign, left, right):
            return _combined(sign, normal(left, substitute), normal(right, substitute))


def text_of(terms: Sum) -> str:
    """Return a form as text that can be read again, what is added before what is taken away."""
    if not terms:
        return "0"
    written = ""
    for monomial in sorted(terms, key=lambda monomial: (terms[monomial] < 0, _rank(monomial))):
        term = _term(monomial, terms[monomial])
        written += f" - {term[1:]}" if term.startswith("-") and written else f" + {term}" if written else term
    return written


def leading(terms: Sum) -> Fraction:
    """Return the coefficient of the leading term, which is about the topic if any is."""
    return terms[min(terms, key=_rank)]


def scaled(terms: Sum, factor: Fraction) -> Sum:
    return {monomial: coefficient * factor for monomial, coefficient in terms.items()}


def added(one: Sum, other: Sum) -> Sum:
    total = dict(one)
    for monomial, coefficient in other.items():
        total[monomial] = total.get(monomial, Fraction(0)) + coefficient
    return {monomial: coefficient for monomial, coefficient in total.items() if coefficient}


def on_topic(text: str) -> bool:
    """Say whether a canonical text has a function of the topic in it."""
    return _TOPIC.search(text) is not None


def constant_of(terms: Sum) -> Fraction | None:
    """Return the plain number a form is, or None."""
    if not terms:
        return Fraction(0)
    return terms[()] if set(terms) == {()} else None


def _number(value: Fraction) -> Sum:
    return {(): value} if value else {}


def _atom(text: str, exponent: Fraction = Fraction(1)) -> Sum:
    return {((_bounded(text), exponent),): Fraction(1)}


def _bounded(text: str) -> str:
    """Return a text, or where it is too long a short one that stands for it and for no other."""
    if len(text) <= _LONGEST_ATOM_CHARACTERS:
        return text
    name = _LONG_ON_TOPIC if on_topic(text) else _LONG
    return f"{name}({text[:40]}...{hashlib.sha256(text.encode()).hexdigest()[:16]})"


def _combined(sign: str, left: Sum, right: Sum) -> Sum:
    if sign == "+":
        return added(left, right)
    if sign == "-":
        return added(left, scaled(right, Fraction(-1)))
    if sign == "*":
        return _product(left, right)
    if sign == "/":
        if len(left) > 1 and len(right) > 1:
            left, right = _bracketed(left), _bracketed(right)
        return _product(left, _power(right, Fraction(-1)))
    exponent = constant_of(right)
    if exponent is not None:
        return _power(left, exponent)
    if left == _atom("e"):
        return _called("exp", right)
    return _atom(f"({text_of(left)})^({text_of(right)})")


def _product(left: Sum, right: Sum) -> Sum:
    if not left or not right:
        return {}
    if len(left) > 1 and len(right) > 1:
        return _product(_bracketed(left), _bracketed(right))
    total: Sum = {}
    for one, first in left.items():
        for other, second in right.items():
            monomial, sign = _joined(one, other)
            total = added(total, {monomial: first * second * sign})
    return total


def _bracketed(terms: Sum) -> Sum:
    """Return a sum as one factor, scaled so that it begins with 1."""
    factor = leading(terms)
    return scaled(_atom(f"({text_of(scaled(terms, 1 / factor))})"), factor)


def _joined(one: Monomial, other: Monomial) -> tuple[Monomial, int]:
    exponents = dict(one)
    for atom, exponent in other:
        exponents[atom] = exponents.get(atom, Fraction(0)) + exponent
    sign = 1
    turns = exponents.get("i")
    if turns is not None and turns.denominator == 1:
        sign = -1 if turns % 4 in (2, 3) else 1
        exponents["i"] = turns % 2
    return tuple(sorted((atom, power) for atom, power in exponents.items() if power)), sign


def _power(base: Sum, exponent: Fraction) -> Sum:
    if exponent == 0:
        return _number(Fraction(1))
    if exponent == 1:
        return base
    if not base:
        if exponent < 0:
            raise Unreadable("it divides by zero")
        return {}
    if len(base) > 1:
        if exponent.denominator != 1:
            return _atom(f"({text_of(base)})", exponent)
        base = _bracketed(base)
    ((monomial, coefficient),) = base.items()
    if exponent.denominator != 1 and (coefficient < 0 or "i" in dict(monomial)):
        return _atom(f"({text_of(base)})", exponent)
    number = _number_power(coefficient, exponent)
    raised = tuple((atom, power * exponent) for atom, power in monomial)
    # A root of a square is not the thing itself for numbers below zero: (x^2)^(1/2) stays as it is.
    if exponent.denominator != 1 and any(power.denominator == 1 and power != 1 for _, power in monomial):
        return _atom(f"({text_of(base)})", exponent)
    joined, sign = _joined(raised, ())
    return _product(number, {joined: Fraction(sign)})


def _number_power(base: Fraction, exponent: Fraction) -> Sum:
    if base == 1:
        return _number(base)
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator == 1 and abs(exponent) * size <= _LARGEST_POWER_BITS:
        return _number(base ** int(exponent))
    return _atom(f"({_plain(base)})" if base < 0 or base.denominator > 1 else _plain(base), exponent)


def _called(function: str, argument: Sum) -> Sum:
    constant = constant_of(argument)
    if function == "sqrt":
        return _power(argument, _HALF)
    if function == "rho":
        return added(_number(_HALF), _product(_atom("i"), _atom(f"zero({text_of(argument)})")))
    if function == "exp" and constant is not None:
        return _power(_atom("e"), constant)
    if function == "abs":
        if constant is not None:
            return _number(abs(constant))
        if leading(argument) < 0:
            argument = scaled(argument, Fraction(-1))
    if function == "factorial" and constant is not None and constant in range(_LARGEST_FOLDED_FACTORIAL + 1):
        return _number(Fraction(factorial(int(constant))))
    return _atom(f"{function}({text_of(argument)})")


def _rank(monomial: Monomial) -> tuple[bool, bool, int, str]:
    """The order of terms: those about the topic, others, the plain number."""
    text = "*".join(f"{atom}^{power}" for atom, power in monomial)
    return (not on_topic(text), not monomial, len(monomial), text)


def _term(monomial: Monomial, coefficient: Fraction) -> str:
    above = [_factor(atom, power) for atom, power in monomial if power > 0]
    below = [_factor(atom, -power) for atom, power in monomial if power < 0]
    plain = _plain(abs(coefficient))
    if "/" in plain:
        plain, _, denominator = plain.partition("/")
        below.append(denominator)
    if plain != "1" or not above:
        above.insert(0, plain)
    return ("-" if coefficient < 0 else "") + "/".join(["*".join(above), *below])


def _factor(atom: str, power: Fraction) -> str:
    if power == 1:
        return atom
    base = atom if _PLAIN.fullmatch(atom) or atom.startswith("(") else f"({atom})"
    return f"{base}^{power}" if power.denominator == 1 else f"{base}^({power})"


def _plain(value: Fraction) -> str:
    """Write a number as a whole number, a small fraction, a decimal, or a fraction."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _LARGEST_NUMBER_BITS:
        raise Unreadable("a number in it is too long")
    if value.denominator <= 12:
        return str(value)
    twos, fives, rest = 0, 0, value.denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest != 1 or places > 150:
        return str(value)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return ("-" if value < 0 else "") + f"{digits[:-places]}.{digits[-places:]}"
