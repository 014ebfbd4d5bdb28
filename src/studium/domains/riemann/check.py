"""Testing one claim: does it hold, as far as numbers can tell, and what is its canonical form?

Both sides are evaluated at two precisions. A difference counts as known only where the two agree in it to
three digits; then its sign decides. Sides that agree to more digits than the lower precision has count as
equal. Anything between is "cannot tell". A decimal claims as much as its digits say: `zeta(3) = 1.2020`
means within one unit of the last place, so that rounding and cutting off are both right.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from studium.domains.riemann.calculator import OutOfReach, Work
from studium.domains.riemann.functions import LOCK, PRECISIONS_DIGITS, calculator
from studium.domains.riemann.normal import (
    Sum,
    added,
    constant_of,
    leading,
    normal,
    on_topic,
    scaled,
    text_of,
)
from studium.domains.riemann.reading import Claim, Span
from studium.domains.riemann.syntax import Constant, Node, Number, Operation, Unreadable

LONGEST_RANGE = 20_000
_KNOWN_FACTOR = 1000
_SAME_DIGITS = 15
_COARSE_SHARE = Fraction(1, 100)
_COARSE_NEAR_ZERO = Fraction(1, 1000)
_LOOSE_FACTOR = 10
_NEARLY_ZERO = 0.01
_LONG_DECIMAL = Fraction(1, 10**12)
_AS_WRITTEN = str.maketrans({"(": None, ")": None, "j": "i"})
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "~": "~"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one claim. `holds` is None where it could not be tested; `reason` is for people.

    `worth` says that it would be worth keeping if it is new: on topic, and not too coarse to say anything.
    `body` and `span` are its canonical form, `key` is both together.
    """

    holds: bool | None
    reason: str
    body: str
    span: Span | None = None
    worth: bool = False

    @property
    def key(self) -> str:
        return self.body if self.span is None else f"{self.body} for n = {self.span.low} to {self.span.high}"


@dataclass(frozen=True, slots=True)
class _Difference:
    """Left minus right: its value at the higher precision, and whether it is known, zero, or neither."""

    value: Any
    known: bool
    zero: bool
    left: Any


def check(claim: Claim, work: Work) -> Verdict:
    """Test a claim, spending from `work`. Never raises because of what the claim says."""
    try:
        return _checked(claim, work)
    except Unreadable as problem:
        return Verdict(None, f"not tested: {problem}", "")
    except OutOfReach as problem:
        return Verdict(None, f"not tested: {problem}", _body_or_nothing(claim))
    except (ArithmeticError, ValueError, TypeError, NotImplementedError, RecursionError) as error:
        return Verdict(None, f"not tested: it cannot be evaluated ({type(error).__name__})", "")


def _body_or_nothing(claim: Claim) -> str:
    try:
        return _form(claim, None).body
    except (Unreadable, ValueError, RecursionError):
        return ""


@dataclass(frozen=True, slots=True)
class _Form:
    """A claim in canonical form: `terms` compared with zero."""

    terms: Sum
    relation: str
    body: str


def _form(claim: Claim, substitute: Fraction | None) -> _Form:
    """Bring everything to one side, scale the leading term to 1, and write it as left and right again."""
    terms = added(normal(claim.left, substitute), scaled(normal(claim.right, substitute), Fraction(-1)))
    relation = claim.relation
    if terms:
        factor = leading(terms)
        terms = scaled(terms, 1 / factor)
        relation = _TURNED[relation] if factor < 0 else relation
    # What is not about the topic stands on the right, whatever its sign: zeta(-1) = -1/12.
    topical = any(on_topic(text_of({monomial: value})) for monomial, value in terms.items())
    left = {
        monomial: value
        for monomial, value in terms.items()
        if value > 0 and (not topical or on_topic(text_of({monomial: value})))
    }
    right = {monomial: -value for monomial, value in terms.items() if monomial not in left}
    body = f"{text_of(left)} {relation} {text_of(right)}"
    if claim.within is not None:
        body += f" within {text_of(normal(claim.within, substitute))}"
    return _Form(terms, relation, body)


