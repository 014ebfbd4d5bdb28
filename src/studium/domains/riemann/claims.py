"""True claims, made by computing them: what a small student can be trained on to propose its own.

Each subject has a few forms in the canonical notation, some whose values can be learnt by heart (zeros,
values of zeta), some that hold by a theorem for every number put in (Robin's inequality is checked far
beyond any n here, xi is symmetric), so that a student which learns the form can go on without end.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from random import Random

from studium.domains.riemann.calculator import Work
from studium.domains.riemann.functions import LOCK, PRECISIONS_DIGITS, calculator
from studium.domains.riemann.normal import text_of
from studium.domains.riemann.subjects import SUBJECT_BY_NAME
from studium.domains.riemann.syntax import Parser, tokens_of
from studium.errors import CallerError

Maker = Callable[[Random], str]
_DIGITS = 6
_ROBIN_FROM = 5041  # the first n after Robin's last exception
_SCHOENFELD_PI_FROM, _SCHOENFELD_PSI_FROM = 2657, 74
_LARGEST = 99_999


def make_claim(rng: Random, subject: str, *, by_heart: float = 0.4) -> str:
    """Return a true claim about a subject, in canonical notation. Equal rng states give equal claims.

    `by_heart` is the share, 0 to 1, of claims whose value has to be known rather than a form filled in, where
    the subject has both. Takes milliseconds, or some tens of them for a zero not met before. Raises CallerError for a
    subject that does not exist.
    """
    if subject not in SUBJECT_BY_NAME:
        near = get_close_matches(subject, SUBJECT_BY_NAME, n=1, cutoff=0.0)
        raise CallerError(
            f"the topic has no subject {subject!r}",
            expected=f"one of: {'; '.join(SUBJECT_BY_NAME)}",
            try_next=f"did you mean {near[0]!r}?",
        )
    known, formal = _BY_HEART.get(subject, ()), _BY_THEOREM[subject]
    return rng.choice(known if known and rng.random() < by_heart else formal)(rng)


def _shown(expression: str, digits: int = _DIGITS) -> str:
    """Compute an expression and write its value with so many significant digits."""
    with LOCK:
        machine = calculator(PRECISIONS_DIGITS[1])
        machine.work = Work()
        value = machine.side(Parser(tokens_of(expression)).expression(), None)
        if machine.context.isint(value):
            return str(int(value))
        return machine.context.nstr(value, digits, strip_zeros=False)


def _near(expression: str) -> str:
    return f"{expression} ~ {_shown(expression)}"


def _exact(expression: str) -> str:
    return f"{expression} = {_shown(expression)}"


def _range(rng: Random, first: int, last: int) -> str:
    """Return a range within one hundred, so that its end begins as its start does."""
    low = rng.randint(first, last)
    low -= low % 100 == 99
    return f"for all n from {low} to {low + rng.randint(1, 99 - low % 100)}"


def _zero(rng: Random) -> str:
    return _near(f"zero({rng.randint(1, 100)})")


def _zero_count(rng: Random) -> str:
    return _exact(f"N({rng.randint(15, 300)})")


def _on_the_line(rng: Random) -> str:
    return f"abs(zeta(1/2 + i*zero({rng.randint(1, 100)}))) < 0.0001"


def _zero_count_bound(rng: Random) -> str:
    """Riemann and von Mangoldt: N(T) is T/(2 pi) log(T/(2 pi e)) + 7/8, up to less than 1 at these heights."""
    height = f"{rng.randint(15, 400)}.{rng.randint(1, 9)}"
    return f"N({height}) < {height}/(2*pi)*log({height}/(2*pi))"


def _zeta_of_even(rng: Random) -> str:
    """zeta(2k) = |B_2k| (2 pi)^2k / (2 (2k)!), Euler."""
    half = rng.randint(1, 10)
    share = abs(_bernoulli(2 * half)) * 2 ** (2 * half) / 2
    for factor in range(2, 2 * half + 1):
        share /= factor
    return f"zeta({2 * half}) = {text_of({(('pi', Fraction(2 * half)),): share})}"


def _zeta_of_negative(rng: Random) -> str:
    """zeta(-n) = -B_(n+1) / (n + 1)."""
    number = rng.randint(1, 12)
    return f"zeta(-{number}) = {-_bernoulli(number + 1) / (number + 1)}"


def _bernoulli(number: int) -> Fraction:
    import mpmath

    return Fraction(*map(int, mpmath.bernfrac(number)))


def _zeta_value(rng: Random) -> str:
    function = rng.choice(("zeta", "eta", "zeta'"))
    return _near(f"{function}({rng.randint(2, 12)})")


def _symmetry(rng: Random) -> str:
    tenths, height = rng.choice((1, 2, 3, 4, 6, 7, 8, 9)), rng.randint(1, 40)
    return f"xi(0.{tenths} + {height}*i) = xi(0.{10 - tenths} - {height}*i)"


def _divisors(rng: Random) -> str:
    return _exact(f"sigma({rng.randint(2, 400)})")


def _robin(rng: Random) -> str:
    number = rng.randint(_ROBIN_FROM, _LARGEST)
    return f"sigma({number}) < exp(gamma)*{number}*log(log({number}))"


def _robin_range(rng: Random) -> str:
    return f"sigma(n) < exp(gamma)*n*log(log(n)) {_range(rng, _ROBIN_FROM, _LARGEST)}"


def _lagarias(rng: Random) -> str:
    number = rng.randint(2, 9999)
    return f"sigma({number}) < H({number}) + exp(H({number}))*log(H({number}))"


def _lagarias_range(rng: Random) -> str:
    return f"sigma(n) <= H(n) + exp(H(n))*log(H(n)) {_range(rng, 1, 9999)}"


def _mertens(rng: Random) -> str:
    return _exact(f"M({rng.randint(2, 400)})")


def _mertens_bound(rng: Random) -> str:
    return f"abs(M(n)) < sqrt(n) {_range(rng, 2, _LARGEST)}"


def _prime_count(rng: Random) -> str:
    return _exact(f"primepi({rng.randint(2, 1000)})")


def _schoenfeld_count(rng: Random) -> str:
    number = rng.randint(_SCHOENFELD_PI_FROM, _LARGEST)
    return f"abs(primepi({number}) - li({number})) < sqrt({number})*log({number})/(8*pi)"


def _below_li(rng: Random) -> str:
    return f"primepi(n) < li(n) {_range(rng, 8, _LARGEST)}"


def _schoenfeld_psi(rng: Random) -> str:
    number = rng.randint(_SCHOENFELD_PSI_FROM, 9999)
    return f"abs(psi({number}) - {number}) < sqrt({number})*log({number})^2/(8*pi)"


def _chebyshev_value(rng: Random) -> str:
    return _near(f"{rng.choice(('theta', 'psi'))}({rng.randint(5, 200)})")


def _theta_below(rng: Random) -> str:
    return f"theta(n) < n {_range(rng, 1, 9999)}"


def _gap(rng: Random) -> str:
    index = rng.randint(1, 99)
    return _near(f"zero({index + 1}) - zero({index})")


def _gap_bound(rng: Random) -> str:
    """The smallest gap among the first hundred zeros is 0.716, between the 91st and 92nd."""
    low = rng.randint(1, 80)
    return f"zero(n + 1) - zero(n) > 0.7 for all n from {low} to {low + rng.randint(1, 15)}"


def _li_value(rng: Random) -> str:
    return _near(f"lambda({rng.randint(1, 30)})")


def _li_positive(rng: Random) -> str:
    low = rng.randint(1, 25)
    return f"lambda(n) > 0 for all n from {low} to {rng.randint(low + 1, 30)}"


def _li_rising(rng: Random) -> str:
    index = rng.randint(1, 29)
    return f"lambda({index + 1}) > lambda({index})"


_BY_HEART: Mapping[str, Sequence[Maker]] = {
    "zeros on the critical line": (_zero, _zero_count),
    "zeta values and the functional equation": (_zeta_of_even, _zeta_of_negative, _zeta_value),
    "Robin's inequality": (_divisors,),
    "bounds on the Mertens function": (_mertens,),
    "counting primes": (_prime_count,),
    "Chebyshev's functions": (_chebyshev_value,),
    "spacing of zeros": (_gap,),
    "Li's criterion": (_li_value,),
}
_BY_THEOREM: Mapping[str, Sequence[Maker]] = {
    "zeros on the critical line": (_on_the_line, _zero_count_bound),
    "zeta values and the functional equation": (_symmetry,),
    "Robin's inequality": (_robin, _robin_range),
    "Lagarias' inequality": (_lagarias, _lagarias_range),
    "bounds on the Mertens function": (_mertens_bound,),
    "counting primes": (_schoenfeld_count, _below_li),
    "Chebyshev's functions": (_schoenfeld_psi, _theta_below),
    "spacing of zeros": (_gap_bound,),
    "Li's criterion": (_li_positive, _li_rising),
}
