"""The longest an ask may wait by the planner's rules: a promise that follows from them, given the forecasts.

A model others wait for keeps its place for one turn, then makes room: within its class an ask waits at most
one turn for each ask that came before it, and one for itself. Of every other class one ask may come between
each time, because its patience was up or because it is more urgent; so

    wait <= (ahead + 1) x (patience + classes x (turn + run + swap)),

where `turn` is the planner's own (`worth.turn_s`), `patience` is 0 for the most urgent class there is, and
swap = unload + load + the victim's load. More urgent asks beyond those can only delay one of a lower class
within its patience. What the rules leave out: other programs that take the memory, holders of leases that
do not leave, loads that fail.
"""

from typing import NamedTuple

from studium.fleet.situation import PATIENCE_FACTORS, Rules
from studium.fleet.worth import turn_s
from studium.records.scheduling import Priority

# The planner looks again this often although nothing happened; each turn may be noticed so much later.
NOTICED_AFTER_S = 0.5


class Costs(NamedTuple):
    """The longest load, unload and run to expect of any model in play, in seconds."""

    load_s: float
    unload_s: float
    run_s: float


def longest_wait_s(rules: Rules, priority: Priority, ahead: int, costs: Costs) -> float:
    """Return how long an ask of a class waits at most, behind `ahead` asks of its class or above."""
    swap_s = costs.unload_s + 2 * costs.load_s
    each_s = turn_s(rules, swap_s) + costs.run_s + swap_s + NOTICED_AFTER_S
    patience_s = rules.patience_s * PATIENCE_FACTORS.get(priority, 0.0)
    return (ahead + 1) * (patience_s + len(Priority) * each_s)
