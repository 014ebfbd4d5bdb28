"""Who answers now: the roster with the champions of its roles in their places, as the registry's routes say.

A question takes its `Team` when it begins and keeps it: a swap is another team for those who come later, and whoever
is in flight, streams too, ends on the old one. What the path of a question touches is in memory; routes are read
behind its back, every second, and at once by `refresh` after a change in this process. A new champion is made ready
before it takes its place (`prepare`), and one that cannot be made ready does not: the old one goes on, and `faults`
says why. The transcript comes with each request, so a conversation goes on with whoever answers next.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from studium.errors import ConfigurationError, StudiumError
from studium.records.adapters import OWN_STUDENT, Phase, Route
from studium.records.answers import Query
from studium.records.models import Student
from studium.registry import Registry
from studium.serve.history.fingerprint import identity
from studium.serve.team.places import Place, own_place, seated
from studium.serve.team.team import VIRTUAL_MODELS, Parts, Team

log = logging.getLogger(__name__)

LOOK_S = 1.0
TRY_AGAIN_S = 30.0
"""How often a champion that could not be made ready is tried again."""


Prepare = Callable[[Student, Student], Awaitable[None]]
"""Makes the first student ready to take the place of the second; raises what its load raises."""


async def _at_once(_new: Student, _old: Student) -> None:
    return


@dataclass(frozen=True, slots=True)
class _Standing:
    """All places as they are now: replaced as a whole, so that a reader sees one state or the next."""

    places: Mapping[str, Place]
    team: Team
    shifting: tuple[Place, ...]
    challenged: tuple[Place, ...]


class Routing:
    """Hands each question its team. `roles` maps further names of places to the students that hold them.

    `changed` are called, in the event loop, after every change, with those who stand now and the challengers.
    """

    def __init__(
        self,
        students: Mapping[str, Student],
        parts: Parts | None = None,
        *,
        book: Registry | None = None,
        workspace: Path = Path(),
        roles: Mapping[str, str] | None = None,
        prepare: Prepare = _at_once,
    ) -> None:
        self._students = students
        self._parts = parts or Parts()
        self._book = book
        self._workspace = workspace
        self._prepare = prepare
        self._holders = holders_of(students, roles or {})
        self._known: dict[str, Route] = {}
        self._going: dict[str, asyncio.Task[None]] = {}
        self._looking = asyncio.Lock()
        self.changed: list[Callable[[Sequence[Student], Sequence[Student]], None]] = []
        self.faults: dict[str, str] = {}
        self._teams: dict[frozenset[str], Team] = {}
        self._identities: dict[str, tuple[Student, str]] = {}
        self._standing = self._stand({role: own_place(role, one) for role, one in self._holders.items()})

    # On the path of a question.

    @property
    def team(self) -> Team:
        """The champions, whoever asks."""
        return self._standing.team

    @property
    def places(self) -> Mapping[str, Place]:
        """Each role with its holder, champion and challenger."""
        return self._standing.places

    @property
    def challenged(self) -> tuple[Place, ...]:
        """The places in which somebody challenges now."""
        return self._standing.challenged

    def team_for(self, query: Query) -> Team:
        """Return who answers this conversation: the champions, or challengers where it is in their share."""
        now = self._standing
        if not now.shifting:
            return now.team
        exposed = frozenset(one.role for one in now.shifting if position(query, one) < one.route.share)
        if not exposed:
            return now.team
        if exposed not in self._teams:
            self._teams[exposed] = self._team_of(now.places, exposed)
        return self._teams[exposed]

    # Behind its back.

    def open(self) -> None:
        """Read the routes and put champions in their places without loading anybody. Blocks for the disk."""
        if self._book is None:
            return
        self._known = dict(self._book.routes())
        places = dict(self.places)
        for role, route in self._known.items():
            if role in places and (place := self._place(role, route)) is not None:
                places[role] = place
        self._standing = self._stand(places)
        self._tell()

    async def work(self) -> None:
        """Look for changed routes until cancelled."""
        looks = 0
        while True:
            await asyncio.sleep(LOOK_S)
            looks += 1
            try:
                if looks % round(TRY_AGAIN_S / LOOK_S) == 0:
                    for role in list(self.faults):
                        self._known.pop(role, None)
                await self._look()
            except Exception:  # whoever serves goes on serving
                log.exception("reading the routes went wrong")

    async def refresh(self) -> None:
        """Read the routes now, and return when every change of them is served or has failed (see `faults`)."""
        await self._look()
        if self._going:
            await asyncio.wait(list(self._going.values()))

    async def close(self) -> None:
        """Stop what is being prepared."""
        going = list(self._going.values())
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)

    async def _look(self) -> None:
        if self._book is None:
            return
        async with self._looking:  # who reads later knows more
            for role, route in (await asyncio.to_thread(self._book.routes)).items():
                self._changed(role, route)

    def _changed(self, role: str, route: Route) -> None:
        """Begin to serve a route, if it is another one than before."""
        if role in self._holders and self._known.get(role, Route(role)) != route:
            if former := self._going.get(role):
                former.cancel()
            self._going[role] = asyncio.create_task(self._bring(role, route), name=f"route of {role}")
        self._known[role] = route

    async def _bring(self, role: str, route: Route) -> None:
        """Make a role's champion and challenger ready, then seat them."""
        try:
            place = await asyncio.to_thread(self._place, role, route)
            if place is None:
                return
            now = self.places[role]
            if place.champion != now.champion:
                await self._prepare(place.champion, now.champion)
            if place.challenger is not None and place.route.phase is Phase.SHIFT:
                await self._prepare(place.challenger, place.champion)
            self._seat(place)
            self.faults.pop(role, None)
        except StudiumError as error:
            self._fault(role, str(error))
        except Exception as error:  # a mistake of ours: whoever serves goes on, and it is told
            log.exception("bringing a route went wrong")
            self._fault(role, repr(error))
        finally:
            if self._going.get(role) is asyncio.current_task():
                del self._going[role]

    def _seat(self, place: Place) -> None:
        self._standing = self._stand({**self.places, place.role: place})
        self._teams = {}
        log.info("%s is answered by %s", place.role, place.champion.model.name)
        self._tell()

    def _tell(self) -> None:
        standing = list(self._standing.team.named.values())
        challengers = [one.challenger for one in self.places.values() if one.challenger is not None]
        for heard in self.changed:
            heard(standing, challengers)

    def _place(self, role: str, route: Route) -> Place | None:
        """Return a role's place as a route has it; None, with a fault, where that cannot be served."""
        try:
            champion = self._student(role, route.champion)
            challenger = self._student(role, route.challenger) if route.phase is not Phase.NONE else None
        except StudiumError as error:
            self._fault(role, str(error))
            return None
        for one in (champion, challenger):
            if one is not None:
                self._identity(one)  # reads its files, here and not when the team is made
        return Place(role, self._holders[role], champion, route, challenger, self._former(role, route))

    def _former(self, role: str, route: Route) -> Student | None:
        """Return the champion before, as a rollback would find it; None where that is the student itself."""
        if self._book is None or route.champion == OWN_STUDENT:
            return None
        for former in self._book.nearest_predecessors(role):
            try:
                return self._student(role, former) if former != OWN_STUDENT else None
            except StudiumError:
                continue
        return None

    def _student(self, role: str, adapter_id: str) -> Student:
        holder = self._holders[role]
        if adapter_id == OWN_STUDENT or self._book is None:
            return holder
        models = {one.model.name: one.model for one in self._students.values()}
        return seated(holder, role, self._book.adapter(role, adapter_id), self._workspace, models)

    def _fault(self, role: str, why: str) -> None:
        if self.faults.get(role) != why:
            log.error("the route of %s is not served: %s", role, why)
        self.faults[role] = why

    def _stand(self, places: Mapping[str, Place]) -> _Standing:
        shifting = tuple(
            one
            for one in places.values()
            if one.challenger is not None and one.route.phase is Phase.SHIFT and one.route.share > 0
        )
        challenged = tuple(one for one in places.values() if one.challenger is not None)
        return _Standing(places, self._team_of(places, frozenset()), shifting, challenged)

    def _team_of(self, places: Mapping[str, Place], exposed: frozenset[str]) -> Team:
        speaks = {role: one.speaker(exposed=role in exposed) for role, one in places.items()}
        students = {name: speaks.get(name, one) for name, one in self._students.items()}
        roles = {role: one for role, one in speaks.items() if role not in self._students}
        identities = tuple(self._identity(one) for one in (*students.values(), *roles.values()))
        stand_ins = {
            one.speaker(exposed=role in exposed).model.name: one.stand_ins(exposed=role in exposed)
            for role, one in places.items()
        }
        return Team(students, self._parts, roles, exposed, identities, stand_ins)

    def _identity(self, student: Student) -> str:
        """Return what tells a student from what it was before, kept: it reads files, which no question waits for."""
        known = self._identities.get(student.model.name + "\0" + student.name)
        if known is None or known[0] != student:
            known = (student, identity(student))
            self._identities[student.model.name + "\0" + student.name] = known
        return known[1]


