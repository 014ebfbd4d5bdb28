"""What a model's file says of its costs, corrected by what all models of its engine have taught.

Each quantity has a formula: a sum of features of the file (bytes to read, bytes of KV cache, a constant)
times coefficients that begin at nominal values. A `Pool` learns the coefficients across models by Bayesian
linear regression on relative errors (Bishop 2006, section 3.3), with the nominal values as prior mean:
storage speed in seconds a byte, memory measured against memory estimated, seconds a token against bytes of
weights. So a new model of a known engine starts from what the others taught (Gelman et al. 2013, chapter 5).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from studium.fleet.belief import Prior
from studium.records.models import MemoryEstimate
from studium.records.profiles import ModelProfile, Quantity

MODELS_PRIOR = 2.0
"""How many models the nominal spread between models is worth, and RUNS_PRIOR runs that within one."""
RUNS_PRIOR = 8.0
MOST_LOGARITHM = 50.0
"""What was measured beyond e^50, or below its reciprocal, teaches nothing of other models."""
_LEAST_SHARE = 0.02  # no coefficient falls below this share of its nominal value


@dataclass(frozen=True, slots=True)
class Formula:
    """One quantity from features of the file.

    `coefficients` are nominal, `looseness` how far each may be off, as a share of itself. `between` is
    what the formula misses of a model, `within` how far runs of one model differ, `floor` the least of
    that; all three on the log scale. A speed is `inverse`: its formula gives seconds a token. `guesses`
    says that the formula is worth something before any model of the engine was measured.
    """

    features: Callable[[MemoryEstimate], tuple[float, ...]]
    coefficients: tuple[float, ...]
    looseness: tuple[float, ...]
    between: float
    within: float
    floor: float
    inverse: bool = False
    guesses: bool = False


def _parts(estimate: MemoryEstimate) -> tuple[float, ...]:
    return estimate.weights_bytes, estimate.kv_cache_bytes, estimate.overhead_bytes


def _fixed_and_weights(estimate: MemoryEstimate) -> tuple[float, ...]:
    return (1.0, float(estimate.weights_bytes)) if estimate.total_bytes else (0.0, 0.0)


def _fixed(_estimate: MemoryEstimate) -> tuple[float, ...]:
    return (1.0,)


FORMULAS: Mapping[Quantity, Formula] = {
    # Engines estimate the weights exactly and the compute buffers generously.
    Quantity.MEMORY_BYTES: Formula(
        _parts, (1.0, 1.0, 0.85), (0.05, 0.2, 0.3), between=0.05, within=0.01, floor=0.003, guesses=True
    ),
    # A process starts in a tenth of a second, a solid-state disk gives a gigabyte a second.
    Quantity.LOAD_SECONDS: Formula(
        _fixed_and_weights, (0.1, 1e-9), (2.0, 2.0), between=0.3, within=0.35, floor=0.05, guesses=True
    ),
    Quantity.UNLOAD_SECONDS: Formula(
        _fixed_and_weights, (0.02, 1e-10), (2.0, 2.0), between=0.5, within=0.4, floor=0.05
    ),
    Quantity.RUN_SECONDS: Formula(
        _fixed_and_weights, (0.5, 5e-9), (2.0, 2.0), between=0.7, within=0.6, floor=0.05
    ),
    # A token of an answer reads all weights once; a token of a prompt shares that with its batch.
    Quantity.PROMPT_TOKENS_PER_SECOND: Formula(
        _fixed_and_weights, (2e-4, 2e-11), (2.0, 2.0), between=0.5, within=0.4, floor=0.05, inverse=True
    ),
    Quantity.TOKENS_PER_SECOND: Formula(
        _fixed_and_weights, (1e-3, 1e-10), (2.0, 2.0), between=0.4, within=0.2, floor=0.05, inverse=True
    ),
    Quantity.TOKENS_PER_ANSWER: Formula(_fixed, (100.0,), (3.0,), between=0.7, within=0.7, floor=0.05),
}


class Pool:
    """What the models of one engine taught about one quantity: sums only, so any model can be taken out.

    A model's own prior is made without it, or it would confirm itself.
    """

    def __init__(self, quantity: Quantity) -> None:
        self.formula = FORMULAS[quantity]
        self._quantity = quantity
        size = len(self.formula.coefficients)
        self._models = 0
        self._gram = [[0.0] * size for _ in range(size)]
        self._moments = [0.0] * size
        self._squares = 0.0
        self._freedom = 0.0

    def count(self, profile: ModelProfile, sign: int) -> None:
        """Add a profile's part (`sign` 1) or take it out again (-1)."""
        spread = profile.spread(self._quantity)
        if spread.weight == 0:
            return
        self._squares += sign * spread.squares
        self._freedom += sign * max(spread.weight - 1, 0.0)
        row = self._row(profile.estimate, spread.mean)
        if row is None:
            return
        self._models += sign
        for i, one in enumerate(row):
            self._moments[i] += sign * one
            for j, other in enumerate(row):
                self._gram[i][j] += sign * one * other

    def less(self, profile: ModelProfile) -> "Pool":
        """Return the pool without a profile that is counted in it."""
        if profile.spread(self._quantity).weight == 0:
            return self
        rest = Pool(self._quantity)
        rest._models, rest._squares, rest._freedom = self._models, self._squares, self._freedom
        rest._gram = [list(row) for row in self._gram]
        rest._moments = list(self._moments)
        rest.count(profile, -1)
        return rest

    def prior(self, estimate: MemoryEstimate | None) -> Prior:
        """Return what is believed of a model with this estimate that is not counted in the pool."""
        formula = self.formula
        variance = RUNS_PRIOR * formula.within**2 + max(self._squares, 0.0)
        within = math.sqrt(variance / (RUNS_PRIOR + max(self._freedom, 0.0)))
        within = max(within, formula.floor)
        features = None if estimate is None else self._terms(estimate)
        if features is None or not (formula.guesses or self._models):
            return Prior(None, formula.between, within, formula.floor)
        factors, covariance, misfit = self._fit()
        predicted = sum(map(mul, factors, features))
        shares = [term / predicted for term in features]
        unsure = _quadratic(covariance, shares)
        centre = -math.log(predicted) if formula.inverse else math.log(predicted)
        # A relative deviation as that of the logarithm, as a log-normal has it.
        return Prior(centre, math.sqrt(misfit + math.log1p(max(unsure, 0.0))), within, formula.floor)

    def _terms(self, estimate: MemoryEstimate) -> list[float] | None:
        """The nominal summands of the formula; None where they come to nothing."""
        features = self.formula.features(estimate)
        terms = [c * value for c, value in zip(self.formula.coefficients, features, strict=True)]
        return terms if math.fsum(terms) > 0 else None

    def _row(self, estimate: MemoryEstimate | None, mean: float) -> list[float] | None:
        """The nominal summands as shares of what was measured: with the right factors they come to one."""
        terms = None if estimate is None else self._terms(estimate)
        if terms is None or abs(mean) > MOST_LOGARITHM:
            return None
        measured = math.exp(-mean if self.formula.inverse else mean)
        return [term / measured for term in terms]

    def _fit(self) -> tuple[list[float], list[list[float]], float]:
        """Return the factors on the nominal coefficients, their covariance, and the squared misfit."""
        misfit = self.formula.between**2
        factors, covariance = self._solve(misfit)
        if self._models:
            squares = max(self._relative_squares(factors), 0.0)
            misfit = (MODELS_PRIOR * misfit + squares) / (MODELS_PRIOR + self._models)
            factors, covariance = self._solve(misfit)
        return factors, covariance, misfit

    def _relative_squares(self, factors: Sequence[float]) -> float:
        """The sum of squared relative errors over all models counted."""
        linear = sum(map(mul, factors, self._moments))
        return _quadratic(self._gram, factors) - 2 * linear + self._models

    def _solve(self, misfit: float) -> tuple[list[float], list[list[float]]]:
        precisions = [1 / loose**2 for loose in self.formula.looseness]
        matrix = [[value / misfit for value in row] for row in self._gram]
        target = [moment / misfit + p for moment, p in zip(self._moments, precisions, strict=True)]
        for i, precision in enumerate(precisions):
            matrix[i][i] += precision
        covariance = _inverse(matrix)
        factors = [sum(map(mul, row, target)) for row in covariance]
        return [max(factor, _LEAST_SHARE) for factor in factors], covariance


def _quadratic(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> float:
    return sum(one * sum(map(mul, row, vector)) for one, row in zip(vector, matrix, strict=True))


def _inverse(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Invert a small positive definite matrix by Gauss and Jordan; no pivoting is needed for those."""
    size = len(matrix)
    rows = [[*row, *(float(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = rows[i][i]
        rows[i] = [value / pivot for value in rows[i]]
        for k in range(size):
            if k != i and (factor := rows[k][i]):
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[size:] for row in rows]
