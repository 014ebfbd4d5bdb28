"""Who serves each role, in words for people and programs: the same on the command line and over HTTP."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile

from studium.errors import BadRequest
from studium.records.adapters import OWN_STUDENT, Adapter, Phase, Route, RouteChange
from studium.registry.cleaning import removed
from studium.registry.routes import OWN, predecessors


@dataclass(frozen=True, slots=True)
class Standing:
    """A role as it stands. `student` holds it by the roster, "" where the roster has no such role any more.

    `champion` and `challenger` are names, "" for no challenger; `back` are those rollbacks lead to, the nearest
    first, until one that was removed. `changed_at` is None where the route was never changed.
    """

    role: str
    student: str
    champion: str
    champion_id: str
    challenger: str
    challenger_id: str
    phase: Phase
    share: float
    changed_at: float | None
    change: int
    back: tuple[str, ...]


def standings(
    roles: Mapping[str, str],
    routes: Mapping[str, Route],
    adapters: Iterable[Adapter],
    changes: Sequence[RouteChange],
) -> list[Standing]:
    """Return every role as it stands: `roles` are the roster's (role to student), then those only history knows."""
    names = {one.id: one.name for one in adapters}
    gone = removed(changes)
    found: list[Standing] = []

    def there(adapter_id: str) -> bool:
        return adapter_id not in gone

    for role in sorted({*roles, *routes}):
        route = routes.get(role, Route(role))
        own = [one for one in changes if one.role == role]
        found.append(
            Standing(
                role=role,
                student=roles.get(role, ""),
                champion=name_of(route.champion, names),
                champion_id=route.champion,
                challenger=names.get(route.challenger, route.challenger[:12]),
                challenger_id=route.challenger,
                phase=route.phase,
                share=route.share,
                changed_at=own[-1].at if own else None,
                change=route.number,
                back=tuple(name_of(one, names) for one in takewhile(there, reversed(predecessors(own)))),
            )
        )
    return found


def known_role(role: str, roles: Iterable[str]) -> None:
    """Raise BadRequest, naming the nearest, unless the roster has such a role."""
    names = sorted(roles)
    if role in names:
        return
    near = get_close_matches(role, names, n=1)
    raise BadRequest(
        f"there is no role {role[:80]!r}",
        expected=f"one of {', '.join(names)}",
        try_next=f"did you mean {near[0]!r}?" if near else "add it to `roles` in studium.yaml",
    )


def name_of(adapter_id: str, names: Mapping[str, str]) -> str:
    """Return an adapter's name by its id, `OWN` for the student itself, else the beginning of the id."""
    return OWN if adapter_id == OWN_STUDENT else names.get(adapter_id, adapter_id[:12])