class Present(Mapping[str, Student]):
    """The students of a routing by name, as they stand whenever it is read: for who begins something long."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing

    def __getitem__(self, name: str) -> Student:
        return self._routing.team.students[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._routing.team.students)

    def __len__(self) -> int:
        return len(self._routing.team.students)


def holders_of(students: Mapping[str, Student], roles: Mapping[str, str]) -> dict[str, Student]:
    """Return who holds each role by the roster. Raises ConfigurationError for a role that cannot be."""
    holders = {name: one for name, one in students.items() if not one.model.embeddings}
    for role, name in roles.items():
        if role in VIRTUAL_MODELS or (role in students and role != name):
            raise ConfigurationError(
                f"roles.{role} has the name of a {'student' if role in students else 'virtual model'}",
                expected="a name of its own: that of a student is its own role already",
                try_next=f"rename the role, or remove roles.{role}",
            )
        if name not in holders:
            raise ConfigurationError(
                f"roles.{role} names the student {name!r}, and no student that answers is called so",
                expected=f"one of {', '.join(sorted(holders))}",
                try_next=f"correct roles.{role}.student",
            )
        holders[role] = students[name]
    return holders


def position(query: Query, place: Place) -> float:
    """Return where a conversation stands on a shift's way, 0 to 1: it is shifted once the share has passed it.

    By its first message and its caller's key, so that it stays with whom it began; another for each challenger.
    """
    opening: Sequence[str] = (
        [query.prompt]
        if query.prompt is not None
        else [one.content for one in query.messages if one.role == "user"]
    )
    parts = (place.role, place.route.challenger, query.api_key_name, opening[0] if opening else "")
    digest = hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
