"""How a question is put to students, as generators without I/O.

A strategy yields a `Batch` of students to ask, is sent their replies, and in the end returns a
`Verdict`. Whether a batch is asked in turn or together is the driver's affair; a student that failed
comes back as a reply that says so.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from studium.records.answers import AnswerStatus, Fate, MemberReply
from studium.records.models import Student
from studium.serve import consensus

# Weight of a student nothing is known of in the question's domain.
UNKNOWN_CEILING = 1.0


@dataclass(frozen=True, slots=True)
class Brief:
    """What a strategy knows: whom it may ask, in order of preference, and how answers compare.

    `students` are those the complexity allows; `reserves` stand by in case none of them has an
    answer. `domain` is the name under which skills are looked up.
    """

    students: tuple[Student, ...]
    reserves: tuple[Student, ...]
    domain: str
    same: consensus.Same

    def ceiling(self, student: Student) -> float:
        """The most that the student's vote can weigh here."""
        return student.skills.get(self.domain, UNKNOWN_CEILING)

    def ceilings(self) -> dict[str, float]:
        """The same for every student of the brief, by name."""
        return {student.name: self.ceiling(student) for student in (*self.students, *self.reserves)}


@dataclass(frozen=True, slots=True)
class Batch:
    """Students to ask now. Once `settled` holds of the replies so far, the others need not go on.

    A `live` batch has one student, whose words may be passed on as they come.
    """

    students: tuple[Student, ...]
    settled: Callable[[Sequence[MemberReply]], bool]
    live: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the strategy made of the replies. `winner` is None where nobody gave an answer."""

    status: AnswerStatus
    winner: MemberReply | None
    agreement: float
    confidence: float
    flags: tuple[str, ...] = ()


Strategy = Generator[Batch, Sequence[MemberReply], Verdict]


def single(brief: Brief) -> Strategy:
    """Ask one student; the next ones only if it has no answer (requirement ENS-5).

    Its words are live only where nobody could replace it: what was passed on cannot be taken back.
    """
    replies: list[MemberReply] = []
    for number, student in enumerate((*brief.students, *brief.reserves)):
        replies += yield Batch((student,), _never, live=not brief.reserves)
        if replies[-1].fate is Fate.ANSWERED:
            return _judge(brief, replies, ("fallback",) if number else ())
    return _judge(brief, replies, ())


def committee(brief: Brief) -> Strategy:
    """Ask as few as settle it: the fewest that could agree, then as many more as it takes.

    The answer is the one everybody together would have given: asking stops once those who are left
    could not change it (`consensus.settled`). Where nobody has an answer, the reserves are asked.
    """
    ceilings = brief.ceilings()
    replies: list[MemberReply] = []

    def silent(so_far: Sequence[MemberReply]) -> list[Student]:
        heard = {reply.student for reply in (*replies, *so_far)}
        return [student for student in brief.students if student.name not in heard]

    def is_settled(so_far: Sequence[MemberReply]) -> bool:
        groups = consensus.group((*replies, *so_far), ceilings, brief.same)
        return consensus.settled(groups, [ceilings[student.name] for student in silent(so_far)])

    while not is_settled(()):
        left = silent(())
        groups = consensus.group(replies, ceilings, brief.same)
        number = consensus.fewest_to_settle(groups, [ceilings[student.name] for student in left])
        replies += yield Batch(tuple(left[:number]), is_settled)
    flags: tuple[str, ...] = ()
    if not _has_answer(replies) and brief.reserves:
        flags = ("fallback",)
        replies += yield Batch(brief.reserves, _never)
    return _judge(brief, replies, flags)


STRATEGIES: dict[str, Callable[[Brief], Strategy]] = {"single": single, "committee": committee}


def _judge(brief: Brief, replies: Sequence[MemberReply], flags: tuple[str, ...]) -> Verdict:
    ceilings = brief.ceilings()
    groups = consensus.group(replies, ceilings, brief.same)
    if groups:
        return Verdict(
            AnswerStatus.ANSWERED,
            groups[0].replies[0],
            consensus.agreement(groups),
            consensus.confidence(groups, ceilings),
            flags,
        )
    partial = max(
        (reply for reply in replies if reply.fate in (Fate.UNREADABLE, Fate.LATE) and reply.text),
        key=lambda reply: (reply.fate is Fate.UNREADABLE, len(reply.text)),
        default=None,
    )
    abstained = next((reply for reply in replies if reply.fate is Fate.ABSTAINED), None)
    if abstained is not None:
        return Verdict(AnswerStatus.UNABLE, abstained, 0.0, 0.0, flags)
    return Verdict(AnswerStatus.PARTIAL, partial, 0.0, 0.0, (*flags, "partial"))


def _has_answer(replies: Sequence[MemberReply]) -> bool:
    return any(reply.fate is Fate.ANSWERED for reply in replies)


def _never(_replies: Sequence[MemberReply]) -> bool:
    return False