def _checked(claim: Claim, work: Work) -> Verdict:
    if len(claim.variables) > 1:
        raise OutOfReach(f"it has {len(claim.variables)} free variables, one at most is understood")
    if not claim.variables:
        return _closed(claim, None, work)
    span = claim.span
    if span is None or span.low is None or span.high is None:
        raise OutOfReach("it speaks of infinitely many n; say 'for all n from A to B'")
    if span.low > span.high:
        raise OutOfReach("its range of n is empty")
    if span.low == span.high:
        return _closed(claim, span.low, work)
    return _ranged(claim, span, work)


def _closed(claim: Claim, variable: int | None, work: Work) -> Verdict:
    form = _form(claim, None if variable is None else Fraction(variable))
    if not on_topic(form.body):
        return _off_topic(claim, variable, form, work)
    difference = _difference(claim, variable, work)
    unit = _stated_unit(claim)
    if claim.relation in ("=", "~") and (unit is not None or claim.within is not None):
        return _approximate(claim, variable, form, difference, unit, work)
    if claim.relation == "~":
        raise OutOfReach("it does not say how near; add 'within 0.001'")
    holds = _decided(claim.relation, difference)
    loose = holds and claim.relation != "=" and _is_loose(claim, difference)
    said = _said(claim.relation, difference, holds)
    return Verdict(holds, said + (", but the bound is too wide to say much" if loose else ""), form.body,
                   worth=bool(holds) and not loose)  # fmt: skip


def _off_topic(claim: Claim, variable: int | None, form: _Form, work: Work) -> Verdict:
    """Such a claim is tested all the same: a false one is false."""
    if not form.terms:
        return Verdict(
            claim.relation in ("=", "<=", ">=", "~"), "both sides are the same expression", form.body
        )
    constant = constant_of(form.terms)
    if constant is not None and claim.relation != "~" and _stated_unit(claim) is None:
        sign = {"<": constant < 0, "<=": constant <= 0, ">": constant > 0, ">=": constant >= 0, "=": False}
        return Verdict(sign[form.relation], "there is nothing of the topic in it", form.body)
    difference = _difference(claim, variable, work)
    unit = _stated_unit(claim)
    if claim.relation in ("=", "~") and unit is not None:
        holds = difference.zero or bool(abs(difference.value) <= _number(unit))
    elif claim.relation == "~":
        raise OutOfReach("there is nothing of the topic in it")
    else:
        holds = _decided(claim.relation, difference)
    return Verdict(holds, "there is nothing of the topic in it", form.body)


def _approximate(
    claim: Claim,
    variable: int | None,
    form: _Form,
    difference: _Difference,
    unit: Fraction | None,
    work: Work,
) -> Verdict:
    """Judge `=` with a decimal and `~`. The key of one that holds has the true value in it."""
    if difference.zero:
        long = unit is not None and unit < _LONG_DECIMAL
        exact = form.body.partition(" within ")[0].replace(" ~ ", " = ")
        body = (_valued(claim, variable) if long else None) or exact
        return Verdict(True, "both sides agree to all digits computed", body, worth=True)
    tolerance: Any = None if unit is None else _number(unit)
    if claim.within is not None:
        tolerance = _positive(claim.within, variable, work)
    gap = abs(difference.value)
    if not difference.known and not difference.zero and gap * 1000 > tolerance:
        return Verdict(None, "cannot tell: the numerical error is as large as the difference", form.body)
    if gap > tolerance or (claim.within is None and not _fits(claim, difference, tolerance)):
        return Verdict(False, f"the sides differ by {_shown(gap)}", form.body)
    size = abs(difference.left)
    coarse = tolerance > max(size * _number(_COARSE_SHARE), _number(_COARSE_NEAR_ZERO))
    body = (_valued(claim, variable) if size > tolerance else None) or form.body
    if coarse:
        return Verdict(True, "it holds, but is too coarse to say much; write more digits", body)
    return Verdict(True, f"the sides agree to {_shown(gap)}", body, worth=True)


def _fits(claim: Claim, difference: _Difference, unit: Any) -> bool:
    """Say whether a decimal is the value rounded, or the value with the further digits cut off."""
    if abs(difference.value) <= unit / 2:
        return True
    stated, value = difference.left - difference.value, difference.left
    if _unit(claim.right) is None:
        stated, value = value, stated
    return bool(abs(stated) < abs(value))


