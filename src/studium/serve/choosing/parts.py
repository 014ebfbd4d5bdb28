"""Finds the questions in a question by its form: numbered, lettered or listed, or sentence after sentence. Pure.

Cautious on purpose: taking apart what belongs together costs the answer, leaving together what could be
taken apart costs only time. So every part must ask something by itself, and none may point to another.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

MOST_PARTS = 12
# What stands before a list is an announcement where it is this short ("Answer these:"), else it is needed
# to understand every part.
ANNOUNCEMENT_WORDS = 8
_MARKS = (
    re.compile(r"(?:^|(?<=\s))\(?(\d{1,2})[.):]\s+(?=\S)"),
    re.compile(r"^[ \t]*\(?([a-h])[.)]\s+(?=\S)", re.MULTILINE),
)
_BULLET = re.compile(r"^[ \t]*[-*•][ \t]+(?=\S)", re.MULTILINE)
# Two long patterns, compiled when first needed: that takes a part of the time to start.
_ASKS = (
    r"(?:please\s+)?(?:what|who|whom|whose|when|where|why|how|which|is|are|was|were|do|does|did|can|could|will|"
    r"would|should|has|have|sort|count|compute|calculate|find|add|subtract|multiply|divide|convert|name|list|"
    r"give|tell|explain|describe|define|translate|write|summari[sz]e|compare|solve|work out|reverse|order|put|"
    r"arrange|classify|show|prove|evaluate|simplify)\b"
)
_POINTS_BACK = (
    r"\b(?:it|its|he|she|him|her|his|they|them|their|this|these|those|above|previous|former|latter|both|each|"
    r"(?:the|your|that) (?:result|answer|sum|number|first|second|last)|(?:part|question|step|number) \d|"
    r"that(?=\s*[?.!,;]|\s+(?:one|is|was)\b))\b"
)
_WORD = re.compile(r"\w+")
_BETWEEN_SENTENCES = re.compile(r"(?<=\?)\s+|\n+")


def parts_of(question: str, recognised: Callable[[str], bool] = lambda text: False) -> tuple[str, ...]:
    """Return the questions in a question, in order, at most MOST_PARTS; empty where it is better asked whole.

    `recognised` says whether a domain knows a text as a question of its own.
    """
    for lead, items in _listings(question):
        if len(items) > 1:
            whole = all(_stands_alone(item, recognised) for item in items) and len(items) <= MOST_PARTS
            return tuple(_with_lead(lead, item) for item in items) if whole else ()
    sentences = [one.strip() for one in _BETWEEN_SENTENCES.split(question) if one.strip()]
    alone = all(_stands_alone(sentence, recognised) for sentence in sentences)
    return tuple(sentences) if alone and 1 < len(sentences) <= MOST_PARTS else ()


def _listings(question: str) -> Iterator[tuple[str, list[str]]]:
    """Yield what each kind of list makes of a question: the text before it, and its items."""
    for marks, first in zip(_MARKS, ("1", "a"), strict=True):
        yield _cut(question, _in_sequence(marks, question, first))
    yield _cut(question, list(_BULLET.finditer(question)))


def _in_sequence(marks: re.Pattern[str], question: str, first: str) -> list[re.Match[str]]:
    """Return the marks that count on from the first one; others are part of the text."""
    found: list[re.Match[str]] = []
    wanted = first
    for mark in marks.finditer(question):
        if mark[1] == wanted:
            found.append(mark)
            wanted = str(int(wanted) + 1) if wanted.isdigit() else chr(ord(wanted) + 1)
    return found


def _cut(question: str, marks: list[re.Match[str]]) -> tuple[str, list[str]]:
    if not marks:
        return question, []
    ends = [(here.end(), there.start()) for here, there in pairwise(marks)]
    ends.append((marks[-1].end(), len(question)))
    return question[: marks[0].start()].strip(), [question[start:end].strip() for start, end in ends]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _stands_alone(item: str, recognised: Callable[[str], bool]) -> bool:
    """Say whether an item asks something that can be understood without its neighbours."""
    if recognised(item):
        return True
    if "\n\n" in item or _compiled(_POINTS_BACK).search(item) or len(_WORD.findall(item)) < 3:
        return False
    return item.endswith("?") or _compiled(_ASKS).match(item) is not None


def _with_lead(lead: str, item: str) -> str:
    announces = len(lead.split()) <= ANNOUNCEMENT_WORDS and not lead.endswith("?")
    return item if announces else f"{lead}\n\n{item}"
