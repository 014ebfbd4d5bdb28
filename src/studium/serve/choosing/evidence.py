"""Whom to believe and when to stop: replies as evidence. Pure; whom to ask next is `asking_order`'s affair.

A student that is right with probability p, and whose mistakes scatter over K wrong answers, speaks for its answer
with ln(p K / (1 - p)): how much likelier it says this when it is right (Nitzan and Paroush 1982; List and Goodin
2001 for more than two answers). Where we differ: a voice never weighs less than nothing; voices that share mistakes
count by Kish's effective sample size n / (1 + (n - 1) r); declines are evidence for "nobody here knows" where no
domain knows the question. So a voice never lowers the group it joins, and the early stop can be lossless.
Probabilities are those of this model; history calibrates them elsewhere.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from operator import mul

from studium.records.answers import Fate, MemberReply

Same = Callable[[str, str], bool]
Voice = tuple[str, float]  # a student's name and what its reply weighs alone, in nats

# Probabilities are kept inside these when turned into odds: no single voice is ever certain.
LEAST_PROBABILITY, MOST_PROBABILITY = 0.02, 0.98
# Weights closer than this are the same number, added up in another order.
SAME_WEIGHT = 1e-9


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of one student for this kind of question, before it speaks.

    `reliability`: the chance that it is right, 0 to 1. `family` is shared by those that share mistakes; empty: its
    own. `echo`: how strongly its further samples go with its first, 0 (as good as another student) to 1 (the same
    again). `declines_able`, `declines_unable`: how often it declines what somebody here could, or could not, answer.
    """

    name: str
    reliability: float
    family: str = ""
    echo: float = 0.6
    declines_able: float = 0.5
    declines_unable: float = 0.9


@dataclass(frozen=True, slots=True)
class Group:
    """Replies that mean the same, the weightiest first; `answer` None: those who say that they cannot.

    `weight` is in nats; `probability`, 0 to 1, that this is right (of declines: that nobody here knows).
    """

    answer: str | None
    replies: tuple[MemberReply, ...]
    weight: float
    probability: float = 0.0


class Stop(StrEnum):
    """Why asking ends."""

    SETTLED = "settled"  # nothing that could still be said would change the answer
    SURE = "sure"  # the confidence that was asked for is reached
    SPENT = "spent"  # time, money or the number of students is used up


@dataclass(frozen=True, slots=True)
class Panel:
    """Those that may be heard on one question, by name, and how their replies compare.

    `wrong_answers` is the effective number K of wrong answers, at least 1: about 10 in school arithmetic, 2 or 3
    in sentiment. `kinship`: how strongly students of one family go together; `commons`: how strongly all do, since
    some questions are hard for everybody (the mean correlation of being right, 0.31 among five real models); both 0 to
    1. `declines_count` where no domain knows the question: where one does, a specialist of another domain that
    declines says nothing about it.
    """

    sources: Mapping[str, Source]
    same: Same
    wrong_answers: float = 10.0
    kinship: float = 0.3
    commons: float = 0.0
    declines_count: bool = False

    def weight(self, reply: MemberReply) -> float:
        """Return what a reply weighs alone, in nats, 0 to its student's `ceiling`."""
        source = self.sources[reply.student]
        if reply.fate is Fate.ABSTAINED:
            return self.ceiling(source.name, declining=True)
        if reply.fate is not Fate.ANSWERED or reply.answer is None:
            return 0.0
        return self._vote(chance_right(source.reliability, reply.confidence))

    def ceiling(self, name: str, *, declining: bool = False) -> float:
        """Return the most that an answer (or a decline) of this student could weigh."""
        source = self.sources[name]
        if not declining:
            return self._vote(chance_right(source.reliability, 1.0))
        if not self.declines_count:
            return 0.0
        return max(0.0, math.log(inside(source.declines_unable) / inside(source.declines_able)))

    def groups(self, replies: Sequence[MemberReply]) -> list[Group]:
        """Gather what means the same, the leader first, with probabilities; equal weights keep the order of replies."""
        groups = [self._group(members) for members in self._gather(replies)]
        groups.sort(key=lambda one: -one.weight)
        evidence = [math.exp(one.weight) for one in groups]
        total = sum(evidence) + self._others(groups)
        return [replace(one, probability=share / total) for one, share in zip(groups, evidence, strict=True)]

    def settled(self, replies: Sequence[MemberReply], left: Sequence[str]) -> bool:
        """Say whether the leader stays the leader whatever those `left` may say; a name may come once per sample.

        The worst for a leader is that all who are left join one rival, or begin a new one, as weightily as they can:
        no voice lowers the group it joins. So the answer is the one that everybody together would have given.
        """
        groups = self.groups(replies)
        if not left or not groups:
            return not left
        threat = max(self._threats(groups, left))
        return groups[0].weight - threat > SAME_WEIGHT

    def most_probable(self, replies: Sequence[MemberReply], left: Sequence[str]) -> float:
        """Return what the leader's probability would be if all left said the same as it, 0 to 1, before calibration.

        Where this is less than the confidence that is asked for, asking them cannot bring it.
        """
        answer = next((one.answer for one in self.groups(replies) if one.answer is not None), None)
        if answer is None and not left:
            return 0.0
        agreeing = self.siding(replies, left, answer or "")
        return max(one.probability for one in self.groups([*replies, *agreeing]) if one.answer is not None)

    def siding(self, replies: Sequence[MemberReply], names: Sequence[str], answer: str) -> list[MemberReply]:
        """Return what these would say in support of an answer: without a doubt, or as sure as they were before."""
        return [sides_with(name, answer, _surest(replies, name)) for name in names]

    def marginal(self, group: Group | None, more: MemberReply) -> float:
        """Return what one more reply would add to a group, or (None) to one that it begins."""
        if group is None:
            return self.weight(more)
        voice = (more.student, self.weight(more))
        return max(0.0, self._joined(group.replies, [voice]) - group.weight)

    def _vote(self, chance: float) -> float:
        chance = inside(chance)
        odds = chance * self.wrong_answers / (1.0 - chance)
        return math.log(odds) if odds > 1.0 else 0.0

    def _gather(self, replies: Sequence[MemberReply]) -> list[list[MemberReply]]:
        gathered: list[list[MemberReply]] = []
        for reply in replies:
            declines = reply.fate is Fate.ABSTAINED and self.declines_count
            if not declines and (reply.fate is not Fate.ANSWERED or reply.answer is None):
                continue
            home = next((one for one in gathered if self._alike(one[0], reply)), None)
            if home is None:
                gathered.append([reply])
            else:
                home.append(reply)
        return gathered

    def _alike(self, one: MemberReply, other: MemberReply) -> bool:
        if Fate.ABSTAINED in (one.fate, other.fate):
            return one.fate is other.fate
        return self.same(one.answer or "", other.answer or "")

    def _group(self, members: list[MemberReply]) -> Group:
        first, *_ = members = sorted(members, key=lambda reply: -self.weight(reply))
        answer = None if first.fate is Fate.ABSTAINED else first.answer
        return Group(answer, tuple(members), self._joined(members, []))

    def _others(self, groups: Sequence[Group]) -> float:
        """Return the evidence for answers that nobody gave: each of the K + 1 possible answers counts once."""
        given = sum(one.answer is not None for one in groups)
        return max(0.0, self.wrong_answers + 1.0 - given)

    def _threats(self, groups: Sequence[Group], left: Sequence[str]) -> Iterable[float]:
        answers = [(name, self.ceiling(name)) for name in left]
        declines = [(name, self.ceiling(name, declining=True)) for name in left]
        for rival in groups[1:]:
            yield self._joined(rival.replies, declines if rival.answer is None else answers)
        yield self._joined((), answers)
        if all(one.answer is not None for one in groups):
            yield self._joined((), declines)

    def _joined(self, members: Sequence[MemberReply], more: Sequence[Voice]) -> float:
        """Return what these say together: samples make up students, students families, and families the whole."""
        voices = [*((one.student, self.weight(one)) for one in members), *more]
        if len(voices) == 1:
            return voices[0][1]
        students: dict[str, list[float]] = {}
        for name, weight in voices:
            students.setdefault(name, []).append(weight)
        families: dict[str, list[float]] = {}
        for name, weights in students.items():
            source = self.sources[name]
            # A family's name begins with a mark, so that it cannot be a student's.
            family = f"\n{source.family}" if source.family else name
            families.setdefault(family, []).append(together(weights, source.echo))
        return together([together(weights, self.kinship) for weights in families.values()], self.commons)


