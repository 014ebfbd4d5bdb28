"""The gate for live traffic: what a roll-out has seen so far, one comparison at a time, and what follows from it.

Six streams are kept apart. Verifier, judge and feedback tell whether replies are better; latency, cost and errors
whether the challenger can be afforded. In the shadow both answer one question: a pair. In the shift one answers, and a
reply of either side meets the newest of the other's that waits on the same kind of question, whatever its score: where
the two are alike, either is as likely to be ahead, and that is all the evidence needs (see `betting`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from studium.evals.gate.betting import Tally, log_evidence, mean_of, odds
from studium.records.adapters import Verdict

MOST_WAITING = 64
"""Replies of one side kept for partners that do not come; the oldest are let go, whatever their score."""


class Stream(StrEnum):
    """What a comparison is about."""

    VERIFIER = "verifier"
    JUDGE = "judge"
    FEEDBACK = "feedback"
    LATENCY = "latency"
    COST = "cost"
    ERRORS = "errors"


QUALITY = (Stream.VERIFIER, Stream.JUDGE, Stream.FEEDBACK)


class Side(StrEnum):
    """Who gave a reply."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a roll-out is held to; `quality` names the streams expected, declared before the first comparison.

    `alpha`: challengers no better that are promoted, at most; `harm_alpha`: those no worse that are rolled back for
    their replies, `running_alpha` for each of latency, cost and errors. Latency and cost differ only beyond
    `tolerance`, as a share. `shares` are the steps of the shift.
    """

    quality: tuple[Stream, ...] = QUALITY
    alpha: float = 0.01
    harm_alpha: float = 0.1
    running_alpha: float = 0.02
    tolerance: float = 0.2
    shares: tuple[float, ...] = (0.05, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Standing:
    """What was seen: pairs per stream, and replies that wait for a partner, per stream and kind of question."""

    tallies: Mapping[Stream, Tally] = field(default_factory=dict[Stream, Tally])
    waiting: Mapping[tuple[Stream, str], tuple[Side, tuple[float, ...]]] = field(
        default_factory=dict[tuple[Stream, str], tuple[Side, tuple[float, ...]]]
    )

    def tally(self, stream: Stream) -> Tally:
        return self.tallies.get(stream, Tally())


@dataclass(frozen=True, slots=True)
class LiveDecision:
    """The word on a roll-out, with its reasons; `better` and `worse` (of the worst stream) are in odds."""

    verdict: Verdict
    reasons: tuple[str, ...]
    better: float = 1.0
    worse: float = 1.0


def paired(standing: Standing, stream: Stream, difference: float) -> Standing:
    """Return the standing after one pair: `difference` above 0 where the challenger did better, below where worse."""
    counted = Tally(int(difference > 0), int(difference < 0), int(difference == 0))
    return replace(standing, tallies={**standing.tallies, stream: standing.tally(stream) + counted})


def single(
    standing: Standing, stream: Stream, side: Side, value: float, *, kind: str = "", tolerance: float = 0.0
) -> Standing:
    """Return the standing after one side's reply alone, matched with one of the other side that waits, if one does.

    `value` is better the larger it is; give latency and cost negated, with a `tolerance`.
    """
    key = stream, kind
    whose, values = standing.waiting.get(key, (side, ()))
    if whose is not side and values:
        champion, challenger = (values[-1], value) if side is Side.CHALLENGER else (value, values[-1])
        left = replace(standing, waiting={**standing.waiting, key: (whose, values[:-1])})
        return paired(left, stream, difference(champion, challenger, tolerance))
    kept = (*values, value)[-MOST_WAITING:]
    return replace(standing, waiting={**standing.waiting, key: (side, kept)})


def difference(champion: float, challenger: float, tolerance: float = 0.0) -> float:
    """Return by how much the challenger is ahead, 0 where they are within `tolerance` of the smaller size.

    Larger is better; of seconds and money give the negated ones.
    """
    apart = challenger - champion
    return apart if abs(apart) > tolerance * min(abs(champion), abs(challenger)) else 0.0


def judged(first: str | None, swapped: str | None) -> float | None:
    """Return the difference a judge saw who was asked in both orders: "challenger", "champion" or "tie".

    Verdicts that change with the order are a tie, since only the order was judged; None where one is missing.
    """
    if first is None or swapped is None:
        return None
    if first != swapped:
        return 0.0
    return {"challenger": 1.0, "champion": -1.0}.get(first, 0.0)


def look(standing: Standing, terms: Terms = Terms()) -> LiveDecision:
    """Return what follows from all that was seen; may be asked after every comparison. No traffic: hold."""
    pairs = sum(standing.tally(stream).pairs for stream in terms.quality)
    if not any(one.pairs for one in standing.tallies.values()):
        return LiveDecision(Verdict.HOLD, ("no traffic was compared yet",))
    better = odds(evidence(standing, terms))
    harms = _harms(standing, terms)
    worst = max(odds(log) for log, _ in harms.values())
    shown = [
        f"worse by {name}: evidence of {odds(log):.3g}, {1 / alpha:g} is enough"
        for name, (log, alpha) in harms.items()
        if log >= -math.log(alpha)
    ]
    if shown:
        return LiveDecision(Verdict.ROLL_BACK, tuple(shown), better, worst)
    says = f"evidence of {better:.3g} for better after {pairs} comparisons, {1 / terms.alpha:g} is asked for"
    verdict = Verdict.PROMOTE if better >= 1 / terms.alpha else Verdict.HOLD
    return LiveDecision(verdict, (says,), better, worst)


def evidence(standing: Standing, terms: Terms) -> float:
    """Return the logarithm of the evidence that replies are better: the mean over the streams declared."""
    tallies = [standing.tally(stream) for stream in terms.quality]
    return float(mean_of([log_evidence(one.gains, one.losses) for one in tallies]))


def share_earned(decision: LiveDecision, terms: Terms = Terms()) -> float:
    """Return the share of conversations that evidence has earned, 0 where it has to stay in the shadow.

    Each step asks for its power of the final evidence: of 100 and three steps 3.2, 10 and 32.
    """
    if decision.verdict is Verdict.ROLL_BACK:
        return 0.0
    steps = len(terms.shares)
    earned = [
        share
        for number, share in enumerate(terms.shares, start=1)
        if decision.better >= terms.alpha ** (-number / (steps + 1))
    ]
    return max(earned, default=0.0)


def _harms(standing: Standing, terms: Terms) -> dict[str, tuple[float, float]]:
    """Return the logarithm of the evidence for harm, and the share of false alarms allowed, by what it is about."""
    quality = [standing.tally(stream) for stream in terms.quality]
    found = {
        "its replies": (float(mean_of([log_evidence(t.losses, t.gains) for t in quality])), terms.harm_alpha)
    }
    for stream in (Stream.LATENCY, Stream.COST, Stream.ERRORS):
        tally = standing.tally(stream)
        found[stream.value] = (float(log_evidence(tally.losses, tally.gains)), terms.running_alpha)
    return found
