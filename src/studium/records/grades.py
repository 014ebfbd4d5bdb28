"""What is kept of an answer, who judged it, and what that says of its students.

A grade is a fact about one student and one question: it is added, never changed; a later one may take its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

WHOLE = ""
"""Stands for the ensemble's answer as a whole where a student's name would stand: its computed confidence is graded."""


class GradeSource(StrEnum):
    """Who graded."""

    VERIFIER = "verifier"
    JUDGE = "judge"
    FEEDBACK = "feedback"


class Rating(StrEnum):
    """What somebody says of an answer; CORRECTED comes with the text that would have been right."""

    GOOD = "good"
    BAD = "bad"
    CORRECTED = "corrected"


@dataclass(frozen=True, slots=True)
class Grade:
    """How right one student was on one question: `score` and `weight` 0 to 1; weight 0 says nothing any more.

    `kind` is the kind of question, `model` the student's fingerprint at the time, `confidence` what it (or, for
    WHOLE, the ensemble) had said of this answer. Of grades with one `key` only the newest counts; empty: its own.
    """

    at: float
    request_id: str
    student: str
    kind: str
    source: GradeSource
    score: float
    weight: float = 1.0
    model: str = ""
    confidence: float | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class KeptMember:
    """One student's part in a kept answer."""

    student: str
    fate: str
    answer: str | None
    text: str
    confidence: float | None
    seconds: float
    model: str = ""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer as it is kept for feedback: `answer` is canonical in its domain, None where nothing could be read.

    `confidence` is what the ensemble computed, before calibration.
    """

    request_id: str
    at: float
    kind: str
    domain: str
    question: str
    text: str
    answer: str | None
    status: str
    strategy: str
    complexity: str
    chosen_model: str
    agreement: float
    confidence: float
    api_key_name: str
    members: tuple[KeptMember, ...]

    def as_row(self) -> Mapping[str, Any]:
        """Return the fields that are columns of their own."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "members"}


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody said of an answer."""

    request_id: str
    at: float
    rating: Rating
    api_key_name: str
    correction: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Counts:
    """Grades of one student, at one kind of question, with one model: how many right and wrong, the old ones faded."""

    student: str
    kind: str
    model: str
    right: float
    wrong: float

    @property
    def total(self) -> float:
        return self.right + self.wrong


@dataclass(frozen=True, slots=True)
class GradedReply:
    """One reply to a question whose answer is known, kept to learn which replies to one question go together.

    `question` tells questions apart, and `answer` answers to one question; neither need be readable. Empty `answer`:
    none was given. `sample` 0 is a student's first try; of one question, student, model and sample there is one row.
    """

    at: float
    question: str
    kind: str
    student: str
    model: str
    sample: int
    answer: str
    right: bool


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How often two replies to one question were both right, only the first, only the second, or both mistaken.

    Of `first`, given before `second`, the same student for two tries of one. Mistakes are the same or others.
    """

    kind: str
    first: str
    second: str
    first_model: str = ""
    second_model: str = ""
    both: int = 0
    first_only: int = 0
    second_only: int = 0
    same_mistake: int = 0
    other_mistake: int = 0

    @property
    def total(self) -> int:
        return self.both + self.first_only + self.second_only + self.mistaken

    @property
    def mistaken(self) -> int:
        """How often neither was right."""
        return self.same_mistake + self.other_mistake