def stop(
    panel: Panel,
    replies: Sequence[MemberReply],
    left: Sequence[str],
    *,
    confidence: float | None = None,
    at_least: int = 0,
    spent: bool = False,
    calibrated: Callable[[float], float] = float,
) -> Stop | None:
    """Say why asking ends now, None where it should go on.

    `confidence`, 0 to 1, is what is asked for, None: only a settled question ends early; it takes `at_least` so many
    replies that say something. A leader that says that nobody knows is sure in the same way. `spent` is the caller's.
    """
    if panel.settled(replies, left):
        return Stop.SETTLED
    groups = panel.groups(replies)
    heard = sum(len(one.replies) for one in groups)
    sure = confidence is not None and bool(groups) and calibrated(groups[0].probability) >= confidence
    if sure and heard >= at_least:
        return Stop.SURE
    return Stop.SPENT if spent else None


def chance_right(reliability: float, confidence: float | None) -> float:
    """Return the chance that a reply is right, from its student's reliability and its own confidence, all 0 to 1.

    `confidence` is the probability of its least sure token; None, and 1, leave the reliability as it is.
    """
    return reliability if confidence is None else reliability * confidence


def together(weights: Sequence[float], correlation: float) -> float:
    """Return what correlated voices weigh together: the k-th weightiest counts n_eff(k) - n_eff(k - 1).

    n_eff(k) = k / (1 + (k - 1) r), Kish's effective sample size, is concave, so the shares fall and are never
    negative, and a further voice never lowers the sum (by the rearrangement inequality).
    """
    if len(weights) == 1:
        return weights[0]
    return sum(map(mul, sorted(weights, reverse=True), _shares(len(weights), correlation)))


@lru_cache(maxsize=1024)
def _shares(number: int, correlation: float) -> tuple[float, ...]:
    return tuple(effective(k + 1, correlation) - effective(k, correlation) for k in range(number))


def effective(number: int, correlation: float) -> float:
    """Return how many independent voices so many correlated ones are worth (Kish 1965, section 5.4)."""
    return number / (1.0 + (number - 1) * correlation) if number else 0.0


def sides_with(name: str, answer: str, confidence: float = 1.0) -> MemberReply:
    """Return the reply of a student that gave this answer so surely: what could be said, not what was."""
    return MemberReply(name, Fate.ANSWERED, answer=answer, confidence=confidence)


def _surest(replies: Sequence[MemberReply], name: str) -> float:
    """Return how sure a student was at most when it answered before; 1 where it has not spoken or did not say."""
    said = [one.confidence for one in replies if one.student == name and one.fate is Fate.ANSWERED]
    told = [one for one in said if one is not None]
    return max(told) if told and len(told) == len(said) else 1.0


def inside(probability: float) -> float:
    """Return a probability that can be turned into odds."""
    if probability < LEAST_PROBABILITY:
        return LEAST_PROBABILITY
    return MOST_PROBABILITY if probability > MOST_PROBABILITY else probability
