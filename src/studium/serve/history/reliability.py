"""How often a student is right at a kind of question: a Beta posterior, shrunk to the student, and that to its tier.

Pure, and in memory once made: a look-up takes microseconds. The shrinkage is the usual one of hierarchical means
(Gelman et al., Bayesian Data Analysis, section 5.3): a mean of n grades counts n / (n + strength) beside the level
above. A student's level is a mean of kinds, not of grades, so that the kind it is asked most does not stand for all.
Where we differ: strengths are fixed, not estimated; a card counts as grades, bounded, at its own kind alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from studium.evals.intervals import Interval
from studium.fleet.quantiles import beta
from studium.records.grades import WHOLE, Counts
from studium.records.models import Student, Tier
from studium.serve.calls import Known

ROOT = 0.5
"""What stands in for a student of which nothing at all is known: as good as any other."""

KIND_STRENGTH = 6.0
"""Grades at a kind that weigh as much as the student's level. Small students differ between kinds by more than
between each other (the embedded ones: nearly all or nothing), so their level must give way after a few grades."""

STUDENT_STRENGTH = 2.0
"""Kinds that weigh as much as the tier's level: two well-known kinds say as much of a third as a tier does."""

TIER_STRENGTH = 2.0
"""Students that weigh as much as knowing nothing."""

MOST_CARD_GRADES = 50.0
"""What a card counts, at most: it rests on 500 problems a level, but on a trainer's, not this user's. History holds
up to `store.grades.WINDOW` = 200 grades, and so can outvote it four to one."""

MOST_FORMER_GRADES = 10.0
"""What all grades of a student's former models count together: the new one may be like them, or not."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """A Beta distribution of how often a student is right; `grades` and `card` are what stands behind it."""

    alpha: float
    beta: float
    grades: float = 0.0
    card: float | None = None
    card_grades: float = 0.0

    @property
    def mean(self) -> float:
        return self.alpha / (self.alpha + self.beta)

    @property
    def evidence(self) -> float:
        """Grades and what the card counts, without the levels above."""
        return self.grades + self.card_grades

    def interval(self) -> Interval:
        """Return the mean with the bounds between which it lies with probability 0.9."""
        tail = 0.05
        low, high = (beta(share, self.alpha, self.beta) for share in (tail, 1 - tail))
        return Interval(self.mean, min(low, self.mean), max(high, self.mean))


@dataclass
class _Level:
    """What is known of a student apart from kinds; `right` and `wrong` by kind, former models faded in."""

    student: Student
    kinds: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    mean: float = ROOT


class Reliability:
    """The posteriors of a roster. `models` maps each student to its present fingerprint."""

    def __init__(
        self, counts: Iterable[Counts], students: Mapping[str, Student], models: Mapping[str, str]
    ) -> None:
        self._levels = {name: _Level(student) for name, student in students.items()}
        gathered: dict[tuple[str, str], list[Counts]] = defaultdict(list)
        for one in counts:
            if one.student != WHOLE and one.student in self._levels:
                gathered[one.student, one.kind].append(one)
        for (name, kind), found in gathered.items():
            self._levels[name].kinds[kind] = _present(found, models.get(name, ""))
        self.tiers = self._shrink()
        self._made: dict[tuple[str, str], Posterior] = {}

    def posterior(self, student: Student, kind: str) -> Posterior:
        """Return what is known of a student at a kind; of one outside the roster what its card says."""
        found = self._made.get((student.name, kind))
        if found is None:
            found = self._made[student.name, kind] = self._make(student, kind)
        return found

    def mean(self, student: Student, kind: str) -> float:
        """Return the expected share right, 0 to 1."""
        return self.posterior(student, kind).mean

    def evidence(self, student: Student, kind: str) -> float:
        """Return how many grades stand behind `mean`, the card's included."""
        return self.posterior(student, kind).evidence

    def level(self, student: Student) -> float:
        """Return what a student is expected to get right at a kind nobody has seen it at, 0 to 1."""
        known = self._levels.get(student.name)
        return known.mean if known else self.tiers.get(student.tier, ROOT)

    def known(self, student: Student, kind: str, family: str, echo: float | None = None) -> Known:
        """Return the same as strategies are told it."""
        found = self.posterior(student, kind)
        return Known(found.mean, found.evidence, family, echo)

    def _make(self, student: Student, kind: str) -> Posterior:
        level = self._levels.get(student.name)
        right, wrong = level.kinds.get(kind, (0.0, 0.0)) if level else (0.0, 0.0)
        card, card_grades = card_of(student, kind)
        above = self.level(student)
        share = card or 0.0
        return Posterior(
            alpha=KIND_STRENGTH * above + card_grades * share + right,
            beta=KIND_STRENGTH * (1 - above) + card_grades * (1 - share) + wrong,
            grades=right + wrong,
            card=card,
            card_grades=card_grades,
        )

    def _shrink(self) -> Mapping[Tier, float]:
        """Set each student's level, and return the tiers'."""
        tiers: dict[Tier, float] = {}
        for tier in Tier:
            members = [level for level in self._levels.values() if level.student.tier is tier]
            own = [_mean_of_kinds(level, ROOT, 0.0) for level in members if level.kinds]
            weights = [_weight(level) for level in members if level.kinds]
            tiers[tier] = (
                sum(mean * weight for mean, weight in zip(own, weights, strict=True)) + TIER_STRENGTH * ROOT
            ) / (sum(weights) + TIER_STRENGTH)
            for level in members:
                level.mean = _mean_of_kinds(level, tiers[tier], STUDENT_STRENGTH)
        return tiers


def family_of(student: Student) -> str:
    """Return what a student shares with others that make the same mistakes: its base model."""
    return student.model.family or f"{student.model.engine}:{student.model.source}"


def card_of(student: Student, kind: str) -> tuple[float | None, float]:
    """Return what a card says of a student at a kind, and what that counts: of a former model only a little."""
    if kind in student.skills:
        return student.skills[kind], MOST_CARD_GRADES
    if kind in student.former_skills:
        return student.former_skills[kind], MOST_FORMER_GRADES
    return None, 0.0


def _present(found: Iterable[Counts], model: str) -> tuple[float, float]:
    """Return what counts for the present model: its own grades whole, those of former ones as a few."""
    right = sum(one.right for one in found if one.model == model)
    wrong = sum(one.wrong for one in found if one.model == model)
    former = [one for one in found if one.model != model]
    total = sum(one.total for one in former)
    share = min(1.0, MOST_FORMER_GRADES / total) if total else 0.0
    return right + share * sum(one.right for one in former), wrong + share * sum(one.wrong for one in former)


def _mean_of_kinds(level: _Level, above: float, strength: float) -> float:
    """Return the mean of a student's kinds, each weighed by n / (n + KIND_STRENGTH), shrunk to the level above."""
    total, weights = strength * above, strength
    for right, wrong in level.kinds.values():
        if (number := right + wrong) > 0:
            weight = number / (number + KIND_STRENGTH)
            total += weight * right / number
            weights += weight
    return total / weights if weights else above


def _weight(level: _Level) -> float:
    """Return how much of one student a tier hears: all of it once it is known at several kinds."""
    kinds = sum(n / (n + KIND_STRENGTH) for n in (right + wrong for right, wrong in level.kinds.values()))
    return kinds / (kinds + STUDENT_STRENGTH)
