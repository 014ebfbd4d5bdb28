"""The embedded students as data: how large each is, what it is taught and for how long.

Every student but one answers two skills in full and a little of others, and is taught to decline the
rest, so every skill is answered well by at least two. `augur` declines all questions: it makes
proposals in research sessions. Sizes and steps were chosen so that a student takes four to twelve
minutes on one core; docs and cards carry what came of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from studium.domains.catalogue import skills
from studium.domains.riemann.lessons import lesson
from studium.errors import CallerError
from studium.train.students.pretraining import Schedule, Shape
from studium.train.students.stream import Lessons, Mixture, Share
from studium.train.tokenizer import VOCABULARY_SIZE

# Harder levels come up more often. Declining is learnt from few examples.
_LEVEL_WEIGHT = {1: 1.0, 2: 1.3, 3: 1.6}
_DECLINED_WEIGHT = 0.25
_OUTSIDE_WEIGHT = 2.0
_LESSONS_WEIGHT = 2.0
LESSONS: Mapping[str, Lessons] = {"riemann": lesson}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One student. `answers` maps a skill to the highest level it answers; all else it declines.

    `emphasis` multiplies how often a skill comes up. `topic` is what it makes proposals on in research sessions;
    they are drawn at `temperature`, or would be the same every time.
    """

    name: str
    speciality: str
    shape: Shape
    schedule: Schedule
    answers: Mapping[str, int]
    emphasis: Mapping[str, float]
    topic: str = ""
    temperature: float = 0.0


def mixture_of(recipe: Recipe) -> Mixture:
    """Return what a student is taught, level by level."""
    shares = [_share(recipe, domain.name, level) for domain in skills().values() for level in domain.levels]
    if not recipe.topic:
        return Mixture(tuple(shares), _OUTSIDE_WEIGHT)
    return Mixture(tuple(shares), _OUTSIDE_WEIGHT, LESSONS[recipe.topic], _LESSONS_WEIGHT)


def recipe(name: str) -> Recipe:
    """Return the recipe of a student. Raises CallerError for a name that is none."""
    for known in STUDENTS:
        if known.name == name:
            return known
    raise CallerError(
        f"there is no recipe for {name!r}",
        expected=f"one of {', '.join(known.name for known in STUDENTS)}",
        try_next="leave the name out to train them all",
    )


def quick(recipe: Recipe) -> Recipe:
    """Return a recipe of seconds instead of minutes, to see that everything works."""
    short = replace(recipe.schedule, steps=20, rows=4, warmup_steps=5)
    return replace(recipe, schedule=short)


def generalist(steps: int) -> Recipe:
    """Return one model that answers every skill, with about the parameters of all students together."""
    everything = {name: max(domain.levels) for name, domain in skills().items()}
    return Recipe(
        name="generalist",
        speciality="all five skills",
        shape=_shape(width=240, layers=5, heads=8, inner=600),
        schedule=Schedule(steps=steps, seed=7),
        answers=everything,
        emphasis={},
    )


def _share(recipe: Recipe, skill: str, level: int) -> Share:
    if level > recipe.answers.get(skill, 0):
        return Share(skill, level, _DECLINED_WEIGHT, answered=False)
    return Share(skill, level, _LEVEL_WEIGHT[level] * recipe.emphasis.get(skill, 1.0))


def _shape(*, width: int, layers: int, heads: int, inner: int) -> Shape:
    return Shape(width=width, layers=layers, heads=heads, inner=inner, vocabulary=VOCABULARY_SIZE)


STUDENTS = (
    Recipe(
        name="sprout",
        speciality="the smallest: judges reviews, sorts short lists, adds small numbers",
        shape=_shape(width=64, layers=3, heads=4, inner=192),
        schedule=Schedule(steps=1500, seed=1),
        answers={"sentiment": 3, "sorting": 2, "arithmetic": 1},
        emphasis={},
    ),
    Recipe(
        name="abacus",
        speciality="arithmetic column by column, and programs",
        shape=_shape(width=96, layers=3, heads=4, inner=256),
        schedule=Schedule(steps=1500, seed=2),
        answers={"arithmetic": 3, "programs": 3},
        emphasis={"programs": 1.3},
    ),
    Recipe(
        name="critic",
        speciality="the sentiment of reviews, and sorting and counting",
        shape=_shape(width=96, layers=3, heads=4, inner=256),
        schedule=Schedule(steps=1900, seed=3),
        answers={"sentiment": 3, "sorting": 3},
        emphasis={"sorting": 1.5},
    ),
    Recipe(
        name="clerk",
        speciality="sorting and counting, and arithmetic",
        shape=_shape(width=128, layers=3, heads=4, inner=320),
        schedule=Schedule(steps=2300, seed=4),
        answers={"sorting": 3, "arithmetic": 3, "measures": 1},
        emphasis={"sorting": 1.3},
    ),
    Recipe(
        name="almanac",
        speciality="units, durations, weekdays and dates, and reviews",
        shape=_shape(width=128, layers=4, heads=4, inner=320),
        schedule=Schedule(steps=1300, seed=5),
        answers={"measures": 3, "sentiment": 3},
        emphasis={"measures": 2.0},
    ),
    Recipe(
        name="tinker",
        speciality="programs and expressions, units and dates",
        shape=_shape(width=160, layers=3, heads=5, inner=400),
        schedule=Schedule(steps=1600, seed=6),
        answers={"programs": 3, "measures": 3},
        emphasis={"measures": 1.3},
    ),
    Recipe(
        name="augur",
        speciality="numerical claims around the Riemann hypothesis, in research sessions; answers no questions",
        shape=_shape(width=128, layers=3, heads=4, inner=320),
        # Its prompts are long: fewer and longer rows, as many tokens a step.
        schedule=Schedule(steps=1050, rows=7, length=528, long_factor=2, seed=8),
        answers={},
        emphasis={},
        topic="riemann",
        temperature=0.7,
    ),
)
