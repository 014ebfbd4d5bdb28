"""Experience without a store: what the students' cards say, and a middling guess where they say nothing."""

from collections.abc import Sequence

from studium.records.answers import Answer, Query
from studium.records.models import Student
from studium.serve.calls import Known
from studium.serve.history.evidence_history import InCommon
from studium.serve.history.reliability import ROOT, card_of, family_of


class CardsOnly:
    def kind(self, question: str, domain: str) -> str:
        return domain or "open"

    def known(self, student: Student, kind: str) -> Known:
        card, grades = card_of(student, kind)
        return Known(ROOT if card is None else card, grades, family_of(student))

    def in_common(self, students: Sequence[Student], kind: str, wrong_answers: float) -> InCommon:
        return InCommon(wrong_answers=wrong_answers)

    def calibrated(self, confidence: float, kind: str = "") -> float:
        return confidence

    def answered(self, query: Query, answer: Answer) -> None:
        return
