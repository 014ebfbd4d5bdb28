"""Who said the same, who leads, and whether the rest could still change it. Pure.

A reply's vote weighs what is known of its student in this domain (share of fresh problems right) times
the student's own confidence in this reply; what is unknown weighs 1. So a weight never exceeds the
student's `ceiling`, which is what makes the early stop lossless: it stops only when all who have not
spoken, all saying the same, could not overtake the leader.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from studium.records.answers import Fate, MemberReply

Same = Callable[[str, str], bool]

# Probabilities are kept inside these when turned into odds: no single voice is ever certain.
LEAST_PROBABILITY, MOST_PROBABILITY = 0.05, 0.95


@dataclass(frozen=True, slots=True)
class Group:
    """Replies that mean the same, the weightiest first; `weight` is the sum of their votes."""

    answer: str
    replies: tuple[MemberReply, ...]
    weight: float


def vote(reply: MemberReply, ceilings: Mapping[str, float]) -> float:
    """Return the weight of a reply, 0 to its student's ceiling."""
    return ceilings[reply.student] * (1.0 if reply.confidence is None else reply.confidence)


def group(replies: Sequence[MemberReply], ceilings: Mapping[str, float], same: Same) -> list[Group]:
    """Gather answers that mean the same, the leader first; equal weights keep the order of replies."""
    gathered: list[list[MemberReply]] = []
    for reply in replies:
        if reply.fate is not Fate.ANSWERED or reply.answer is None:
            continue
        home = next((one for one in gathered if same(one[0].answer or "", reply.answer)), None)
        if home is None:
            gathered.append([reply])
        else:
            home.append(reply)
    groups: list[Group] = []
    for members in gathered:
        members.sort(key=lambda reply: -vote(reply, ceilings))
        weight = sum(vote(reply, ceilings) for reply in members)
        groups.append(Group(members[0].answer or "", tuple(members), weight))
    return sorted(groups, key=lambda one: -one.weight)


def settled(groups: Sequence[Group], ceilings_left: Sequence[float]) -> bool:
    """Say whether the leader stays the leader whatever those who have not spoken may say."""
    if not groups:
        return not ceilings_left
    runner_up = groups[1].weight if len(groups) > 1 else 0.0
    return groups[0].weight - runner_up > sum(ceilings_left) or not ceilings_left


def fewest_to_settle(groups: Sequence[Group], ceilings_left: Sequence[float]) -> int:
    """Return how many of those left, in order, must speak before the question can be settled.

    The best case: each of them sides with the leader as strongly as it can.
    """
    lead = 0.0
    if groups:
        lead = groups[0].weight - (groups[1].weight if len(groups) > 1 else 0.0)
    for number in range(1, len(ceilings_left) + 1):
        if lead + sum(ceilings_left[:number]) > sum(ceilings_left[number:]):
            return number
    return len(ceilings_left)


def agreement(groups: Sequence[Group]) -> float:
    """Return the leader's share of the students that gave an answer, 0 to 1; 0 where none did."""
    voters = sum(len(one.replies) for one in groups)
    return len(groups[0].replies) / voters if voters else 0.0


def confidence(groups: Sequence[Group], ceilings: Mapping[str, float]) -> float:
    """Estimate the probability that the leader is right, 0 to 1.

    Each vote counts as independent evidence with its weight for a probability; the odds of an answer are
    the product of its voters' odds, against the other answers and against "none of them". Students
    that share mistakes make this too sure of itself; calibration against history comes with history.
    """
    if not groups:
        return 0.0
    evidence = [math.exp(sum(_log_odds(vote(reply, ceilings)) for reply in one.replies)) for one in groups]
    return evidence[0] / (1.0 + sum(evidence))


def _log_odds(probability: float) -> float:
    inside = min(max(probability, LEAST_PROBABILITY), MOST_PROBABILITY)
    return math.log(inside / (1 - inside))
