"""Whom to ask next: the most expected information per second, the load it would cause included. Pure.

The worth of a reply is the mutual information between what the student will say and which answer is right (Lindley
1956), by the model of `evidence`. The drop in the chance of a wrong answer would be the wrong measure: it is nothing
whenever no single voice can change the answer. Where we differ from designs of experiments: the price is in seconds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from studium.records.answers import MemberReply
from studium.serve.choosing.evidence import Group, Panel

# Below this, seconds do not decide: nobody measures them that exactly, and nothing is divided by zero.
LEAST_SECONDS = 0.05
# A load that takes a smaller part of the seconds to an answer than this is no reason to ask somebody else first. Where
# loads matter, whoever is in memory and has something to tell is asked first: on real answers and a simulated machine
# 1.5 loads a question instead of 2.2 in turn of merit, and sooner (benchmarks/six_models.py).
LOAD_MATTERS = 0.25
# Whoever tells next to nothing, less than this part of what the most telling would, is not asked for being at hand.
WORTH_ASKING = 0.02


@dataclass(frozen=True, slots=True)
class Option:
    """A student that could be asked (once more), and the seconds until it has answered, `load_seconds` included."""

    name: str
    seconds: float
    load_seconds: float = 0.0

    @property
    def at_hand(self) -> bool:
        """Whether it answers without a load that is worth avoiding."""
        return self.load_seconds <= LOAD_MATTERS * self.seconds


def information(panel: Panel, replies: Sequence[MemberReply], name: str) -> float:
    """Return how much this student's reply is expected to tell of which answer is right, in nats, never below 0.

    Its mistakes fall on all K wrong answers alike. One that would repeat its family or itself is less telling,
    and one that was heard is taken to be as sure as it was then.
    """
    return _telling(panel, panel.groups(replies), panel.siding(replies, [name], "")[0])


def asking_order(panel: Panel, replies: Sequence[MemberReply], options: Sequence[Option]) -> list[Option]:
    """Return the options, those at hand first, then the most information per second; ties keep the order given.

    Each is weighed as if those before it had sided with the leader: whom to have in a group that could settle it.
    """
    so_far, left, order = list(replies), list(options), list[Option]()
    while left:
        groups = panel.groups(so_far)
        leading = next((one.answer for one in groups if one.answer is not None), "")
        siding = {one.name: panel.siding(so_far, [one.name], leading)[0] for one in left}
        telling = {name: _telling(panel, groups, reply) for name, reply in siding.items()}
        enough = WORTH_ASKING * max(telling.values())
        best = max(
            left, key=lambda one: (one.at_hand and telling[one.name] >= enough, _per_second(telling, one))
        )
        left.remove(best)
        order.append(best)
        so_far.append(siding[best.name])
    return order


def _telling(panel: Panel, groups: Sequence[Group], reply: MemberReply) -> float:
    """Return what a reply that weighs as much as this one is expected to tell beside these groups, in nats."""
    groups = [one for one in groups if one.answer is not None]
    weight = min(panel.marginal(one, reply) for one in (None, *groups))
    others = max(0.0, panel.wrong_answers + 1.0 - len(groups))  # answers that nobody gave: alike to us
    possible = len(groups) + others
    mistake = 1.0 / (math.exp(weight) + possible - 1.0)
    right = math.exp(weight) * mistake
    truths = [one.probability for one in groups]
    said = [(1.0, mistake + share * (right - mistake)) for share in truths]
    if others:
        said.append((others, mistake + max(0.0, 1.0 - math.fsum(truths)) / others * (right - mistake)))
    noise = _entropy([(1.0, right), (possible - 1.0, mistake)])
    return max(0.0, _entropy(said) - noise)


def _per_second(telling: Mapping[str, float], one: Option) -> float:
    return telling[one.name] / max(one.seconds, LEAST_SECONDS)


def _entropy(chances: Iterable[tuple[float, float]]) -> float:
    """Return the entropy, in nats, of outcomes given as (how many, the probability of each)."""
    return -math.fsum(number * chance * math.log(chance) for number, chance in chances if chance > 0.0)
