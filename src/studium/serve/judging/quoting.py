"""Puts what one model said before another: as data between marks nobody can forge, cut where there is little room.

Pure. A model that is shown a text may still do as the text says; marks and a sentence make that rarer, nothing
makes it impossible. So what decides (see `judging`) never rests on one showing alone.
"""

import hashlib
from collections.abc import Sequence

from studium.records.messages import Ask, Message
from studium.records.models import Student

# A text has at most as many tokens as bytes, English has one in four characters, small vocabularies one in two.
CHARACTERS_PER_TOKEN = 2
# Left for a reply of unknown length, and for what a chat template puts around texts.
KEPT_TOKENS, TEMPLATE_TOKENS = 256, 64
LONGEST_CHARACTERS = 8_000
LEAST_CHARACTERS = 40
CUT = " [... cut here ...]"


def cut(text: str, most_characters: int) -> str:
    """Return a text of at most `most_characters` and a mark; what is left out is its middle.

    Reasons begin a text and results end it.
    """
    if len(text) <= most_characters:
        return text
    head = most_characters // 3
    return text[:head].rstrip() + CUT + " " + text[len(text) - (most_characters - head) :].lstrip()


def room(student: Student, shown: Sequence[str], *, reply_tokens: int = KEPT_TOKENS) -> int:
    """Return how many characters more a student can be shown, 0 where nothing useful."""
    most = (student.model.context_tokens - reply_tokens - TEMPLATE_TOKENS) * CHARACTERS_PER_TOKEN
    left = most - sum(map(len, shown)) - len(student.system_prompt)
    return min(left, LONGEST_CHARACTERS) if left >= LEAST_CHARACTERS else 0


def fence(texts: Sequence[str]) -> str:
    """Return a mark that is in none of the texts; it follows from all of them, so none of their writers knew it."""
    mark = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
    while any(mark in text for text in texts):
        mark = hashlib.sha256(mark.encode()).hexdigest()[:12]
    return mark


def quoted(name: str, text: str, mark: str) -> str:
    """Return a text between its marks."""
    return f"<<{name} {mark}>>\n{text}\n<</{name} {mark}>>"


def conversation(ask: Ask) -> tuple[Message, ...]:
    """Return what was said to a model as a conversation, also where it was plain text."""
    return ask.messages if ask.prompt is None else (Message("user", ask.prompt),)
