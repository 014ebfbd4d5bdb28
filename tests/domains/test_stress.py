"""The attacks find what they are meant to find, and let an honest check pass."""

import re
from collections.abc import Sequence
from random import Random

import pytest

from studium.domains.answers import final_answer, hedges
from studium.domains.arithmetic import Arithmetic
from studium.domains.exact import ExactDomain
from studium.domains.open_question import OPEN_QUESTION
from studium.domains.protocol import Problem
from studium.domains.stress import REFERENCE, stress


class Sums(Arithmetic):
    """A domain of a user's, to be given a faulty check."""

    name = "sums"


class AnywhereInTheReply(Sums):
    def verify(self, problem: Problem, reply: str) -> float | None:
        return float(problem.expected in reply)


class AnyNumber(Sums):
    """Reads as arithmetic did once: all numbers of a text in a set."""

    def verify(self, problem: Problem, reply: str) -> float | None:
        stated = final_answer(reply) or ""
        numbers = {one.replace(",", "") for one in re.findall(r"\d[\d,]*", "" if hedges(stated) else stated)}
        return float(numbers == {problem.expected})


class Near(ExactDomain):
    """A domain whose answers are right when they are near."""

    name = "near"

    def make(self, rng: Random, level: int) -> Problem:
        number = str(rng.randint(20, 99))
        return Problem(self.name, number, f"About how many are {number} apples?", (), number, level)

    def canonical(self, answer: str) -> str | None:
        try:
            return f"{float(answer):g}"
        except ValueError:
            return None

    def same(self, one: str, other: str) -> bool:
        left, right = self.canonical(one), self.canonical(other)
        return left is not None and right is not None and abs(float(left) - float(right)) < 0.6


class FirstOfTheGuesses(Sums):
    def canonical(self, answer: str) -> str | None:
        return answer.split(" or ", maxsplit=1)[0].strip()

    def extract(self, reply: str) -> str | None:
        return self.canonical(reply.rpartition("Answer: ")[2])


class ByLength(Sums):
    def verify(self, problem: Problem, reply: str) -> float | None:
        return min(1.0, len(reply) / 1000)


class Raises(Sums):
    def verify(self, problem: Problem, reply: str) -> float | None:
        return float(int(reply.rpartition(":")[2]) == int(problem.expected))


class Beyond(Sums):
    def verify(self, problem: Problem, reply: str) -> float | None:
        return float("nan") if "not" in reply else super().verify(problem, reply)


class Tossed(Sums):
    rng = Random(1)

    def verify(self, problem: Problem, reply: str) -> float | None:
        return super().verify(problem, reply) if self.rng.random() < 0.5 else 0.0


@pytest.mark.parametrize(
    ("domain", "attack"),
    [
        (AnywhereInTheReply(), "gold buried in prose"),
        (AnywhereInTheReply(), "gold, then a wrong answer"),
        (AnyNumber(), "gold denied"),
        (AnyNumber(), "gold made negative"),
        (AnyNumber(), "gold in a calculation"),
        (AnyNumber(), "gold in a decimal number"),
        (AnyNumber(), "gold in a longer number"),
        (AnyNumber(), "gold with a comma out of place"),
        (FirstOfTheGuesses(), "hedge, gold first"),
        (ByLength(), "long"),
        (ByLength(), REFERENCE),
        (Raises(), "empty"),
        (Beyond(), "gold negated"),
        (Tossed(), REFERENCE),
    ],
    ids=lambda value: (
        getattr(value, "__class__", type(value)).__name__ if not isinstance(value, str) else value
    ),
)
def test_a_faulty_check_is_found_out_by_the_attack_it_falls_for(domain: Sums, attack: str):
    found = stress(domain)
    assert not found.holds
    assert attack in {row.attack for row in found.broken}


def test_an_honest_check_holds_and_equal_seeds_attack_alike():
    assert stress(Sums()).holds
    assert stress(Sums(), seed=3) == stress(Sums(), seed=3)


def test_a_domain_that_takes_what_is_near_for_right_holds():
    domain = Near()
    assert domain.same("50.5", "50")
    assert not stress(domain).broken


def test_what_is_not_scored_fools_nobody_and_without_problems_there_is_nothing_to_attack():
    class Unscored(Sums):
        def verify(self, problem: Problem, reply: str) -> float | None:
            return super().verify(problem, reply) if reply == self.solution(problem) else None

    assert stress(Unscored()).holds
    assert stress(OPEN_QUESTION).rows == []


@pytest.mark.parametrize(
    "answer", ["104 or 105", "either 105", "not 105", "What is 47 + 58?", "{105, 104}", "105 104"]
)
def test_a_hedged_sum_is_no_answer(answer: str):
    assert Arithmetic().extract(f"Answer: {answer}") is None


@pytest.mark.parametrize(
    "answer", ["105", "**105**", "47 + 58 = 105", "the sum is 105.", "105 (47 plus 58)", "105.0", "105 105"]
)
def test_a_plain_sum_is_read_however_it_is_said(answer: str):
    assert Arithmetic().extract(f"Answer: {answer}") == "105"


class LikesEveryStep(Sums):
    def verify_step(self, problem: Problem, done: Sequence[str], step: str) -> float | None:
        return float(any(word in problem.steps for word in step.splitlines()))


class KnowsNoStep(Sums):
    def verify_step(self, problem: Problem, done: Sequence[str], step: str) -> float | None:
        return 0.0


def test_steps_are_attacked_where_a_domain_verifies_them():
    fooled = {row.attack for row in stress(LikesEveryStep()).broken}
    assert "step: the last one again" in fooled
    assert "step: one left out" in fooled
    assert {row.attack for row in stress(KnowsNoStep()).broken} == {"step: the right one"}
    assert not [row for row in stress(Sums()).rows if row.attack.startswith("step")]
