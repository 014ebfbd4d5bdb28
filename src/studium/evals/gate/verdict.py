"""The gate: from pairs in the order they were asked to one word, with its reasons.

Promoted is who was shown to be better on fresh problems, at whatever moment, and whose loss on the frozen suite is
bounded. Rolled back is who was shown to be worse, on all domains together or on one of them. All else is held; where
nothing could be compared, or nobody got anything right, the word is "not measured".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from studium.evals.gate.betting import Tally, log_evidence, mean_of, odds
from studium.evals.gate.bound import most_lost
from studium.records.adapters import Verdict

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gate asks for, all shares.

    `alpha`: challengers that are not better and are promoted, at most. `harm_alpha`: challengers that are not worse
    and are rolled back, at most: larger, since that costs nothing but the challenger. `margin`: what may be lost on
    the frozen suite at most, as the upper bound of `level`.
    """

    alpha: float = 0.01
    harm_alpha: float = 0.1
    margin: float = 0.05
    level: float = 0.95
    unscored: float = 0.05


class Pair(NamedTuple):
    """Both scores, 0 to 1, of one problem; None: not scored, and then the pair tells nothing."""

    item: str
    domain: str
    level: int | None
    champion: float | None
    challenger: float | None


@dataclass(frozen=True, slots=True)
class Tallied:
    """Pairs counted. `champion_right` and `challenger_right` count full scores; `unscored` ones are nowhere else."""

    tally: Tally = field(default_factory=Tally)
    champion_right: int = 0
    challenger_right: int = 0
    unscored: int = 0

    def __add__(self, other: "Tallied") -> "Tallied":
        return Tallied(
            self.tally + other.tally,
            self.champion_right + other.champion_right,
            self.challenger_right + other.challenger_right,
            self.unscored + other.unscored,
        )

    @property
    def measured(self) -> bool:
        """Say whether anything was told: somebody got something right."""
        return (
            self.tally.pairs > 0
            and max(self.champion_right, self.challenger_right, self.tally.gains, self.tally.losses) > 0
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The word with its reasons. Evidence is in odds: 100 is what chance reaches once in a hundred at most.

    `better` and `worse` are the highest that the evidence ever stood at, `at_pair` the number of scored fresh pairs
    after which a limit was first reached (None: never), `lost_most` the bound on the suite's loss (None: not
    measured).
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    better: float = 1.0
    worse: float = 1.0
    at_pair: int | None = None
    lost_most: float | None = None


def count(pairs: Sequence[Pair]) -> Tallied:
    """Count pairs by the sign of their difference, a right reply being one of full score."""
    scored = [(one.champion, one.challenger) for one in pairs]
    both = [(a, b) for a, b in scored if a is not None and b is not None]
    tally = Tally(sum(b > a for a, b in both), sum(b < a for a, b in both), sum(a == b for a, b in both))
    return Tallied(
        tally,
        sum(a == 1.0 for a, _ in both),
        sum(b == 1.0 for _, b in both),
        len(pairs) - len(both),
    )


