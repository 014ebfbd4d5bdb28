"""How much each student may say in a cycle. Pure.

A limit grows by half after an answer that was cut off, up to what the model's context holds. With a budget for
the whole session, a cycle is allowed an even share of what is left. Where that is less than its students are
expected to say, limits shrink to a quarter above what each was seen to need, but not below: half an answer is
worth nothing. Then tokens are what is scarce, so they go to the most useful per token; whom the share does
not reach waits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studium.serve.sessions.learn import Forecast

FIRST_LIMIT = 512
GROWTH = 1.5
ROOM_ABOVE_MEAN = 1.25
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
    """Return the token limit of each of (student, most it could say).

    Students for whom nothing is left are missing from the result; somebody is there while anything is left.
    The limits together never exceed what is left of the budget.
    """
    wanted = {student: _wanted(forecasts[student], most) for student, most in students}
    if allowance.left is None:
        return wanted
    even = allowance.left // max(len(wanted), 1)
    expected = {student: _expected(forecasts[student], want, even) for student, want in wanted.items()}
    share = allowance.left / max(allowance.cycles_left, 1.0)
    plenty = sum(expected.values()) <= share and sum(wanted.values()) <= allowance.left
    if plenty:
        return wanted
    limits: dict[str, int] = {}
    for student in sorted(wanted, key=lambda one: -forecasts[one].usefulness / max(expected[one], 1)):
        spent = sum(limits.values())
        limit = min(expected[student], allowance.left - spent)
        if limit < min(FEWEST_TOKENS, wanted[student]) or (limits and spent + limit > share):
            continue
        limits[student] = limit
    return limits


def _wanted(forecast: Forecast, most: int) -> int:
    last = forecast.last
    if last is None:
        return min(FIRST_LIMIT, most)
    grown = round(last.max_tokens * GROWTH) if last.cut else last.max_tokens
    return min(max(grown, FIRST_LIMIT), most)


def _expected(forecast: Forecast, wanted: int, even: int) -> int:
    """What it will probably say, with some room; an even share where nothing is known; more where it was cut."""
    if forecast.tokens is None:
        return min(wanted, max(even, FEWEST_TOKENS))
    need = ROOM_ABOVE_MEAN * forecast.tokens
    if forecast.last is not None and forecast.last.cut:
        need = max(need, GROWTH * forecast.last.max_tokens)
    return min(wanted, max(round(need), FEWEST_TOKENS))
