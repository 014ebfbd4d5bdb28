"""Files of real answers: a line for each question, with what every model said and whether it was right.

{"question": text, "replies": {model: {"answer": number, text or null, "correct": true or false}}}, the same models
in the same order in all lines, the strongest last; other fields are passed over.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studium.errors import CallerError
from studium.fleet.simulate.workloads import STUDENT_SIZES_GB
from studium.records.answers import Fate, MemberReply


@dataclass(frozen=True, slots=True)
class Line:
    """One question with the reply of every model, and whether each was right."""

    question: str
    replies: Mapping[str, MemberReply]
    right: Mapping[str, bool]


def read(path: Path, least: int) -> list[Line]:
    """Read such a file of more than `least` lines. Raises CallerError with the line that offends."""
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as wrong:
        raise CallerError(
            f"cannot read {path}: {wrong}", expected="a JSON Lines file", try_next="give another --file"
        ) from wrong
    lines: list[Line] = []
    for number, text in enumerate(texts, 1):
        try:
            line = _line(json.loads(text))
            _must(not lines or list(line.right) == list(lines[0].right), "other models than line 1")
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise CallerError(
                f"line {number} of {path} cannot be used: {wrong or type(wrong).__name__}",
                expected='{"question": text, "replies": {model: {"answer": number or null, "correct": true or false}}}',
                try_next="correct or remove the line",
            ) from wrong
        lines.append(line)
    if len(lines) <= least:
        raise CallerError(
            f"{path} has {len(lines)} lines",
            expected=f"more than {least}",
            try_next="give a longer file",
        )
    return lines


def _line(found: Any) -> Line:
    replies: dict[str, MemberReply] = {}
    right: dict[str, bool] = {}
    _must(isinstance(found["question"], str), "the question is no text")
    _must(3 <= len(found["replies"]) <= 1 + len(STUDENT_SIZES_GB), "3 to 7 models are expected")
    for name, reply in found["replies"].items():
        answer, right[name] = reply["answer"], reply["correct"]
        _must(isinstance(right[name], bool), f"correct of {name} is neither true nor false")
        _must(answer is None or isinstance(answer, int | float | str), f"answer of {name} is no plain value")
        fate = Fate.UNREADABLE if answer is None else Fate.ANSWERED
        replies[name] = MemberReply(name, fate, answer=None if answer is None else str(answer))
    return Line(found["question"], replies, right)


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
