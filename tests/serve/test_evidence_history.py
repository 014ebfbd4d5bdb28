"""How strongly voices go together, found again in histories that were made with a known correlation."""

from random import Random

import pytest

from studium.serve.evidence_history import Pair, echo, in_common


def made(share_common: float, number: int = 4000) -> list[dict[str, bool]]:
    """Return histories of three students that are right half of the time; a share of questions is alike to all."""
    rng, graded = Random(3), list[dict[str, bool]]()
    for _ in range(number):
        alike, easy = rng.random() < share_common, rng.random() < 0.5
        graded.append({name: easy if alike else rng.random() < 0.5 for name in "abc"})
    return graded


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_what_students_have_in_common_is_found(share: float):
    assert in_common(made(share)) == pytest.approx(share, abs=0.05)


def test_without_history_a_guess_stands_and_little_history_moves_it_little():
    assert in_common([], guess=0.3) == pytest.approx(0.3)
    assert in_common(made(0.0, 5), guess=0.3) == pytest.approx(0.3, abs=0.25)


def test_students_that_are_always_right_tell_nothing_of_what_is_hard():
    assert in_common([{"a": True, "b": True}] * 50, guess=0.2) == pytest.approx(0.2)


def tries(repeats: float, number: int = 6000) -> list[Pair]:
    """Return pairs of tries, right six times in ten; `repeats` of the second ones are the first again."""
    rng, pairs = Random(5), list[Pair]()
    for _ in range(number):
        first = 0 if rng.random() < 0.6 else rng.randrange(1, 11)
        second = 0 if rng.random() < 0.6 else rng.randrange(1, 11)
        if rng.random() < repeats:
            second = first
        pairs.append(Pair(first == 0, second == 0, first == second))
    return pairs


def test_a_student_that_repeats_itself_more_has_the_stronger_echo():
    none, some, most = (echo(tries(share), 0.6, 10.0) for share in (0.0, 0.3, 0.9))
    assert none == pytest.approx(0.0, abs=0.05)
    assert none < some < most
    assert echo(tries(1.0), 0.6, 10.0) > 0.95


def test_an_echo_nobody_heard_is_a_guess():
    assert echo([], 0.6, 10.0, guess=0.4) == 0.4
    assert echo([Pair(True, True, True)], 0.6, 10.0, guess=0.4) == 0.4