def by_domain(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Return pairs put together by domain, in the order of first sight."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        found.setdefault(pair.domain, []).append(pair)
    return found


def judge(fresh: Sequence[Pair], suite: Sequence[Pair] | None, limits: Limits = Limits()) -> Decision:
    """Return the verdict on fresh problems, in the order they were asked, and the suite's; None: it was not asked.

    Without a suite nothing is promoted. May be called after every pair.
    """
    counted = count(fresh)
    if not counted.measured:
        why = f"nothing was measured on fresh problems: {_rights(counted)}"
        return Decision(Verdict.NOT_MEASURED, (why,))
    paths = paths_of(fresh)
    better, worse = odds(paths.better.max()), odds(paths.worse.max())
    at_worse, at_better = _first(paths.worse, limits.harm_alpha), _first(paths.better, limits.alpha)
    found = _on_suite(suite, limits)
    if at_worse is not None:
        where = (
            ", ".join(_harmed(fresh, limits))
            or f"all together ({counted.tally.losses} lost, {counted.tally.gains} won)"
        )
        why = (
            f"worse on fresh problems: {where}; evidence of {worse:.3g}, {1 / limits.harm_alpha:g} is enough"
        )
        return Decision(Verdict.ROLL_BACK, (why, *found.reasons), better, worse, at_worse, found.lost_most)
    seen = f"evidence of {better:.3g}, {1 / limits.alpha:g} is asked for"
    verdict, reasons = found.verdict, [f"better on fresh problems: {seen}", *found.reasons]
    if at_better is None:
        reasons[0] = f"better was not shown on fresh problems: {seen}"
        verdict = Verdict.ROLL_BACK if verdict is Verdict.ROLL_BACK else Verdict.HOLD
    elif counted.unscored > limits.unscored * len(fresh) and verdict is Verdict.PROMOTE:
        reasons.append(
            f"{counted.unscored} of {len(fresh)} fresh problems were not scored: too many to promote"
        )
        verdict = Verdict.HOLD
    return Decision(verdict, tuple(reasons), better, worse, at_better, found.lost_most)


def _on_suite(suite: Sequence[Pair] | None, limits: Limits) -> Decision:
    """Return what the suite allows at most: promoting where its loss is bounded, nothing where a domain is lost."""
    if suite is None:
        return Decision(Verdict.HOLD, ("the frozen suite was not asked",))
    counted = count(suite)
    if not counted.measured:
        return Decision(
            Verdict.NOT_MEASURED, (f"nothing was measured on the frozen suite: {_rights(counted)}",)
        )
    most = most_lost(counted.tally, level=limits.level)
    harmed = _harmed(suite, limits)
    if harmed:
        return Decision(
            Verdict.ROLL_BACK, (f"worse on the frozen suite: {', '.join(harmed)}",), lost_most=most
        )
    allowed = most <= limits.margin and counted.unscored <= limits.unscored * len(suite)
    bound = (
        f"at most {100 * most:.1f} points are lost"
        if most > 0
        else f"at least {-100 * most:.1f} points are won"
    )
    says = (
        f"on the frozen suite {bound} ({counted.tally.losses} lost, "
        f"{counted.tally.gains} won, {counted.unscored} not scored of {len(suite)}); "
        f"a loss of {100 * limits.margin:g} is allowed"
    )
    return Decision(Verdict.PROMOTE if allowed else Verdict.HOLD, (says,), lost_most=most)


def _harmed(pairs: Sequence[Pair], limits: Limits) -> list[str]:
    """Return the domains, as words, that one of all their number would seem to lose by chance in `harm_alpha`."""
    counts = {name: count(of_domain).tally for name, of_domain in by_domain(pairs).items()}
    enough = -math.log(limits.harm_alpha / len(counts))
    return [
        f"{name} ({tally.losses} lost, {tally.gains} won)"
        for name, tally in counts.items()
        if log_evidence(tally.losses, tally.gains) >= enough
    ]


def _rights(counted: Tallied) -> str:
    return f"{counted.champion_right} to {counted.challenger_right} right of {counted.tally.pairs} scored"


class Paths(NamedTuple):
    """Natural logarithms of the evidence after every scored pair."""

    better: "np.ndarray"
    worse: "np.ndarray"


def paths_of(fresh: Sequence[Pair]) -> Paths:
    """Return how evidence went, pair by pair; pairs without scores are left out."""
    import numpy as np

    scored = [one for one in fresh if one.champion is not None and one.challenger is not None]
    signs = np.array([np.sign((one.challenger or 0.0) - (one.champion or 0.0)) for one in scored])
    gains, losses = np.cumsum(signs > 0), np.cumsum(signs < 0)
    better, worse = log_evidence(gains, losses), log_evidence(losses, gains)
    domains = list(by_domain(scored))
    if len(domains) > 1:
        # The mean of bets is a bet: harm to one domain counts although the others gain.
        parts = [worse]
        for name in domains:
            of_domain = np.array([one.domain == name for one in scored])
            gains, losses = np.cumsum((signs > 0) & of_domain), np.cumsum((signs < 0) & of_domain)
            parts.append(log_evidence(losses, gains))
        worse = mean_of(parts)
    return Paths(better, worse)


def _first(path: "np.ndarray", alpha: float) -> int | None:
    """Return the number of pairs after which a path first stood at 1/alpha."""
    reached = path >= -math.log(alpha)
    return int(reached.argmax()) + 1 if reached.any() else None


def tallies(pairs: Sequence[Pair]) -> Mapping[tuple[str, int | None], Tallied]:
    """Return counts per domain (level None) and, where it has several, per level of it."""
    found: dict[tuple[str, int | None], Tallied] = {}
    for name, of_domain in by_domain(pairs).items():
        found[name, None] = count(of_domain)
        levels = sorted({one.level for one in of_domain if one.level})
        for level in levels if len(levels) > 1 else ():
            found[name, level] = count([one for one in of_domain if one.level == level])
    return found
