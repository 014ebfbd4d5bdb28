"""How strongly voices go together, learned from questions that several replies were graded on. Pure.

Three things make voices worth less than so many independent ones: questions that are hard for everybody (`commons`),
mistakes that one student makes again (`echo`) or that a family shares (`kinship`), and wrong answers that all hit on
(`wrong_answers`). All are shrunk, level by level, to what stands where nobody measured; a level counts as 25 pairs.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from studium.records.grades import PairCounts
from studium.serve.choosing.evidence import inside

# How many graded pairs a guess counts for: as many as change a correlation by about 0.2.
GUESS_COUNTS_FOR = 25.0
# What stands where nobody measured: tries of one student, and students of one family.
USUAL_ECHO, USUAL_KINSHIP = 0.6, 0.3
USUAL_WRONG_ANSWERS = 10.0

Reliability = Callable[[str, str], float]  # of a student at a kind, 0 to 1
Guess = Callable[[str], float]  # the effective number of wrong answers at a kind, before anything is learned


class Measured(NamedTuple):
    """A value, and how many pairs stand behind it."""

    value: float
    pairs: float


@dataclass(frozen=True, slots=True)
class InCommon:
    """How strongly voices on one question go together: `Panel`'s fields of these names."""

    commons: float = 0.0
    kinship: float = USUAL_KINSHIP
    wrong_answers: float = USUAL_WRONG_ANSWERS


def phi(counts: PairCounts) -> float | None:
    """Return the correlation of being right, -1 to 1; None where one was always right, or always wrong."""
    number = counts.total
    if not number:
        return None
    one, other = (counts.both + counts.first_only) / number, (counts.both + counts.second_only) / number
    spread = math.sqrt(one * (1.0 - one) * other * (1.0 - other))
    return (counts.both / number - one * other) / spread if spread else None


def echo(counts: PairCounts, reliability: float, wrong_answers: float) -> Measured | None:
    """Return how strongly the second reply goes with the first, 0 to 1, and the pairs behind it; None: not to be told.

    A second voice that says the same is worth ln P(right again | right) / P(the same mistake again | mistaken), where
    an independent one were worth its log-odds w; of a Kish correlation r it would be worth w (1 - r) / (1 + r). The
    rarer of the two conditions bounds what is known.
    """
    right = counts.both + counts.first_only
    mistaken = counts.second_only + counts.mistaken
    alone = math.log(inside(reliability) * wrong_answers / (1.0 - inside(reliability)))
    if alone <= 0.0 or not right or not mistaken:
        return None
    again, repeated = (counts.both + 0.5) / (right + 1.0), (counts.same_mistake + 0.5) / (mistaken + 1.0)
    share = min(max(math.log(again / repeated) / alone, 0.0), 1.0)
    return Measured((1.0 - share) / (1.0 + share), float(min(right, mistaken)))


def wrong_answers(counts: Iterable[PairCounts], guess: float) -> float:
    """Return the effective number of wrong answers, at least 1: one over how often two mistakes are the same.

    `guess` counts for GUESS_COUNTS_FOR pairs of mistakes. Of students of one family this would tell of the family.
    """
    found = list(counts)
    mistaken, same = sum(one.mistaken for one in found), sum(one.same_mistake for one in found)
    return max(1.0, (mistaken + GUESS_COUNTS_FOR) / (same + GUESS_COUNTS_FOR / max(1.0, guess)))


def shrunk(found: Iterable[Measured | None], above: float) -> float:
    """Return the mean of what was measured, weighed by its pairs, `above` counting for GUESS_COUNTS_FOR."""
    there = [one for one in found if one is not None]
    pairs = math.fsum(one.pairs for one in there)
    total = math.fsum(one.value * one.pairs for one in there)
    return (total + above * GUESS_COUNTS_FOR) / (pairs + GUESS_COUNTS_FOR)