def _valued(claim: Claim, variable: int | None) -> str | None:
    """Return `expression ~ value` with the value to six digits, where one side is only a number."""
    for literal, other in ((claim.right, claim.left), (claim.left, claim.right)):
        if _unit(literal) is None and not isinstance(literal, Number):
            continue
        terms = normal(other, None if variable is None else Fraction(variable))
        factor = leading(terms)
        value = calculator(PRECISIONS_DIGITS[1]).side(other, variable) / _number(factor)
        if len(terms) > 1 and calculator(PRECISIONS_DIGITS[1]).context.re(value) < 0:
            factor, value = -factor, -value
        return f"{text_of(scaled(terms, 1 / factor))} ~ {_shown(value, 6)}"
    return None


def _ranged(claim: Claim, span: Span, work: Work) -> Verdict:
    """Test every whole number of a range; the first that fails is the counterexample."""
    low, high = span.low or 0, span.high or 0
    form = _form(claim, None)
    if high - low >= LONGEST_RANGE:
        raise OutOfReach(f"its range has {high - low + 1:,} numbers, more than {LONGEST_RANGE:,}")
    if not on_topic(form.body):
        return Verdict(None, "not tested: there is nothing of the topic in it", form.body, span)
    if claim.relation == "~" and _stated_unit(claim) is None and claim.within is None:
        raise OutOfReach("it does not say how near; add 'within 0.001'")
    unsure: int | None = None
    for digits in PRECISIONS_DIGITS:
        calculator(digits).work = work
        calculator(digits).keep_constants(claim.left, claim.right)
    # The ends come first: they tell what a number costs, and where a false claim often fails.
    for place, number in enumerate((low, high, high, *range(low + 1, high))):
        before_us = work.left_us
        holds, difference = _holds_at(claim, number, work)
        if holds is False:
            said = _said(claim.relation, difference, False)
            return Verdict(False, f"n = {number} is a counterexample: {said}", form.body, span)
        if holds is None:
            unsure = number if unsure is None else unsure
        if place == 2 and (before_us - work.left_us) * (high - low) > work.left_us:
            fitting = int(work.left_us / (before_us - work.left_us)) // 10 * 10
            raise OutOfReach(f"its range would take too long; about {fitting} numbers would not")
    if unsure is not None:
        return Verdict(None, f"cannot tell at n = {unsure}", form.body, span)
    return Verdict(True, f"it holds for all {high - low + 1:,} numbers", form.body, span, worth=True)


def _holds_at(claim: Claim, number: int, work: Work) -> tuple[bool | None, _Difference]:
    """Test a claim for one number of its range."""
    difference = _difference(claim, number, work)
    unit = _stated_unit(claim)
    if claim.relation == "~" or (claim.relation == "=" and unit is not None):
        tolerance = _positive(claim.within, number, work) if claim.within else _number(unit or Fraction(0))
        return bool(abs(difference.value) <= tolerance), difference
    return _decided(claim.relation, difference), difference


def _difference(claim: Claim, variable: int | None, work: Work) -> _Difference:
    """Evaluate both sides at both precisions and say what is known of their difference."""
    rough_left, rough_right, _ = _sides(claim, variable, work, PRECISIONS_DIGITS[0])
    left, right, largest_digits = _sides(claim, variable, work, PRECISIONS_DIGITS[1])
    context = calculator(PRECISIONS_DIGITS[1]).context
    rough, fine = rough_left - rough_right, left - right
    known = fine != 0 and abs(rough - fine) * _KNOWN_FACTOR <= abs(fine)
    if known and not context.im(fine):
        return _Difference(context.re(fine), known=True, zero=False, left=left)
    size = max(abs(left), abs(right), context.mpf(1))
    vanishing = abs(fine) <= size * context.mpf(10) ** -(PRECISIONS_DIGITS[0] + 5)
    shrinking = abs(rough) <= size * context.mpf(10) ** -_SAME_DIGITS
    # Where numbers much larger than the sides were cancelled, agreement says nothing.
    sound = largest_digits - float(context.log10(size)) < PRECISIONS_DIGITS[0]
    zero = not known and bool(vanishing and shrinking and sound)
    if claim.relation not in ("=", "~"):
        fine = _real_part(context, fine, size)
    return _Difference(fine, bool(known), zero, left)


