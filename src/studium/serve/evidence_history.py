"""How strongly voices go together, learned from questions that were graded. Pure.

Two different things make voices worth less than so many independent ones: questions that are hard for everybody
(`in_common`), and mistakes that one student, or one family, makes again (`echo`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from studium.serve.evidence import inside

# How many graded pairs a guess counts for: as many as change a correlation by about 0.2.
GUESS_COUNTS_FOR = 25.0


def in_common(graded: Sequence[Mapping[str, bool]], guess: float = 0.0) -> float:
    """Return the mean correlation of being right (phi) over pairs of students, 0 to 1: `Panel.commons`.

    Each question says of each student that answered whether it was right. Pairs count by the questions they share,
    and `guess` for GUESS_COUNTS_FOR. Students that were always right, or always wrong, tell nothing.
    """
    total, weight = guess * GUESS_COUNTS_FOR, GUESS_COUNTS_FOR
    names = dict.fromkeys(name for one in graded for name in one)
    for first, second in combinations(names, 2):
        both = [(one[first], one[second]) for one in graded if first in one and second in one]
        phi = _phi(both)
        if phi is not None:
            total, weight = total + len(both) * phi, weight + len(both)
    return min(max(total / weight, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to one question, of one student or of one family: were they right, and did they mean the same?"""

    first_right: bool
    second_right: bool
    same: bool


def echo(pairs: Iterable[Pair], reliability: float, wrong_answers: float, guess: float = 0.6) -> float:
    """Return how strongly the second goes with the first, 0 to 1: `Source.echo`, or `Panel.kinship` of a family.

    A second voice that says the same is worth ln P(right again | right) / P(the same mistake again | mistaken), where
    an independent one were worth its log-odds w; of a Kish correlation r it would be worth w (1 - r) / (1 + r).
    Without pairs it is `guess`, which counts for GUESS_COUNTS_FOR.
    """
    counted = list(pairs)
    right = [one.second_right for one in counted if one.first_right]
    mistaken = [one.same for one in counted if not one.first_right]
    alone = math.log(inside(reliability) * wrong_answers / (1.0 - inside(reliability)))
    if alone <= 0.0 or not right or not mistaken:
        return guess
    again, repeated = ((sum(one) + 0.5) / (len(one) + 1.0) for one in (right, mistaken))
    share = min(max(math.log(again / repeated) / alone, 0.0), 1.0)
    found = (1.0 - share) / (1.0 + share)
    number = float(min(len(right), len(mistaken)))
    return (found * number + guess * GUESS_COUNTS_FOR) / (number + GUESS_COUNTS_FOR)


def _phi(both: Sequence[tuple[bool, bool]]) -> float | None:
    if not both:
        return None
    one, other = (sum(column) / len(both) for column in zip(*both, strict=True))
    spread = math.sqrt(one * (1.0 - one) * other * (1.0 - other))
    together = sum(first and second for first, second in both) / len(both)
    return (together - one * other) / spread if spread else None
