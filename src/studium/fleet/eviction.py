"""Which models to take out: the set that loses least among those that free enough. Pure.

Up to a dozen models every set is tried, which is exact; beyond that they are taken by loss per byte and
the superfluous put back, which is within one model of the best.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from studium.fleet.situation import Tenant

_TRY_ALL_UP_TO = 12


class Candidate(NamedTuple):
    """A tenant that may leave, and the seconds its leaving is expected to cost."""

    tenant: Tenant
    loss_s: float


def cheapest(
    candidates: Sequence[Candidate], needed_bytes: int, *, at_least: int = 0
) -> tuple[Candidate, ...] | None:
    """Return the candidates that free `needed_bytes`, at least so many, at the least loss.

    None where all of them together would not do; an empty tuple where nothing is needed.
    """
    if needed_bytes <= 0 and at_least == 0:
        return ()
    if sum(one.tenant.bytes for one in candidates) < needed_bytes or len(candidates) < at_least:
        return None
    ordered = sorted(candidates, key=lambda one: (one.loss_s, one.tenant.model))
    if len(ordered) > _TRY_ALL_UP_TO:
        return _greedy(ordered, needed_bytes, at_least)
    enough = (
        chosen
        for size in range(max(1, at_least), len(ordered) + 1)
        for chosen in combinations(ordered, size)
        if sum(one.tenant.bytes for one in chosen) >= needed_bytes
    )
    return min(enough, key=lambda chosen: (sum(one.loss_s for one in chosen), len(chosen)))


def _greedy(ordered: Sequence[Candidate], needed_bytes: int, at_least: int) -> tuple[Candidate, ...]:
    chosen: list[Candidate] = []
    for one in sorted(ordered, key=lambda one: one.loss_s / max(1, one.tenant.bytes)):
        if sum(c.tenant.bytes for c in chosen) >= needed_bytes and len(chosen) >= at_least:
            break
        chosen.append(one)
    for one in sorted(chosen, key=lambda one: -one.loss_s):
        rest = [other for other in chosen if other is not one]
        if sum(c.tenant.bytes for c in rest) >= needed_bytes and len(rest) >= at_least:
            chosen = rest
    return tuple(chosen)
