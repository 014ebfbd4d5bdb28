"""What a route becomes, and whether it may: decided from what stands in the registry, without changing anything.

A promotion needs evidence about this challenger and the champion of now, used once; forcing needs a reason; going back
needs neither.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from studium.errors import BadRequest
from studium.records.adapters import (
    OWN_STUDENT,
    Action,
    Adapter,
    Evidence,
    Phase,
    Route,
    RouteChange,
    Verdict,
)

OWN = "own-student"
"""What stands for the student itself where a name is asked or told; no adapter is called so."""
_LIFTS = (Action.PROMOTE, Action.FORCE)
_DROPS = (Action.ROLL_BACK, Action.EMERGENCY)


def promoted(
    route: Route, adapter: Adapter, evidence: Evidence | None, changes: Sequence[RouteChange]
) -> Route:
    """Return the route with `adapter` as champion. Raises BadRequest where the evidence does not carry it."""
    if evidence is None:
        raise _no_evidence("there is no such evidence", "the id of evidence that the gate wrote")
    if evidence.verdict is not Verdict.PROMOTE:
        raise _no_evidence(
            f"the gate's verdict is {evidence.verdict.value!r}", "evidence whose verdict is 'promote'"
        )
    if (evidence.role, evidence.challenger) != (route.role, adapter.id):
        raise _no_evidence(
            f"the evidence is about {evidence.challenger[:12] or 'the student itself'} in the role {evidence.role}",
            f"evidence about {adapter.name} ({adapter.id[:12]}) in the role {route.role}",
        )
    if evidence.champion != route.champion:
        raise _no_evidence(
            f"the evidence compares with {evidence.champion[:12] or 'the student itself'}",
            f"a comparison with the champion of now, {route.champion[:12] or 'the student itself'}",
        )
    used = next((one for one in changes if one.evidence == evidence.id and one.action in _LIFTS), None)
    if used is not None:
        raise _no_evidence(
            f"the evidence was used for change {used.number}, which was taken back since",
            "evidence of its own",
        )
    return forced(route, adapter)


def forced(route: Route, adapter: Adapter | None) -> Route:
    """Return the route with `adapter` (None: the student as it is) as champion and no challenger."""
    champion = adapter.id if adapter else OWN_STUDENT
    if adapter is not None:
        _serves(adapter)
    if route.champion == champion:
        raise BadRequest(
            f"{adapter.name if adapter else 'the student itself'} serves the role {route.role} already",
            expected="another one",
            try_next="studium adapters state",
        )
    return Route(route.role, champion)


def rolled_back(
    route: Route,
    changes: Sequence[RouteChange],
    there: Collection[str],
    removed: Mapping[str, str] | None = None,
) -> Route:
    """Return the route with the predecessor as champion: the last one that is still `there` (on disk).

    Raises BadRequest where the student itself serves, or where the predecessor is one of `removed`, names by id: who
    removed it on purpose decides what else is to serve.
    """
    if route.champion == OWN_STUDENT:
        raise BadRequest(
            f"in the role {route.role} the student itself serves; there is nothing before that",
            expected="a role that an adapter serves",
            try_next="studium adapters state",
        )
    before = predecessors(changes)
    if before and removed and before[-1] in removed:
        raise BadRequest(
            f"{removed[before[-1]]}, which served before, was removed (studium adapters clean)",
            expected="its files, or the name of another one",
            try_next=f"studium adapters promote {route.role} {OWN} --force --reason '...', or register its run again",
        )
    left = [one for one in before if one == OWN_STUDENT or one in there]
    return Route(route.role, left[-1] if left else OWN_STUDENT)


def predecessors(changes: Sequence[RouteChange]) -> list[str]:
    """Return a role's earlier champions that a rollback leads to, the nearest last, from its history.

    Who was rolled back is no predecessor: going back twice leads further back, not to and fro.
    """
    stack: list[str] = []
    for change in changes:
        if change.action in _LIFTS:
            stack.append(change.before["champion"])
        elif change.action in _DROPS:
            while stack and stack.pop() != change.after["champion"]:
                pass
    return stack


def challenged(route: Route, adapter: Adapter, phase: Phase, share: float) -> Route:
    """Return the route with `adapter` as challenger. Raises BadRequest for what cannot be."""
    _serves(adapter)
    if adapter.id == route.champion:
        raise BadRequest(
            f"{adapter.name} is the champion of {route.role}", expected="a challenger that is another one"
        )
    right = {Phase.SHADOW: share == 0.0, Phase.SHIFT: 0.0 < share <= 1.0}
    if not right.get(phase, False):
        raise BadRequest(
            f"the phase {phase.value!r} with a share of {share:g}",
            expected="shadow with a share of 0, or shift with a share above 0, up to 1",
        )
    return replace(route, challenger=adapter.id, phase=phase, share=share)


def withdrawn(route: Route) -> Route:
    """Return the route without its challenger. Raises BadRequest where there is none."""
    if route.phase is Phase.NONE:
        raise BadRequest(
            f"nobody challenges in the role {route.role}",
            expected="a role with a challenger",
            try_next="studium adapters state",
        )
    return Route(route.role, route.champion)


def _serves(adapter: Adapter) -> None:
    if not adapter.serving_file:
        raise BadRequest(
            f"{adapter.name} has no GGUF file, so no engine here can load it",
            expected="an adapter or model as GGUF",
            try_next="train from an embedded student or a GGUF file, or register a folder with model.gguf",
        )


def _no_evidence(happened: str, expected: str) -> BadRequest:
    return BadRequest(
        happened,
        expected=expected,
        try_next="run the gate again, or: studium adapters promote ROLE NAME --force --reason '...'",
    )
