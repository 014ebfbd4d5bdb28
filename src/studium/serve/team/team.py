"""Who may be asked: the students by name, the virtual models, and who plays which part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from studium.errors import OperatorError, UnknownModel
from studium.records.answers import Complexity
from studium.records.models import ModelSpec, Student, Tier
from studium.serve.history.fingerprint import identity

AUTO, COURIER, MASTER = "auto", "courier", "master"
VIRTUAL_MODELS = (AUTO, *(complexity.value for complexity in Complexity), COURIER, MASTER)
_TIERS = tuple(Tier)


@dataclass(frozen=True, slots=True)
class Parts:
    """Names of the students that play a part, empty where the configuration names nobody.

    `courier` is the small one that answers first where a question may be cheap, `master` the large one that is
    asked where the small ones differ; `judge` compares answers, `oracle` and `arbiter` refine them.
    """

    courier: str = ""
    master: str = ""
    judge: str = ""
    oracle: str = ""
    arbiter: str = ""


class Team:
    """Who answers one question: the students of a roster, each as it stands now. Unknown names raise UnknownModel.

    `roles` are places that are asked by their own name alone; in committees their holders sit under theirs.
    `exposed` are the roles in which a challenger stands; `identity` tells one team from another, files included.
    """

    def __init__(
        self,
        students: Mapping[str, Student],
        parts: Parts | None = None,
        roles: Mapping[str, Student] | None = None,
        exposed: frozenset[str] = frozenset(),
        told_identity: tuple[str, ...] = (),
        stand_ins: Mapping[str, tuple[Student, ...]] | None = None,
    ) -> None:
        self.students = students
        self.parts = parts or Parts()
        self.roles = roles or {}
        self.exposed = exposed
        self._told_identity = told_identity
        self._stand_ins = stand_ins or {}
        self._line: dict[tuple[str, str, bool], tuple[Student, ...]] = {}

    @cached_property
    def identity(self) -> tuple[str, ...]:
        """Which students these are, files included: reads them, where nobody has before."""
        return self._told_identity or tuple(map(identity, (*self.students.values(), *self.roles.values())))

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        """The models of all students, by name; several students may share one."""
        return {one.model.name: one.model for one in (*self.students.values(), *self.roles.values())}

    @property
    def named(self) -> Mapping[str, Student]:
        """Everybody who can be asked by name: students, then roles."""
        return {**self.students, **self.roles}

    def student(self, name: str) -> Student:
        """Return a student by its name, or that of a role. Raises UnknownModel, which names the nearest one."""
        if name in self.students:
            return self.students[name]
        if name in self.roles:
            return self.roles[name]
        known = (*VIRTUAL_MODELS, *self.students, *self.roles)
        near = get_close_matches(name, known, n=1)
        raise UnknownModel(
            f"there is no model {name[:80]!r}",
            expected=f"one of {', '.join(known)}",
            try_next=f"did you mean {near[0]!r}?"
            if near
            else "see `studium students list` or GET /v1/models",
        )

    def stand_ins(self, student: Student, *, alone: bool) -> Sequence[Student]:
        """Return who answers in a student's place when its model is lost, the nearest first.

        Those who spoke in its role before; and where a further role is asked alone, which names a task and no model,
        another student, if there is one. Who asks for a student by name gets that student or an error.
        """
        asked = (student.name, student.model.name, alone)
        if asked not in self._line:
            self._line[asked] = self._found_stand_ins(student, alone=alone)
        return self._line[asked]

    def _found_stand_ins(self, student: Student, *, alone: bool) -> tuple[Student, ...]:
        found = self._stand_ins.get(student.model.name, ())
        if not alone or student.model.embeddings:
            return found
        models = {student.model.name, *(one.model.name for one in found)}
        able = [one for one in self.students.values() if not one.model.embeddings and not one.topics]
        others = [one for one in able if one.model.name not in models]
        return (*found, *sorted(others, key=lambda one: (-one.priority, -_rank(one), one.name))[:1])

    def playing(self, part: str) -> Student | None:
        """Return who plays a part of `Parts`; None where nobody was named."""
        name = getattr(self.parts, part)
        return self.student(name) if name else None

    # Found once: these are on the path of every question, and a team does not change.
    @cached_property
    def refiners(self) -> tuple[Student, ...]:
        """Oracle and arbiter, as far as they are named."""
        return tuple(one for one in (self.playing("oracle"), self.playing("arbiter")) if one is not None)

    @cached_property
    def playing_parts(self) -> tuple[Student, ...]:
        """Courier, master, oracle and arbiter, as far as there are any, each once."""
        return tuple({one.name: one for one in (self.courier(), self.master(), *self.refiners)}.values())

    def members(self) -> list[Student]:
        """Return all that answer questions, but those kept for refining. Raises OperatorError for none.

        Who makes proposals on a topic is asked a question only by name.
        """
        kept = {self.parts.oracle, self.parts.arbiter}
        able = [one for one in self.students.values() if not one.model.embeddings and not one.topics]
        members = [one for one in able if one.name not in kept] or able
        if not members:
            raise OperatorError(
                "the roster has no student that answers questions",
                expected="at least one student under `students`",
                try_next="add one to studium.yaml, or remove `students` to use the embedded ones",
            )
        return members

    def courier(self) -> Student:
        """Return the small one: as named, else of the fastest tier, the first of highest priority."""
        return self._courier

    def master(self) -> Student:
        """Return the large one: as named, else of the best tier, by what its card says, then priority."""
        return self._master

    @cached_property
    def _courier(self) -> Student:
        return self.playing(COURIER) or min(
            self.members(), key=lambda one: (_rank(one), -one.priority, one.name)
        )

    @cached_property
    def _master(self) -> Student:
        return self.playing(MASTER) or max(
            self.members(),
            key=lambda one: (
                _rank(one),
                sum({**one.former_skills, **one.skills}.values()),
                one.priority,
                one.name,
            ),
        )


def _rank(student: Student) -> int:
    return _TIERS.index(student.tier)