class Together:
    """What a roster's pairs of replies say. `families` maps each student to its family; all look-ups are in memory."""

    def __init__(
        self,
        counts: Iterable[PairCounts],
        families: Mapping[str, str],
        reliability: Reliability,
        guess: Guess,
    ) -> None:
        self._families = families
        tries: dict[tuple[str, str], PairCounts] = {}
        self._pairs: dict[str, dict[tuple[str, str], PairCounts]] = defaultdict(dict)
        for one in counts:
            if one.first == one.second:
                tries[one.first, one.kind] = added(tries.get((one.first, one.kind)), one)
            elif one.first in families and one.second in families:
                of_kind, pair = self._pairs[one.kind], _in_order(one)
                of_kind[pair.first, pair.second] = added(of_kind.get((pair.first, pair.second)), pair)
        self._repeated = {kind for _, kind in tries}
        self._reliability = reliability
        self._wrong = {kind: wrong_answers(self._apart(kind), guess(kind)) for kind in self._pairs}
        self.tries = {who: one.total for who, one in tries.items()}  # pairs of tries by (student, kind)
        self._echoes = {
            (student, kind): echo(one, reliability(student, kind), self._wrong.get(kind, guess(kind)))
            for (student, kind), one in tries.items()
        }
        self.usual_echo = shrunk(self._echoes.values(), USUAL_ECHO)
        self._of_student = {
            name: shrunk((one for (who, _), one in self._echoes.items() if who == name), self.usual_echo)
            for name, _ in tries
        }
        self._commons = {kind: shrunk(map(_correlation, self._apart(kind)), 0.0) for kind in self._pairs}
        self._made: dict[tuple[str, tuple[str, ...], float], InCommon] = {}

    @property
    def kinds(self) -> Mapping[str, int]:
        """How many pairs of replies of different students there are, by kind of question."""
        return {kind: sum(one.total for one in pairs.values()) for kind, pairs in self._pairs.items()}

    def echo(self, student: str, kind: str) -> float | None:
        """Return how strongly further tries of a student go with its first, 0 to 1.

        None where it was never asked twice, or nobody was at such questions: in free words nothing is said twice.
        """
        level = self._of_student.get(student)
        if level is None or kind not in self._repeated:
            return None
        return shrunk([self._echoes.get((student, kind))], level)

    def in_common(self, kind: str, students: tuple[str, ...], guess: float) -> InCommon:
        """Return what voices of these students, at such questions, have in common. Raises nothing, asks nobody.

        `guess` is the number of wrong answers where none was counted.
        """
        if kind not in self._pairs:
            return InCommon(wrong_answers=guess)
        found = self._made.get((kind, students, guess))
        if found is None:
            found = self._made[kind, students, guess] = self._in_common(kind, students)
        return found

    def correlation(self, kind: str, first: str, second: str) -> float:
        """Return the correlation of two students' being right, shrunk to that of all, and that to none."""
        counts = self._pairs.get(kind, {}).get((min(first, second), max(first, second)))
        return shrunk([_correlation(counts)], self._commons.get(kind, 0.0))

    def _in_common(self, kind: str, students: Sequence[str]) -> InCommon:
        apart = [pair for pair in combinations(students, 2) if not self._kin(*pair)]
        between = [self.correlation(kind, *pair) for pair in apart]
        wrong = self._wrong[kind]
        kin = [self._kinship(one, wrong) for pair, one in self._pairs[kind].items() if self._kin(*pair)]
        return InCommon(
            commons=min(max(math.fsum(between) / len(between), 0.0), 1.0) if between else 0.0,
            kinship=min(max(shrunk(kin, USUAL_KINSHIP), 0.0), 1.0),
            wrong_answers=wrong,
        )

    def _kinship(self, counts: PairCounts, wrong: float) -> Measured | None:
        mean = (
            self._reliability(counts.first, counts.kind) + self._reliability(counts.second, counts.kind)
        ) / 2
        return echo(counts, mean, wrong)

    def _apart(self, kind: str) -> list[PairCounts]:
        return [one for pair, one in self._pairs[kind].items() if not self._kin(*pair)]

    def _kin(self, first: str, second: str) -> bool:
        family = self._families.get(first)
        return bool(family) and family == self._families.get(second)


def added(one: PairCounts | None, other: PairCounts) -> PairCounts:
    """Return the sum of two counts of the same pair."""
    if one is None:
        return other
    return PairCounts(
        other.kind,
        other.first,
        other.second,
        other.first_model,
        other.second_model,
        one.both + other.both,
        one.first_only + other.first_only,
        one.second_only + other.second_only,
        one.same_mistake + other.same_mistake,
        one.other_mistake + other.other_mistake,
    )


def _correlation(counts: PairCounts | None) -> Measured | None:
    found = None if counts is None else phi(counts)
    return None if counts is None or found is None else Measured(found, counts.total)


def _in_order(one: PairCounts) -> PairCounts:
    """Return the counts with the names in order: of two students none is the first."""
    if one.first < one.second:
        return one
    return PairCounts(
        one.kind, one.second, one.first, one.second_model, one.first_model,
        one.both, one.second_only, one.first_only, one.same_mistake, one.other_mistake,
    )  # fmt: skip