def _sides(claim: Claim, variable: int | None, work: Work, digits: int) -> tuple[Any, Any, float]:
    machine = calculator(digits)
    machine.work = work
    machine.largest_digits = 0.0
    return (
        machine.side(claim.left, variable),
        machine.side(claim.right, variable),
        machine.largest_digits,
    )


def _real_part(context: Any, value: Any, size: Any) -> Any:
    imaginary = abs(context.im(value))
    if imaginary and imaginary > size * context.mpf(10) ** -(PRECISIONS_DIGITS[0]):
        raise OutOfReach("it compares complex numbers, which have no order")
    return context.re(value)


def _decided(relation: str, difference: _Difference) -> bool | None:
    """Return whether left `relation` right, or None where the numbers cannot tell."""
    if difference.zero:
        exact = difference.value == 0
        return relation in ("=", "<=", ">=") or (False if exact else None)
    if not difference.known:
        return None
    if relation == "=":
        return False
    return bool(difference.value < 0) == (relation in ("<", "<="))


def _said(relation: str, difference: _Difference, holds: bool | None) -> str:
    if holds is None:
        return "cannot tell: the numerical error is as large as the difference"
    if difference.zero:
        return "both sides agree to all digits computed"
    gap = _shown(abs(difference.value))
    if relation in ("=", "~"):
        return f"the sides differ by {gap}"
    return f"the sides are {gap} apart" + ("" if holds else ", the other way round")


def _is_loose(claim: Claim, difference: _Difference) -> bool:
    """Say whether a value is bounded by a plain number that is ten times too large or too small."""
    plain = [_unit(side) is not None or isinstance(side, Number) for side in (claim.left, claim.right)]
    if not any(plain) or difference.zero:
        return False
    one, other = abs(difference.left), abs(difference.left - difference.value)
    low, high = min(one, other), max(one, other)
    return bool(low != 0 and high > _LOOSE_FACTOR * low and high > _NEARLY_ZERO)


def _stated_unit(claim: Claim) -> Fraction | None:
    """Return what one in the last place of the number that a claim states is worth."""
    if claim.relation not in ("=", "~"):
        return None
    for side in (claim.right, claim.left):
        unit = _unit(side)
        if unit is not None:
            return unit
        if isinstance(side, Number) and claim.relation == "~":
            return Fraction(1)
    return None


def _unit(node: Node) -> Fraction | None:
    """Return the last place of a decimal, also of `-1.5`, `1.2 * 10^-5` and `0.5 + 14.13i`."""
    match node:
        case Number(_, unit):
            return unit
        case Operation("*", Number(value), inner) if value == -1:
            return _unit(inner)
        case Operation("*", Number(_, unit), Operation("^", Number(ten), _) as power) if ten == 10:
            exponent = constant_of(normal(power))
            return None if unit is None or exponent is None else unit * exponent
        case Operation("*", Number(_, unit), Constant("i")):
            return unit
        case Operation("+" | "-", left, Operation("*", Number(), Constant("i")) as right):
            units = [unit for unit in (_unit(left), _unit(right)) if unit is not None]
            return max(units, default=None)
        case _:
            return None


def _positive(node: Node, variable: int | None, work: Work) -> Any:
    machine = calculator(PRECISIONS_DIGITS[1])
    machine.work = work
    return abs(machine.value(node, variable))


def _number(value: Fraction) -> Any:
    context = calculator(PRECISIONS_DIGITS[1]).context
    return context.mpf(value.numerator) / value.denominator


def _shown(value: Any, digits: int = 3) -> str:
    context = calculator(PRECISIONS_DIGITS[1]).context
    return str(context.nstr(value, digits)).translate(_AS_WRITTEN)


def locked_check(claims: tuple[Claim, ...], work: Work) -> list[Verdict]:
    """Test claims one after another, alone on mpmath."""
    with LOCK:
        verdicts: list[Verdict] = []
        for claim in claims:
            verdicts.append(check(claim, work))
            for digits in PRECISIONS_DIGITS:
                calculator(digits).keep_constants()
        return verdicts
