"""The posterior and the expected information, against going through every possible world.

The slow way lays out the K + 1 answers there are, supposes each to be the right one in turn, multiplies what every
student would then say with its own probability, and compares.
"""

import math
from itertools import product

import pytest

from studium.records.answers import Fate, MemberReply
from studium.serve.choosing.asking_order import information
from studium.serve.choosing.evidence import Panel, Source

POSSIBLE = "0123"  # four answers: K = 3 wrong ones


def said(student: str, answer: str) -> MemberReply:
    return MemberReply(student, Fate.ANSWERED, answer=answer)


def panel(*reliabilities: float) -> Panel:
    sources = {name: Source(name, p) for name, p in zip("abcd", reliabilities, strict=False)}
    return Panel(sources, lambda one, other: one == other, wrong_answers=3.0)


def chance(answer: str, truth: str, reliability: float) -> float:
    return reliability if answer == truth else (1.0 - reliability) / 3.0


def posterior(of: Panel, replies: list[MemberReply]) -> dict[str, float]:
    """Return the probability of each possible answer by Bayes' rule over all worlds."""
    joint = {
        truth: math.prod(
            chance(one.answer or "", truth, of.sources[one.student].reliability) for one in replies
        )
        for truth in POSSIBLE
    }
    total = sum(joint.values())
    return {truth: share / total for truth, share in joint.items()}


@pytest.mark.parametrize("answers", list(product("01", "012", "03")))
def test_group_probabilities_are_those_of_bayes_rule(answers: tuple[str, ...]):
    of = panel(0.7, 0.5, 0.35)
    replies = [said(name, answer) for name, answer in zip("abc", answers, strict=True)]
    slow = posterior(of, replies)
    groups = of.groups(replies)
    for group in groups:
        assert group.probability == pytest.approx(slow[group.answer or ""])
    unsaid = sum(slow[one] for one in POSSIBLE if one not in answers)
    assert 1.0 - sum(group.probability for group in groups) == pytest.approx(unsaid)


@pytest.mark.parametrize("answers", ["", "0", "00", "01", "012"])
def test_expected_information_is_the_fall_of_entropy_over_all_replies(answers: str):
    of = panel(0.7, 0.5, 0.35, 0.6)
    replies = [said(name, answer) for name, answer in zip("abc", answers, strict=False)]
    now = posterior(of, replies) if replies else dict.fromkeys(POSSIBLE, 0.25)
    after = 0.0
    for answer in POSSIBLE:
        likely = sum(share * chance(answer, truth, 0.6) for truth, share in now.items())
        after += likely * entropy(posterior(of, [*replies, said("d", answer)]))
    assert information(of, replies, "d") == pytest.approx(entropy(now) - after)


def entropy(shares: dict[str, float]) -> float:
    return -sum(share * math.log(share) for share in shares.values() if share > 0.0)


@pytest.mark.parametrize("reliabilities", [(0.7, 0.5, 0.4, 0.6), (0.6, 0.6, 0.6, 0.6), (0.9, 0.3, 0.3, 0.3)])
def test_settled_means_exactly_that_no_continuation_gives_another_answer(reliabilities: tuple[float, ...]):
    """A tie at the end is not settled: there the order of replies decides."""
    of = panel(*reliabilities)
    for number in range(1, 4):
        for heard in product("01", repeat=number):
            replies = [said(name, answer) for name, answer in zip("abcd", heard, strict=False)]
            rest = "abcd"[number:]
            leader = of.groups(replies)[0].answer
            ends = [
                of.groups([*replies, *map(said, rest, ending)])
                for ending in product(POSSIBLE, repeat=len(rest))
            ]
            safe = all(
                groups[0].answer == leader and (len(groups) < 2 or groups[0].weight - groups[1].weight > 1e-9)
                for groups in ends
            )
            assert of.settled(replies, rest) == safe
