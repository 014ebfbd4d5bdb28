"""How much each student may say in a cycle. Pure.

A limit grows by half after an answer that was cut off, up to what the model's context holds. With a budget for
the whole session, a cycle is allowed an even share of what is left; where that is less than students are
expected to say, all limits shrink in proportion, and grow back when there is more to share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studium.serve.sessions.learn import Forecast

FIRST_LIMIT = 512
GROWTH = 1.5
# Below this no student can say anything; a proposal takes a sentence.
FEWEST_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Allowance:
    """Generated tokens left of the session's budget (None: unbounded) and the cycles to share them among."""

    left: int | None = None
    cycles_left: float = 1.0


def token_limits(
    students: Sequence[tuple[str, int]], forecasts: Mapping[str, Forecast], allowance: Allowance
) -> dict[str, int]:
    """Return the token limit of each of (student, most it could say), in the order they run.

    Students at the end for whom nothing is left are missing from the result. The limits together never
    exceed what is left of the budget.
    """
    wanted = {student: _wanted(forecasts[student], most) for student, most in students}
    if allowance.left is None:
        return wanted
    expected = {student: _expected(forecasts[student], wanted[student]) for student in wanted}
    share = allowance.left / max(allowance.cycles_left, 1.0)
    factor = min(1.0, share / max(sum(expected.values()), 1.0))
    limits: dict[str, int] = {}
    left = allowance.left
    for student, want in wanted.items():
        limit = want if factor == 1.0 else max(FEWEST_TOKENS, round(expected[student] * factor))
        limit = min(limit, want, left)
        if limit < min(FEWEST_TOKENS, want):
            break
        limits[student] = limit
        left -= limit
    return limits


def _wanted(forecast: Forecast, most: int) -> int:
    last = forecast.last
    if last is None:
        return min(FIRST_LIMIT, most)
    grown = round(last.max_tokens * GROWTH) if last.cut else last.max_tokens
    return min(max(grown, FIRST_LIMIT), most)


def _expected(forecast: Forecast, wanted: int) -> float:
    """What it will probably say: a quarter more than its mean; all it may where nothing is known or it was cut."""
    if forecast.tokens is None or (forecast.last is not None and forecast.last.cut):
        return float(wanted)
    return min(float(wanted), max(1.25 * forecast.tokens, float(FEWEST_TOKENS)))
