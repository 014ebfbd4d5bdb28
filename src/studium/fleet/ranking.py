"""In which order asks come first: by class, then by age, with one ask of each class carried past its class.

An ask of a lower class waits while higher ones come, but not for ever: once a class has been served
nothing for its patience, its oldest ask goes before everybody. One at a time, so that a backlog of a
thousand aged campaign asks never stands in front of a person.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from studium.fleet.situation import PATIENCE_FACTORS, Rules, Waiting
from studium.records.scheduling import Priority

_AHEAD_OF_ALL = max(Priority) + 1
# An ask is hurried when its answer would come too late after waiting this much longer.
_HURRY_S = 2.0


class Ranked(NamedTuple):
    """A waiting ask and the level it is served at: its class, or above all classes once overdue."""

    ask: Waiting
    level: int

    @property
    def overdue(self) -> bool:
        return self.level == _AHEAD_OF_ALL


def rank(waiting: Sequence[Waiting], rules: Rules, served_s_ago: Mapping[Priority, float]) -> list[Ranked]:
    """Return the asks, whoever is to be served first at the front."""
    overdue = _overdue(waiting, rules, served_s_ago)
    ranked = [Ranked(ask, _AHEAD_OF_ALL if ask.ask in overdue else int(ask.priority)) for ask in waiting]
    ranked.sort(key=lambda one: (-one.level, not _hurried(one.ask), -one.ask.waited_s, one.ask.ask))
    return ranked


def _overdue(waiting: Sequence[Waiting], rules: Rules, served_s_ago: Mapping[Priority, float]) -> set[int]:
    highest = max((ask.priority for ask in waiting), default=Priority.TRAINING)
    oldest: dict[Priority, Waiting] = {}
    for ask in waiting:
        if ask.priority is highest:
            continue  # nobody stands before this class
        known = oldest.get(ask.priority)
        if known is None or (ask.waited_s, -ask.ask) > (known.waited_s, -known.ask):
            oldest[ask.priority] = ask
    return {
        ask.ask
        for priority, ask in oldest.items()
        if min(ask.waited_s, served_s_ago.get(priority, ask.waited_s))
        >= rules.patience_s * PATIENCE_FACTORS[priority]
    }


def _hurried(ask: Waiting) -> bool:
    return ask.deadline_s is not None and ask.deadline_s - ask.run_seconds < _HURRY_S
