"""From the confidence that was computed to how often such answers were right: a curve learned from graded answers.

Platt's two parameters (1999) on the log-odds of the confidence, p = s(slope * logit(c) + offset), with the slope kept
above 0, so that it is monotone, and pulled to the identity by a Gaussian prior, so that without history it changes
nothing and a handful of grades changes little. Isotonic regression would bend where data does, but needs some
hundred grades before it beats a straight line (Niculescu-Mizil and Caruana 2005); few users give so many.
The error is Guo et al.'s ECE (2017) over bins of equal mass; a curve's is measured on grades it was not fitted to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

from studium.evals.intervals import Interval, bootstrap, wilson

MOST_PAIRS = 2000
"""Newest grades a curve is fitted to: it follows a changing roster, and takes milliseconds."""

PRIOR_SLOPE_SD, PRIOR_OFFSET_SD = 0.5, 1.0
_LEAST_SLOPE = 0.05
_EDGE = 1e-4
_BINS = 10
_LEAST_IN_BIN = 5
_FOLDS = 5


class Pair(NamedTuple):
    """What was said of an answer, and whether it was right, both 0 to 1."""

    confidence: float
    right: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The curve, and how many graded answers it rests on. `slope` 1 and `offset` 0 leave confidences as they are."""

    slope: float = 1.0
    offset: float = 0.0
    pairs: int = 0

    def of(self, confidence: float) -> float:
        """Return how often answers of this computed confidence were right, 0 to 1. Takes a microsecond."""
        if not self.pairs:
            return confidence
        return _squash(self.slope * _logit(confidence) + self.offset)

    def before(self, calibrated: float) -> float:
        """Return the computed confidence of which `of` makes this one: curves are fitted to what was computed."""
        if not self.pairs:
            return calibrated
        return _squash((_logit(calibrated) - self.offset) / self.slope)


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of like confidence: the mean of what was said, and the share right with its 95 % interval."""

    pairs: int
    confidence: float
    right: Interval


def fit(pairs: Sequence[Pair]) -> Calibration:
    """Return the most probable curve: Newton's steps on the log posterior, which is concave."""
    pairs = pairs[-MOST_PAIRS:]
    points = [(_logit(pair.confidence), pair.right) for pair in pairs]
    slope, offset = 1.0, 0.0
    for _ in range(50):
        step = _newton_step(points, slope, offset)
        slope, offset = slope + step[0], offset + step[1]
        if max(map(abs, step)) < 1e-9:
            break
    if slope < _LEAST_SLOPE:  # history that says "the surer, the wronger" is not followed that far
        slope = _LEAST_SLOPE
        for _ in range(50):
            offset += _newton_step(points, slope, offset, slope_free=False)[1]
    return Calibration(slope, offset, len(pairs))


def ece(pairs: Sequence[Pair]) -> float | None:
    """Return the expected calibration error, 0 to 1; None without pairs."""
    if not pairs:
        return None
    return sum(
        len(one) * abs(fmean(p.confidence for p in one) - fmean(p.right for p in one)) for one in _bins(pairs)
    ) / len(pairs)


def ece_interval(pairs: Sequence[Pair]) -> Interval | None:
    """Return the ECE with a 95 % bootstrap interval; None without pairs. Few pairs make it look too high."""
    return bootstrap(pairs, lambda drawn: ece(drawn) or 0.0, resamples=300) if pairs else None


def cross_fitted(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with each confidence as a curve gives it that was fitted to the other folds."""
    if len(pairs) < _FOLDS:
        return list(pairs)
    fitted: list[Pair] = []
    for fold in range(_FOLDS):
        curve = fit([pair for number, pair in enumerate(pairs) if number % _FOLDS != fold])
        fitted += [Pair(curve.of(pair.confidence), pair.right) for pair in pairs[fold::_FOLDS]]
    return fitted


def reliability_diagram(pairs: Sequence[Pair]) -> list[Bin]:
    """Return bins of equal mass, the least confident first."""
    return [
        Bin(
            len(one),
            fmean(p.confidence for p in one),
            wilson(round(math.fsum(p.right for p in one)), len(one)),
        )
        for one in (_bins(pairs) if pairs else ())
    ]


def _bins(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return the pairs in at most _BINS groups of nearly equal size, by confidence; few make fewer.

    Equal confidences are never parted: which of them are right would decide what a bin holds.
    """
    ordered = sorted(pairs, key=lambda pair: pair.confidence)
    number = max(1, min(_BINS, len(ordered) // _LEAST_IN_BIN))
    bins: list[list[Pair]] = [[]]
    for _, tied in groupby(ordered, key=lambda pair: pair.confidence):
        if len(bins) < number and sum(map(len, bins)) >= len(ordered) * len(bins) / number:
            bins.append([])
        bins[-1] += tied
    return [one for one in bins if one]


def _newton_step(
    points: Sequence[tuple[float, float]], slope: float, offset: float, *, slope_free: bool = True
) -> tuple[float, float]:
    prior_slope, prior_offset = PRIOR_SLOPE_SD**-2, PRIOR_OFFSET_SD**-2
    gradient_slope = -prior_slope * (slope - 1.0)
    gradient_offset = -prior_offset * offset
    slopes, both, offsets = prior_slope, 0.0, prior_offset
    for x, right in points:
        said = _squash(slope * x + offset)
        weight = said * (1.0 - said)
        gradient_slope += x * (right - said)
        gradient_offset += right - said
        slopes += weight * x * x
        both += weight * x
        offsets += weight
    if not slope_free:
        return 0.0, gradient_offset / offsets
    determinant = slopes * offsets - both * both
    return (
        _bounded((offsets * gradient_slope - both * gradient_offset) / determinant),
        _bounded((slopes * gradient_offset - both * gradient_slope) / determinant),
    )


def _bounded(step: float) -> float:
    """Return a step that does not leave the region in which the curve resembles its quadratic."""
    return max(-1.0, min(1.0, step))


def _logit(probability: float) -> float:
    inside = min(max(probability, _EDGE), 1.0 - _EDGE)
    return math.log(inside / (1.0 - inside))


def _squash(log_odds: float) -> float:
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    return (odds := math.exp(log_odds)) / (1.0 + odds)
