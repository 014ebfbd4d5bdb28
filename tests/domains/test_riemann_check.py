"""Claims are judged by real mathematics: values from tables and theorems, not from this program."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from studium.domains.riemann import Riemann
from studium.domains.riemann.calculator import OutOfReach, Work
from studium.domains.riemann.functions import LOCK, calculator
from studium.domains.riemann.primes import factors, mertens, prime_count
from studium.domains.riemann.syntax import Parser, tokens_of
from studium.domains.riemann.zeros import zero
from studium.domains.topics import Assignment, Judgement

TOPIC = Riemann()
NOTHING = Assignment("any", "Propose a claim.", {})


def judge(text: str, known: tuple[str, ...] = ()) -> Judgement:
    return TOPIC.judge(NOTHING, text, known)


def value(text: str) -> complex:
    with LOCK:
        machine = calculator(25)
        machine.work = Work()
        return complex(machine.value(Parser(tokens_of(text)).expression()))


@pytest.mark.parametrize(
    "claim",
    [
        "gamma_1 ~ 14.134725141734693",  # the zeros: A. Odlyzko's tables
        "gamma_2 ~ 21.022039638771554",
        "zero(10) ~ 49.773832477672302",
        "zero(100) ~ 236.524229665816205",
        "gamma_1000 ~ 1419.422480945995686",
        "zeta(1/2 + i*zero(7)) = 0",
        "N(100) = 29",
        "zeta(2) = pi^2/6",
        "zeta(4) = pi^4/90",
        "zeta(-1) = -1/12",
        "zeta(0) = -0.5",
        "zeta'(0) = -log(2*pi)/2",
        "eta(1) = log(2)",
        "zeta(3) = 1.2020569",
        "zeta(1/2) ~ -1.4603545",
        "xi(0.3 + 2i) = xi(0.7 - 2i)",
        "zeta(-3) = 2^(-3)*pi^(-4)*sin(-3*pi/2)*Gamma(4)*zeta(4)",
        "sigma(5040) = 19344",
        "sigma(5040) > exp(gamma)*5040*log(log(5040))",  # Robin's last exception
        "sigma(n) < e^gamma n log log n for all n from 5041 to 6500",
        "sigma(n) <= H(n) + exp(H(n)) log(H(n)) for n = 1, ..., 200",  # Lagarias, with equality at 1
        "pi(10^6) = 78,498",
        "pi(10^9) = 50847534",
        "primepi(100) = 25",
        "li(10^6) - pi(10^6) ~ 129.549",
        "|pi(10^6) - li(10^6)| < sqrt(10^6) log(10^6)/(8 pi)",  # Schoenfeld
        "abs(psi(n) - n) < sqrt(n)*log(n)^2/(8*pi) for all n from 74 to 500",
        "theta(1000) ~ 956.245",
        "M(10000) = -23",  # OEIS A084237
        "M(10^6) = 212",
        "M(10^8) = 1928",
        "abs(M(n)) < sqrt(n) for all n from 2 to 2000",
        "mu(30) = -1",
        "phi(100) = 40",
        "prime(1000) = 7919",
        "Lambda(8) = log(2)",
        "lambda_1 = 1 + gamma/2 - log(4*pi)/2",  # Li's coefficients: A. Voros; OEIS A074760
        "lambda(2) ~ 0.0923457",
        "lambda(10) ~ 2.279339",
        "Z(14.134725) ~ 0 within 1e-5",
        "R(10^6) ~ 78527.399",
        "zero(k+1) - zero(k) > 0.7 for all k from 1 to 20",
    ],
)
def test_what_is_true_holds_and_is_useful(claim: str):
    judged = judge(claim)
    assert judged.score == 1.0, judged.reason
    assert judged.useful, judged.reason
    assert judged.keys


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("gamma_1 ~ 14.1357", "differ by 0.000975"),
        ("zeta(3) = 1.2030", "differ by"),
        ("zeta(3) = 1.21", "differ by"),  # neither rounded nor cut off
        ("zeta(2) = pi^2/5", "differ by 0.329"),
        ("sigma(5040) < exp(gamma)*5040*log(log(5040))", "the other way round"),
        ("sigma(n) < e^gamma n log log n for all n from 5000 to 6000", "n = 5040 is a counterexample"),
        ("M(n) <= 1 for n from 2 to 100", "n = 95 is a counterexample"),
        ("pi(10^6) = 78499", "differ by 1"),
        ("N(100) = 30", "differ by 1"),
        ("M(2) < 0", "both sides"),
        ("zeta(1/2 + i*14.134725) = 0", "differ by 1.12e-7"),
        ("zeta(2) > 1 and zeta(3) > 2", "zeta(3) > 2"),
    ],
)
def test_what_is_false_scores_zero(claim: str, reason: str):
    judged = judge(claim)
    assert judged.score == 0.0
    assert not judged.useful
    assert reason in judged.reason


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("The Riemann hypothesis is true.", "cannot be tested with numbers"),
        ("All non-trivial zeros lie on the line.", "cannot be tested with numbers"),
        ("I like primes.", "no numerical claim"),
        ("", "no numerical claim"),
        ("I cannot answer that.", "declined"),
        ("sigma(n) < 10*n for all n >= 5041", "infinitely many n"),
        ("pi(x) ~ li(x) for x = 1000", "how near"),
        ("zeta(1/2 + 14i) < 3", "no order"),
        ("zeta(2) < pi^2/6", "cannot tell"),
        ("zeta(2) + sqrt(10^200 + 1) > zeta(3) + 10^100 + zeta(2) - zeta(3)", "nothing of the topic"),
        ("pi(exp(log(5)) - 10^-30) = 2", "too near a whole number"),
        ("foo(3) = 5", "no function known here"),
        ("zero(m) < zero(n)", "2 free variables"),
    ],
)
def test_what_cannot_be_tested_has_no_score(claim: str, reason: str):
    judged = judge(claim)
    assert judged.score is None or "nothing of the topic" in judged.reason
    assert not judged.useful
    assert reason in judged.reason


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ("1 < 2", "nothing of the topic"),
        ("2 + 2 = 4", "same expression"),
        ("log(3) > 1", "nothing of the topic"),
        ("zeta(2) < zeta(2) + 1", "nothing of the topic"),
        ("zeta(2) = zeta(2)", "same expression"),
        ("0*zeta(2) < 1", "nothing of the topic"),
        ("zeta(2) < 1000", "too wide"),
        ("zero(1) ~ 14", "too coarse"),
    ],
)
def test_what_says_nothing_holds_without_being_useful(claim: str, reason: str):
    judged = judge(claim)
    assert (judged.score, judged.useful) == (1.0, False)
    assert reason in judged.reason


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("zeta(2) = pi^2/6", "$6\\zeta(2) = \\pi^2$"),
        ("gamma_1 ~ 14.1347", "zero(1) = 14.134725"),
        ("zeta(3) > 1.2", "6/5 < ζ(3)"),
        ("sigma(n) > n for n = 2 to 50", "sigma(n) > n for n from 10 to 40"),
        ("Let n = 5040. sigma(n) > 3n", "sigma(5040) > 15120"),
        ("zero(2) - zero(1) ~ 6.8873", "zero(1) - zero(2) ~ -6.88731"),
    ],
)
def test_the_same_claim_again_is_not_new(first: str, again: str):
    known = judge(first)
    assert known.useful, known.reason
    repeated = judge(again, known.keys)
    assert (repeated.score, repeated.useful) == (1.0, False)
    assert "before" in repeated.reason


def test_a_wider_range_is_new_and_so_is_one_new_claim_among_known_ones():
    known = judge("sigma(n) > n for n = 2 to 50").keys
    assert judge("sigma(n) > n for n = 2 to 60", known).useful
    assert judge("sigma(n) > n for n = 2 to 50, and M(100) = 1.", known).useful


def test_the_example_of_the_prompt_is_not_new():
    assignment = TOPIC.assign("zeta", 1, Random(1), ())
    judged = TOPIC.judge(assignment, assignment.facts["example"], ())
    assert (judged.score, judged.useful) == (1.0, False)


def test_zeros_agree_with_mpmath_also_where_grams_rule_fails():
    """The rule fails for the first time at zero 127: two zeros stand in one interval, none in the next."""
    import mpmath

    context = calculator(50).context
    for index in (1, 126, 127, 128, 136, 233):
        with LOCK:
            assert abs(float(zero(index, context)) - float(mpmath.zetazero(index).imag)) < 1e-10


def test_tables_and_formulas_agree_with_slow_obvious_code():
    def divisors(number: int) -> int:
        return sum(divisor for divisor in range(1, number + 1) if number % divisor == 0)

    def moebius(number: int) -> int:
        sign = 1
        for divisor in range(2, number + 1):
            if number % divisor == 0:
                number //= divisor
                sign = -sign
                if number % divisor == 0:
                    return 0
        return sign

    for number in (1, 2, 12, 97, 360, 997, 1024):
        assert value(f"sigma({number})") == divisors(number)
        assert value(f"mu({number})") == moebius(number)
    assert [mertens(limit) for limit in (1, 10, 200)] == [
        sum(moebius(number) for number in range(1, limit + 1)) for limit in (1, 10, 200)
    ]
    assert prime_count(10**7) == 664_579  # OEIS A006880
    assert prime_count(10**8) == 5_761_455
    assert prime_count(1_000_003) == prime_count(1_000_002) + 1
    assert factors(2**40 * 999_983 * 1_000_003) == ((2, 40), (999_983, 1), (1_000_003, 1))


def test_students_judged_at_the_same_time_do_not_disturb_each_other():
    """mpmath keeps its precision in one place: unguarded, one judgement would change another's digits."""
    claims = [
        "zeta(3) ~ 1.2020569",
        "zeta(3) = 1.2030",
        "sigma(n) > n for all n from 2 to 300",
        "zeta(2) = pi^2/6",
    ]
    alone = [judge(claim) for claim in claims]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(judge, claims * 5))
    assert together == alone * 5


def test_values_outside_the_bounds_are_refused_with_the_reason():
    for text, reason in (
        ("zeta(1)", "pole"),
        ("log(0)", "logarithm of zero"),
        ("1/(2-2)", "divides by zero"),
        ("sigma(1/2)", "whole numbers"),
        ("zero(0)", "between 1 and"),
        ("li(-2)", "not defined"),
        ("floor(i)", "complex"),
    ):
        with pytest.raises(OutOfReach, match=reason):
            value(text)
