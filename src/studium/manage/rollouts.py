"""What follows from a challenger's traffic so far: it goes on, meets more of it, is promoted, or is withdrawn.

Pure: exposures go in as facts, a step comes out with its reason. Evidence that carries a promotion holds all exposures,
so that it replays to the same word. Looking and acting is `watching`'s affair.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from studium.errors import BadRequest
from studium.evals.gate.live import (
    QUALITY,
    LiveDecision,
    Side,
    Standing,
    Stream,
    Terms,
    difference,
    look,
    paired,
    share_earned,
    single,
)
from studium.records.adapters import Evidence, Phase, Route, Verdict, content_sha256
from studium.records.rollouts import Exposure, Rollout

FORM = "live"
LEAST_AT_A_STEP = 10
"""Answers to people at a share before it is raised: what breaks under traffic should break on few."""

_RUNNING_COSTS = (Stream.LATENCY, Stream.COST)


class Act(StrEnum):
    """What is done next."""

    NOTHING = "hold"
    SHARE = "raise the share"
    PROMOTE = "promote"
    READY = "ready to be promoted"
    WITHDRAW = "withdraw"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Step:
    """The next thing to do and why; `share` of conversations where it is raised."""

    act: Act
    why: str
    share: float = 0.0


def terms_of(rollout: Rollout) -> Terms:
    """Return what a roll-out is held to, as was declared when it began."""
    quality = tuple(Stream(name) for name in rollout.quality) or QUALITY
    return Terms(quality=quality, shares=rollout.steps) if rollout.steps else Terms(quality=quality)


@dataclass(frozen=True, slots=True)
class Seen:
    """All that exposures told so far; `shifted` counts the answers that the challenger gave to people."""

    standing: Standing = field(default_factory=Standing)
    shifted: int = 0


def fold(seen: Seen, exposures: Iterable[Exposure], terms: Terms) -> Seen:
    """Return what was seen after further exposures, in the order they were written."""
    standing, shifted = seen.standing, seen.shifted
    for one in exposures:
        shifted += one.phase == Phase.SHIFT and Stream.ERRORS in one.challenger
        for stream in Stream:
            tolerance = terms.tolerance if stream in _RUNNING_COSTS else 0.0
            old, new = one.champion.get(stream), one.challenger.get(stream)
            if old is not None and new is not None:
                standing = paired(standing, stream, difference(old, new, tolerance))
            elif new is not None and one.phase == Phase.SHIFT:
                standing = single(standing, stream, Side.CHALLENGER, new, kind=one.kind, tolerance=tolerance)
            elif old is not None and one.phase == Phase.SHIFT:
                standing = single(standing, stream, Side.CHAMPION, old, kind=one.kind, tolerance=tolerance)
    return Seen(standing, shifted)


def next_step(route: Route, rollout: Rollout, seen: Seen, *, autopromote: bool) -> Step:
    """Return what to do now. Harm withdraws whatever was configured; all else is earned.

    A step is taken at a time, however strong the evidence, and asks for LEAST_AT_A_STEP answers given to people.
    """
    if (route.champion, route.challenger) != (rollout.champion, rollout.challenger):
        return Step(Act.OVER, "somebody changed the route")
    terms = terms_of(rollout)
    decision = look(seen.standing, terms)
    why = "; ".join(decision.reasons)
    if decision.verdict is Verdict.ROLL_BACK:
        return Step(Act.WITHDRAW, why)
    passed = [one for one in rollout.steps if one <= route.share]
    ahead = [one for one in rollout.steps if one > route.share]
    if ahead and share_earned(decision, terms) >= ahead[0]:
        if seen.shifted >= LEAST_AT_A_STEP * len(passed):
            return Step(Act.SHARE, why, ahead[0])
        return Step(Act.NOTHING, f"{why}; {LEAST_AT_A_STEP} answers are asked for at each share first")
    if decision.verdict is Verdict.PROMOTE and not ahead:
        enough = seen.shifted >= LEAST_AT_A_STEP * len(passed)
        return Step(Act.PROMOTE if autopromote and rollout.steps and enough else Act.READY, why)
    return Step(Act.NOTHING, why)


def word_on(rollout: Rollout, seen: Seen) -> LiveDecision:
    """Return the gate's word on a roll-out."""
    return look(seen.standing, terms_of(rollout))


def seal(rollout: Rollout, exposures: Sequence[Exposure], *, at: float) -> Evidence:
    """Return the evidence of a roll-out, with the verdict its exposures tell."""
    plain = {
        "form": FORM,
        "rollout": asdict(rollout) | {"ended_at": None, "outcome": "", "evidence": ""},
        "terms": asdict(terms_of(rollout)),
        "exposures": [asdict(one) for one in exposures],
    }
    body: Mapping[str, Any] = orjson.loads(orjson.dumps(plain))
    verdict = replayed(body).verdict
    return Evidence(
        content_sha256(body), at, rollout.role, rollout.champion, rollout.challenger, verdict, body
    )


def replayed(body: Mapping[str, Any]) -> LiveDecision:
    """Return what a body of evidence tells when it is read again. Raises BadRequest where it is none."""
    try:
        if body["form"] != FORM:
            raise ValueError(f"form {body['form']!r}")
        told: dict[str, Any] = dict(body["terms"])
        terms = Terms(
            **told
            | {"quality": tuple(Stream(one) for one in told["quality"]), "shares": tuple(told["shares"])}
        )
        return look(fold(Seen(), [Exposure(**one) for one in body["exposures"]], terms).standing, terms)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRequest(
            f"the evidence cannot be read: {type(error).__name__}: {error}",
            expected="the evidence of a roll-out",
        ) from error
