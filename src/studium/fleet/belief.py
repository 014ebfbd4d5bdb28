"""Learns one positive quantity from its measurements and predicts the next one, on the log scale.

The logarithm is taken as normal with unknown mean and variance and a normal-inverse-gamma prior, so the
prediction is a Student t (Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution",
section 3). Two things differ. Old observations are forgotten by a constant factor (the discount of West
and Harrison 1997, section 2.4). A surprise counts only as far as SURPRISE standard deviations (Huber
1964), so one load slowed by a busy disk spoils nothing; several in a row on the same side are how things
are now, and the past is let go.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from studium.fleet.quantiles import student_t
from studium.records.profiles import Range, Spread

LEVEL = 0.90
KEPT = 0.93
"""Share of the past that stays with each observation: about the last fourteen count.

On a machine that others use too, loads of one hour differ from those of the next by a factor of two: in
benchmarks/forecast.py a longer memory forecast no better, and its intervals held less."""
SURPRISE = 3.0
SURPRISES_THAT_ARE_A_CHANGE = 3
PRIOR_FREEDOM = 4.0
"""How many observations the other models' run-to-run variance is worth."""
_MOST_EXPONENT = 700.0  # exp of more than 709 is no double any more


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before the model itself was measured. All on the natural-log scale.

    `centre` is where its mean should lie, give or take `between` (None: nobody knows); `within` is the
    standard deviation of its measurements around that mean, never taken below `floor`.
    """

    centre: float | None
    between: float
    within: float
    floor: float


class Prediction(NamedTuple):
    """The next measurement's logarithm: Student t with `freedom`, around `centre`."""

    centre: float
    scale: float
    freedom: float

    def quantile(self, share: float) -> float:
        """Return the quantity, no longer its logarithm, that `share` of cases stay below."""
        exponent = self.centre + self.scale * student_t(share, self.freedom)
        return math.exp(max(-_MOST_EXPONENT, min(_MOST_EXPONENT, exponent)))


def predict(spread: Spread, prior: Prior) -> Prediction | None:
    """Predict the next measurement; None where neither the prior nor a measurement tells anything."""
    weight, distance, pseudo = spread.weight, 0.0, 0.0
    if prior.centre is not None:
        # How many of its own observations the prior's mean is worth.
        pseudo = (prior.within / prior.between) ** 2
        distance = spread.mean - prior.centre
    elif weight == 0:
        return None
    total = pseudo + weight
    centre = (pseudo * (prior.centre or 0.0) + weight * spread.mean) / total
    freedom = PRIOR_FREEDOM + weight - (1 if prior.centre is None else 0)
    squares = PRIOR_FREEDOM * prior.within**2 + spread.squares + pseudo * weight / total * distance**2
    variance = max(squares / freedom, prior.floor**2)
    return Prediction(centre, math.sqrt(variance * (1 + 1 / total)), freedom)


def expected(spread: Spread, prior: Prior) -> Range | None:
    """Return what to expect of the next measurement; None where nothing is known."""
    prediction = predict(spread, prior)
    if prediction is None:
        return None
    tail = (1 - LEVEL) / 2
    return Range(
        prediction.quantile(0.5),
        prediction.quantile(tail),
        prediction.quantile(1 - tail),
        spread.observations,
    )


def learned(spread: Spread, value: float, prior: Prior) -> Spread:
    """Return the statistics after one more measurement, which must be positive and finite."""
    logarithm = math.log(value)
    prediction = predict(spread, prior)
    distance = 0.0 if prediction is None else (logarithm - prediction.centre) / prediction.scale
    if prediction is None or abs(distance) <= SURPRISE:
        return _counted(spread, logarithm, logarithm - spread.mean, surprises=0)
    surprises = _one_more(spread.surprises, above=distance > 0)
    if abs(surprises) >= SURPRISES_THAT_ARE_A_CHANGE:
        return Spread(spread.observations + 1, 1.0, logarithm, 0.0, surprises)
    # A surprise moves the mean as far as SURPRISE allows, and hardly the spread: what is usual has not
    # changed yet, and a wide spread would no longer notice that it has.
    logarithm = prediction.centre + math.copysign(SURPRISE * prediction.scale, distance)
    return _counted(spread, logarithm, prediction.scale, surprises)


def _counted(spread: Spread, logarithm: float, distance: float, surprises: int) -> Spread:
    """Count a measurement whose logarithm lies `distance` from the mean."""
    past = KEPT * spread.weight
    weight = past + 1
    return Spread(
        observations=spread.observations + 1,
        weight=weight,
        mean=spread.mean + (logarithm - spread.mean) / weight,
        squares=KEPT * spread.squares + distance**2 * past / weight,
        surprises=surprises,
    )


def _one_more(surprises: int, *, above: bool) -> int:
    """Count one more surprise; one on the other side begins anew."""
    if above:
        return max(surprises, 0) + 1
    return min(surprises, 0) - 1
