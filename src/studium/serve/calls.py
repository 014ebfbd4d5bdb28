"""What a strategy and the driver say to each other: batches of calls one way, replies the other, a verdict last.

A strategy is a generator without I/O. It yields a `Batch`, is sent the replies in the order of the batch's
calls (a student that failed comes back as a reply that says so), and returns a `Verdict`. Whether a batch is
asked in turn or together is the driver's affair. What a strategy may know of the world stands in its `Brief`.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studium.fleet import Fleet
from studium.records.answers import AnswerStatus, Complexity, MemberReply, Part
from studium.records.messages import Ask
from studium.records.models import Capabilities, Student

Same = Callable[[str, str], bool]
Extract = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Call:
    """One ask of one student. `ask` None is the question itself, `extract` None the domain's way to read it.

    `sample` above 0 marks a further try of a student that was asked the same before. `instead_of` is the model that
    was lost, in whose place this student is asked.
    """

    student: Student
    ask: Ask | None = None
    extract: Extract | None = None
    part: Part = Part.MEMBER
    sample: int = 0
    instead_of: str = ""


def _never(_replies: Sequence[MemberReply]) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls to make now. Once `settled` holds of the replies so far, the others need not go on.

    A `live` batch has one call, whose words may be passed on as they come. `note` tells people what it is for.
    """

    calls: tuple[Call, ...]
    settled: Callable[[Sequence[MemberReply]], bool] = _never
    live: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a strategy made of the replies. `winner` is None where nobody gave an answer.

    `text` is what is told where no single reply is: merged, joined or refined. `complexity` is how far the
    asking went, None: as far as it was allowed. `notes` go into the answer's report,
    each under the name of who has something to tell.
    """

    status: AnswerStatus
    winner: MemberReply | None
    agreement: float
    confidence: float
    flags: tuple[str, ...] = ()
    text: str | None = None
    complexity: Complexity | None = None
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])


Strategy = Generator[Batch, Sequence[MemberReply], Verdict]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of machine and clock now: advice, which may be otherwise a moment later."""

    fleet: Fleet
    deadline: float

    def seconds_to_answer(self, student: Student) -> float:
        """Return how long the student's answer would take from now on, the load it would cause included."""
        return self.fleet.seconds_to_answer(student)

    def seconds_to_load(self, student: Student) -> float:
        """Return how much of that would go by until its model is in memory; 0 where it is."""
        return self.fleet.seconds_to_load(student)

    def fit_together(self, students: Sequence[Student]) -> bool:
        """Say whether the students' models could be in memory side by side, as far as is known."""
        return self.fleet.fit_together(students)

    def seconds_left(self) -> float:
        """Return how long the question may still take."""
        return self.deadline - time.monotonic()

    def capabilities(self, student: Student) -> Capabilities:
        """Return what the student's engine can do."""
        return self.fleet.engines[student.model.engine].capabilities


@dataclass(frozen=True, slots=True)
class Stage:
    """How far to go before going on: bounds of one complexity and the confidence that it asks for, 0 to 1."""

    complexity: Complexity
    min_students: int
    max_students: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one student for this kind of question.

    `reliability` is the chance that it is right, 0 to 1; `evidence` how many grades stand behind that;
    `family` is shared by students that share a base and so share mistakes. `echo` says how strongly further
    tries of this student go with its first, 0 to 1; None where nobody measured it.
    """

    reliability: float
    evidence: float
    family: str
    echo: float | None = None


@dataclass(frozen=True, slots=True)
class SubQuestion:
    """One part of a question as its own domain sees it: how it is read, and how good students are at its kind."""

    text: str
    kind: str
    recognised: bool
    extract: Extract
    known: Mapping[str, Known]


@dataclass(frozen=True, slots=True)
class Brief:
    """What a strategy knows: whom it may ask, in order of preference, and how answers compare.

    `students` are those the last stage allows; `reserves` stand by in case none of them has an answer.
    `recognised` says that a domain knows the question: then a decline says nothing about it.
    `judge` ranks and merges where answers cannot be compared; None where the roster names nobody.
    `parts` are the questions found in the question by its form; `look_at` tells of a part what `known`, `extract`
    and `kind` tell of the whole. `wrong_answers` is how many wrong answers a student might hit on, `commons` and
    `kinship` say how strongly all students, and those of one family, go together (0 to 1), and `calibrated`
    turns a computed confidence into the share right, `check` grades a reply where the domain can.
    """

    students: tuple[Student, ...]
    reserves: tuple[Student, ...]
    ask: Ask
    question: str
    domain: str
    kind: str
    recognised: bool
    same: Same
    extract: Extract
    known: Mapping[str, Known]
    stages: tuple[Stage, ...]
    outlook: Outlook
    parts: tuple[str, ...] = ()
    judge: Student | None = None
    courier: Student | None = None
    master: Student | None = None
    wrong_answers: float = 10.0
    commons: float = 0.0
    kinship: float = 0.3
    calibrated: Callable[[float], float] = float
    check: Callable[[str, str], float | None] | None = None
    look_at: Callable[[str], SubQuestion] | None = None
