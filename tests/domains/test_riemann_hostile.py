"""No text can hang the checker or make it raise; each limit is named in the reason.

Nothing here measures seconds: the limit of the test run ends what hangs, and the bounds under test are on
work that is counted before it is done.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studium.domains.riemann import Riemann
from studium.domains.riemann.calculator import Work
from studium.domains.riemann.check import check
from studium.domains.riemann.functions import LOCK
from studium.domains.riemann.reading import LONGEST_TEXT_CHARACTERS, read_claims
from studium.domains.topics import Assignment

TOPIC = Riemann()
NOTHING = Assignment("any", "Propose a claim.", {})

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10^10^10 < zeta(2)", "too large or too small"),
        ("10^10^10^10^10 < zeta(2)", "too large or too small"),
        ("exp(exp(exp(9))) < zeta(2)", "too large or too small"),
        ("zeta(2)^(-10^400) < 2", "too large or too small"),
        ("factorial(10^9) > zeta(2)", "not between 0 and 5,000"),
        ("(10^9)! > zeta(2)", "not between 0 and 5,000"),
        ("zero(10^9) > 1", "not between 1 and 5,000"),
        ("zetazero(10^9) ~ 1.0", "not between 1 and 5,000"),
        ("abs(zeta(0.5 + 1e12 i)) < 3", "height at most 30000"),
        ("abs(zeta'(-1000)) < 3", "real part -30 to"),
        ("N(10^12) > 3", "outside what is computed"),
        ("pi(10^15) > 3", "larger than 1e+09"),
        ("M(10^9) > 3", "larger than 1e+08"),
        ("psi(10^7) > 3", "larger than"),
        ("sigma(10^59 + 3) > 3", "not between 1 and 1e+18"),
        ("sigma(1000003 * 1000033) > 3", "too hard to factorise"),
        ("zeta(2)*(sqrt(10^200+1) - 10^100)*10^101 < 1", "too near each other"),
        ("sigma(10^30 + 5 - 10^30) = 6", "too near each other"),
        ("H(10^400) > zeta(2)", "not between 0 and"),
        ("M(n) < n for all n from 1 to 10^15", "more than 20,000"),
        ("sigma(n) < n^2 for all n from 2 to 20000", "numbers would not"),
        ("zero(k) > 0 for k from 4000 to 5000", "too long to compute"),
        ("(" * 10_000 + "zeta(2)" + ")" * 10_000 + " < 2", ""),
        ("zeta(2) < " + "(" * 10_000, "nested too deeply"),
        ("zeta(2) < " + "log " * 3000 + "5", "nested too deeply"),
        ("zeta(2) < " + "2^" * 3000 + "2", "nested too deeply"),
        ("2 > zeta(2)" + "+1" * 5000, "too long"),
        ("1e999999999 < zeta(2)", "too long"),
        ("9" * 5000 + " > zeta(2)", "too long"),
        ("1<" * 500_000, ""),
        ("a" * 1_000_000, "no numerical claim"),
        ("\n" * 1_000_000, "no numerical claim"),
        (" " * 500_000 + "<", ""),
        ("\\frac{" * 2000 + "}" * 2000, ""),
        ("from 1 " * 2000, ""),
        ("n in [1, " + "1, " * 4000, ""),
        ("|" * 6000 + "<2", ""),
        ("zeta(2) ~ 1.6 within " + "(" * 3000, "nested too deeply"),
    ],
    ids=lambda text: text[:30].replace("\n", "") or "empty",
)
def test_a_hostile_text_gets_no_score_and_a_reason(text: str, reason: str):
    judged = TOPIC.judge(NOTHING, text, ())
    assert judged.score is None
    assert not judged.useful
    assert reason in judged.reason
    assert len(judged.reason) < 500


def test_the_work_of_one_reply_is_bounded_however_many_claims_it_makes():
    work = Work()
    verdicts = []
    for claim in read_claims("abs(zeta(1/2 + 29999*i)) > 0.01\n" * 1000).claims:
        with LOCK:
            verdicts.append(check(claim, work))
    assert len(verdicts) <= 12
    assert any(verdict.holds for verdict in verdicts)
    assert "too long to compute" in verdicts[-1].reason


def test_only_the_beginning_of_a_text_is_read():
    late = "x " * LONGEST_TEXT_CHARACTERS + "zeta(2) > 1.5"
    assert TOPIC.judge(NOTHING, late, ()).score is None


def test_keys_stay_short():
    nested = "zeta(2)"
    for _ in range(8):
        nested = f"log({nested}*(1+pi+e)*(2+gamma))"
    judged = TOPIC.judge(NOTHING, f"9.5 < abs({nested})", ())
    assert judged.score is not None, judged.reason
    assert all(len(key) < 2000 for key in judged.keys)


_PIECES = st.sampled_from(
    [
        "zeta(",
        "zeta'(",
        "zero(",
        "sigma(n)",
        "M(",
        "pi(",
        "psi(",
        "lambda(",
        "N(",
        "exp(",
        "log ",
        "sqrt(",
        "|",
    ]
    + [
        "n",
        "i",
        "e",
        "pi",
        "gamma",
        "gamma_",
        "2",
        "0.5",
        "10",
        "1e9",
        "99999999999",
        "(",
        ")",
        ")",
        "!",
        "^",
    ]
    + [
        "+",
        "-",
        "*",
        "/",
        "<",
        "<=",
        "=",
        "~",
        ">",
        " for all n from 1 to 30",
        " within 1e-6",
        "\n",
        ". ",
        ", ",
    ]
)


@settings(max_examples=250, deadline=None)
@given(st.lists(_PIECES, max_size=25).map("".join))
def test_no_mixture_of_mathematics_raises(text: str):
    _is_a_judgement(text)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_no_text_raises(text: str):
    _is_a_judgement(text)


def _is_a_judgement(text: str) -> None:
    judged = TOPIC.judge(NOTHING, text, ())
    assert judged.score in (None, 0.0, 1.0)
    assert judged.reason
    assert not (judged.useful and judged.score != 1.0)
    assert all(judged.keys)
