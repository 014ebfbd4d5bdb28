"""Claims are found in text as models write it, and one claim in many notations has one canonical form."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studium.domains.riemann.normal import normal, text_of
from studium.domains.riemann.reading import Span, read_claims
from studium.domains.riemann.syntax import Parser, Unreadable, tokens_of


def canonical(text: str) -> str:
    parser = Parser(tokens_of(text))
    node = parser.expression()
    assert parser.position == len(tokens_of(text)), f"{text!r} was read only in part"
    return text_of(normal(node))


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("e^gamma n log log n", "exp(gamma)*log(log(n))*n"),
        ("n*exp(gamma)*log(log(n))", "exp(gamma)*log(log(n))*n"),
        ("sqrt(x) log^2(x)/(8 pi)", "log(n)^2*n^(1/2)/pi/8"),
        ("1/8*log(x)^2*x^0.5/pi", "log(n)^2*n^(1/2)/pi/8"),
        ("1/2 + 14.13i", "14.13*i + 1/2"),
        ("i*14.13 + 0.5", "14.13*i + 1/2"),
        ("|psi(x) - x|", "abs(psi(n) - n)"),
        ("abs(x - psi(x))", "abs(psi(n) - n)"),
        ("gamma_(n+1) - gamma_n", "zero(n + 1) - zero(n)"),
        ("rho_1", "i*zero(1) + 1/2"),
        ("pi(100) + pi", "primepi(100) + pi"),
        ("2pi(10)", "2*primepi(10)"),
        ("x/2pi", "n/pi/2"),
        ("-2^2", "-4"),
        ("2^-3^2", "1/512"),
        ("5! - 120", "0"),
        ("i^2", "-1"),
        ("2(n+1)/(2n+2)", "1"),
        ("zeta(2) + 0*zeta(3)", "zeta(2)"),
        ("1,234,567", "1234567"),
        ("(n^2)^(1/2)", "(n^2)^(1/2)"),
    ],
)
def test_one_form_for_many_notations(written: str, form: str):
    assert canonical(written) == form.replace("1/512", "0.001953125")


@pytest.mark.parametrize(
    "text", ["sigma(n)*exp(gamma) - 3/7", "zeta(1/2 + i*zero(3))^2/log(2)", "10^300*xi(0.3)"]
)
def test_a_canonical_form_can_be_read_again(text: str):
    assert canonical(canonical(text)) == canonical(text)


@pytest.mark.parametrize(
    "text", ["zeta(2", "zeta 2", "2 +", "foo(3)", "(1", "^2", "", "1e999", "9" * 200, "log"]
)
def test_what_is_no_expression_is_refused(text: str):
    with pytest.raises(Unreadable):
        Parser(tokens_of(text)).expression()


def test_the_forms_of_a_sum_of_divisors_claim_are_one():
    texts = [
        "For all n from 5041 to 6000, sigma(n) < e^gamma n log log n.",
        "sigma(n) < exp(gamma) * n * log(log(n)) for all integers 5041 <= n <= 6000",
        "**Claim 1:** For all $n \\in [5041, 6000]$ we have $\\sigma(n) < e^{\\gamma} n \\log\\log n$.",
        "σ(n) < e^γ · n · log(log(n)) for n = 5041, ..., 6000",
        "Let n be between 5041 and 6000. Then sigma(n) is less than exp(gamma)*n*ln(ln(n))",
        "For 5040 < n < 6001:\n- sigma(n) < exp(gamma)*n*log(log(n))",
        "`e^gamma*n*log(log(n)) > sigma(n)` for n in 5041..6000",
    ]
    for text in texts:
        (claim,) = read_claims(text).claims
        left, right = text_of(normal(claim.left)), text_of(normal(claim.right))
        assert {left, right} == {"sigma(n)", "exp(gamma)*log(log(n))*n"}, text
        assert claim.span == Span(5041, 6000), text


@pytest.mark.parametrize(
    "text",
    [
        "zeta(2) = pi^2/6",
        "ζ(2) = π²/6",
        "$$\\zeta(2) = \\frac{\\pi^2}{6}$$",
        "\\[\\zeta(2)=\\pi^{2}/6\\]",
        "I propose: `zeta(2) == pi**2/6`!",
        "1. The value zeta(2) is equal to pi^2 / 6, as Euler knew.",
        "Surely zeta(2) equals (1/6) π^2.",
    ],
)
def test_a_value_in_many_dresses(text: str):
    (claim,) = read_claims(text).claims
    assert (text_of(normal(claim.left)), claim.relation) == ("zeta(2)", "=")
    assert text_of(normal(claim.right)) == "pi^2/6"


def test_a_tolerance_is_read():
    for text in (
        "γ₁ ≈ 14.1347 (within 1e-4)",
        "The first zero gamma_1 ~ 14.1347 to within 10^-4",
        "γ₁ ≈ 14.1347 ± 1e-4",
    ):
        (claim,) = read_claims(text).claims
        assert text_of(normal(claim.left)) == "zero(1)"
        assert claim.within is not None
        assert text_of(normal(claim.within)) == "0.0001"


def test_a_chain_is_several_claims_and_a_bound_on_the_variable_is_none():
    chain = read_claims("1.6 < zeta(2) < 1.7").claims
    assert [claim.relation for claim in chain] == ["<", "<"]
    assert read_claims("Let n = 5040.").claims == ()
    (claim,) = read_claims("Let n = 5040. Then sigma(n) > 3*n.").claims
    assert claim.span == Span(5040, 5040)
    (claim,) = read_claims("sigma(n) > n for all n >= 2").claims
    assert claim.span == Span(2, None)


@pytest.mark.parametrize(
    "text",
    [
        "foo(3) = 5",
        "S(3) + zeta(2) = 5",
        "zeta(2) < 2 foo(3)",
        "zeta(2) = 1 + O(x)",
        "sum_{k=1}^{10} 1/k^2 < zeta(2)",
        "\\sum_{n \\le x} \\mu(n) < 5",
        "bar - zeta(2) = 3",
    ],
)
def test_the_end_of_an_expression_is_not_taken_for_the_whole(text: str):
    reading = read_claims(text)
    assert reading.claims == ()
    assert reading.unread


@pytest.mark.parametrize(
    "text",
    [
        "For all primes n from 3 to 100, sigma(n) = n + 1.",
        "For some n between 2 and 100, M(n) > 1",
        "There exists n in [2, 100] with M(n) > 1",
        "sigma(n) < e^gamma n log log n fails at n = 5040.",
        "It is not true that zeta(2) < 1.",
        "Robin's ratio sigma(n)/(n log log n) at n = 5040 is about 1.7909",
    ],
)
def test_what_is_not_said_of_every_number_is_not_read_so(text: str):
    assert read_claims(text).claims == ()


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("<think>zeta(3) = 1.3? No.</think> zeta(3) = 1.20206", 1),
        ("γ_1 = 14.134725..., γ_2 = 21.022040...", 2),
        ("$\\sigma(n) \\leq H_n + e^{H_n} \\log H_n$ for all $1 \\leq n \\leq 100$ (1)", 1),
        ("ζ'(0) = -½ log(2π)", 1),
        ("Let T = 100. Then N(T) = 29!", 1),
        ("For n=10^4: |M(n)| = 23 < sqrt(n) = 100", 3),
        ("x = 10^6: π(x) = 78498 vs li(x) = 78627.5", 2),
        ("```\nfrom mpmath import zeta\nx = zeta(2)\nprint(x)\n```", 0),
        ("The 10th zero is approximately 49.7738", 0),
    ],
)
def test_prose_around_claims(text: str, claims: int):
    assert len(read_claims(text).claims) == claims


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("zeta(2)^gamn_10.5 <=>~|!,+-*/\\{}$\nπζ≤fromto"), max_size=200))
def test_any_text_can_be_read(text: str):
    reading = read_claims(text)
    for claim in reading.claims:
        try:
            assert text_of(normal(claim.left))
        except Unreadable as problem:
            assert str(problem)
