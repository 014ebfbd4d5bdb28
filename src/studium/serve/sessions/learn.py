"""What a session's own history says of each student. Pure: no clock, no I/O, no randomness.

Usefulness is the mean of a Beta posterior, shrunk towards the mean of all students by a prior worth
`PRIOR_TRIALS` trials (empirical Bayes; Casella 1985, "An Introduction to Empirical Bayes Data Analysis"),
so that one lucky proposal makes nobody a star. Older trials count less by `DISCOUNT` each, because a topic
is being used up while one works on it (discounted UCB: Garivier and Moulines 2011).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

PRIOR_TRIALS = 2.0
DISCOUNT = 0.9


@dataclass(frozen=True, slots=True)
class Trial:
    """One finished run as learning sees it. `seconds` is the generation alone.

    `cut` says that the answer ended because no more tokens were allowed; `seated` False that it never got as
    far as its model, which says nothing of the student's usefulness or speed.
    """

    student: str
    model: str
    cycle: int
    useful: bool
    seconds: float
    load_seconds: float = 0.0
    tokens: int = 0
    max_tokens: int = 0
    cut: bool = False
    seated: bool = True


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of a student's next run. None where nothing was ever measured.

    `usefulness` is 0 to 1; `trials` counts its runs that got to its model, `barren` the latest of these without
    anything useful, `unseated` its latest attempts that did not get there; `last` is its latest trial.
    """

    student: str
    usefulness: float
    trials: int
    barren: int
    unseated: int = 0
    seconds: float | None = None
    load_seconds: float | None = None
    tokens: float | None = None
    last: Trial | None = None


def learn(trials: Iterable[Trial], students: Sequence[str]) -> dict[str, Forecast]:
    """Return a forecast for every one of `students` from trials in the order they ran."""
    own: dict[str, list[Trial]] = {student: [] for student in students}
    unseated = dict.fromkeys(students, 0)
    last: dict[str, Trial] = {}
    loads: dict[str, list[float]] = {}
    for trial in trials:
        if trial.student in own:
            last[trial.student] = trial
            unseated[trial.student] = 0 if trial.seated else unseated[trial.student] + 1
            if trial.seated:
                own[trial.student].append(trial)
        if trial.load_seconds > 0:
            loads.setdefault(trial.model, []).append(trial.load_seconds)
    weights = {student: _weights(len(mine)) for student, mine in own.items()}
    useful = {student: _dot(weights[student], [float(t.useful) for t in own[student]]) for student in own}
    tried = {student: sum(weights[student]) for student in own}
    mean = (sum(useful.values()) + 1) / (sum(tried.values()) + 2)
    load_means = {model: _recent_mean(seconds) for model, seconds in loads.items()}
    return {
        student: replace(
            _forecast(student, own[student], useful[student], tried[student], mean, load_means),
            unseated=unseated[student],
            last=last.get(student),
        )
        for student in own
    }


def _forecast(
    student: str,
    mine: Sequence[Trial],
    useful: float,
    tried: float,
    mean: float,
    loads: Mapping[str, float],
) -> Forecast:
    usefulness = (useful + PRIOR_TRIALS * mean) / (tried + PRIOR_TRIALS)
    if not mine:
        return Forecast(student, usefulness, trials=0, barren=0)
    return Forecast(
        student,
        usefulness,
        trials=len(mine),
        barren=next((n for n, trial in enumerate(reversed(mine)) if trial.useful), len(mine)),
        seconds=_recent_mean([trial.seconds for trial in mine]),
        load_seconds=loads.get(mine[-1].model),
        tokens=_recent_mean([float(trial.tokens) for trial in mine]),
    )


def _weights(count: int) -> list[float]:
    """Weights of `count` trials, the newest 1."""
    return [DISCOUNT ** (count - 1 - index) for index in range(count)]


def _recent_mean(values: Sequence[float]) -> float:
    weights = _weights(len(values))
    return _dot(weights, values) / sum(weights)


def _dot(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))
