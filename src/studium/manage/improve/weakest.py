"""Which skill to train next: decided from what was measured, without asking anybody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ACCURACY, ALL = "accuracy", "all"
ENOUGH = 0.95
"""Who gets so many right of a skill's fresh problems has no weakness there worth ten minutes."""
ABLE, SOME = 0.2, 0.05


@dataclass(frozen=True, slots=True)
class Score:
    """How many of a domain's fresh problems were right, with its 95 % interval; shares of 1.

    `levels` are those of which it gets a part right that is worth keeping (`ABLE`), `begun` those of which it gets
    some right (`SOME`): one lucky answer of thirty is none.
    """

    domain: str
    share: float
    low: float
    high: float
    scored: int
    levels: tuple[int, ...] = ()
    begun: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """What is trained: `chosen`, and why in words; `kept` are the other skills, which must not get lost."""

    chosen: Score
    why: str
    kept: tuple[Score, ...]


def why_none(scores: Sequence[Score]) -> str:
    """Return why none of a model's skills is to be trained, in words."""
    able = [one for one in scores if one.share > 0]
    if not able:
        names = ", ".join(one.domain for one in scores)
        return f"it gets nothing right of {names}; --on DOMAIN teaches one of them from the beginning"
    least = min(able, key=lambda one: (one.share, one.domain))
    return f"the least it can do is {least.domain}, {least.share:.0%} of {least.scored}; --on DOMAIN trains one anyway"


def scores_of(figures: Sequence[Mapping[str, Any]]) -> list[Score]:
    """Return the accuracy of each domain, all its levels together, of what `eval run --json` tells as figures."""
    told = [one for one in figures if one["metric"] == ACCURACY and one["value"] is not None]
    return [
        Score(
            one["domain"],
            one["value"],
            one["low"],
            one["high"],
            one["counted"],
            _levels(told, one["domain"], ABLE),
            _levels(told, one["domain"], SOME),
        )
        for one in told
        if one["level"] is None and one["domain"] != ALL
    ]


def _levels(told: Sequence[Mapping[str, Any]], domain: str, least: float) -> tuple[int, ...]:
    of_domain = [one for one in told if one["domain"] == domain and one["level"] is not None]
    return tuple(sorted(one["level"] for one in of_domain if one["value"] >= least))


def weakest(scores: Sequence[Score], wanted: Sequence[str] = ()) -> Choice | None:
    """Return what to train: of the skills a model has at all, the one it gets fewest right; None: no weakness.

    A skill is one of which it gets something right: who was never taught a domain declines there, which is no
    weakness. Only of `wanted` where given, and these also where it gets nothing right. Another skill is kept where its
    upper bound is above nothing; equal shares go by name.
    """
    among = [one for one in scores if (one.domain in wanted if wanted else one.share > 0)]
    if not among:
        return None
    chosen = min(among, key=lambda one: (one.share, one.domain))
    if chosen.share >= ENOUGH and not wanted:
        return None
    kept = tuple(one for one in scores if one.domain != chosen.domain and one.share > 0)
    others = ", ".join(f"{one.domain} {one.share:.0%}" for one in kept)
    why = f"{chosen.domain}: {chosen.share:.0%} of {chosen.scored} fresh problems right"
    return Choice(chosen, f"{why}; beside it {others}" if others else why, kept)
