"""Graded replies made by hand."""

from dataclasses import replace
from typing import Any

from studium.evals.grading import Graded

PLAIN = Graded(
    item="a", sample=0, domain="sums", level=1, question="2+2?", reply="4", answer="4", expected="4",
    reference="4", score=1.0,
)  # fmt: skip


def reply(item: object, score: float | None, **other: Any) -> Graded:
    return replace(PLAIN, item=str(item), score=score, **other)


def labelled(item: object, expected: str, answer: str | None, *, harmless: str = "fine") -> Graded:
    return reply(
        item,
        float(expected == answer),
        expected=expected,
        answer=answer,
        harm=expected != harmless,
        alarm=answer is not None and answer != harmless,
    )
