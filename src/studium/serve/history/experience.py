"""What is known of students before a question is asked: by kind of question, from cards and from what was graded.

`Experience` is what the ensemble asks of it. `CardsOnly` knows the cards of the embedded students and nothing else.
"""

from collections.abc import Sequence
from typing import Protocol

from studium.records.answers import Answer, Query
from studium.records.models import Student
from studium.serve.calls import Known
from studium.serve.history.evidence_history import InCommon

# What stands in for a student of which nothing is known: as good as any other.
UNKNOWN = 0.5
# A card's score comes from 500 problems per level, but not from this user's questions.
CARD_EVIDENCE = 50.0
# What the card of the model before counts, once another speaks in its place.
FORMER_EVIDENCE = 10.0


class Experience(Protocol):
    """Kinds of questions, and how reliable students are at each."""

    def kind(self, question: str, domain: str) -> str:
        """Return the kind of a question: its domain's name, or where that is empty the cluster it is in."""
        ...

    def known(self, student: Student, kind: str) -> Known:
        """Return what is known of a student for a kind of question. Takes microseconds."""
        ...

    def in_common(self, students: Sequence[Student], kind: str, wrong_answers: float) -> InCommon:
        """Return what these students' voices have in common at a kind of question. Takes microseconds.

        `wrong_answers` is the guess of who made the questions, for where nobody counted.
        """
        ...

    def calibrated(self, confidence: float, kind: str = "") -> float:
        """Return how often answers of this computed confidence, to such questions, were right, 0 to 1."""
        ...

    def answered(self, query: Query, answer: Answer) -> None:
        """Take note of what was answered. Never waits."""
        ...


class CardsOnly:
    """No history: what the students' cards say, and a middling guess where they say nothing."""

    def kind(self, question: str, domain: str) -> str:
        return domain or "open"

    def known(self, student: Student, kind: str) -> Known:
        if kind in student.skills:
            return Known(student.skills[kind], CARD_EVIDENCE, family_of(student))
        if kind in student.former_skills:
            return Known(student.former_skills[kind], FORMER_EVIDENCE, family_of(student))
        return Known(UNKNOWN, 0.0, family_of(student))

    def in_common(self, students: Sequence[Student], kind: str, wrong_answers: float) -> InCommon:
        return InCommon(wrong_answers=wrong_answers)

    def calibrated(self, confidence: float, kind: str = "") -> float:
        return confidence

    def answered(self, query: Query, answer: Answer) -> None:
        return


def family_of(student: Student) -> str:
    """Return what a student shares with others that make the same mistakes: its base model."""
    return student.model.family or f"{student.model.engine}:{student.model.source}"
