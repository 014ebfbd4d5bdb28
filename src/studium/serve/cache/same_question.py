"""Where two questions differ in their words, and which differences can leave the meaning as it was. Pure.

One word changed moves the embedding of a whole question by less than a paraphrase does, so the cosine of questions
cannot tell "safe" from "unsafe" where it can tell "fix" from "repair". The words that differ are set against each
other instead: a question that only adds or drops a word is another one, and so is one with the opposite in spelling.
What is left are pairs of words for the embedding to judge alone; see docs/decisions/0029-near-in-meaning.md.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

MOST_DIFFERENCES = 3

_ASKING = "tell|explain|describe|show|give|write|list|name|suggest|recommend|summari[sz]e|translate|help|find|create"
# Ways to say nothing: how one asks, not what. Each leaves what is asked as it was.
_PLAINER: Sequence[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern, re.IGNORECASE), plain)
    for pattern, plain in (
        (r"\b(what|who|where|how|that|it|here|there)['’]s\b", r"\1 is"),
        (r"^\s*(?:hi|hello|hey)(?:\s+there)?\s*[,!.]\s*", ""),
        (r"^\s*(?:please|kindly)\s*,?\s+", ""),
        (rf"^\s*(?:can|could|would|will)\s+you\s+(?:please\s+|kindly\s+)?(?=(?:{_ASKING})\b)", ""),
        (r"[\s,]+(?:please|thanks|thank\s+you)\s*([.?!]*)\s*$", r"\1"),
        (r"^\s*(explain|describe|summari[sz]e)\s+(?:to\s+)?(?:me|us)\s+", r"\1 "),
        (r"^\s*((?:explain|describe|summari[sz]e)\b.*?)\s+(?:to|for)\s+(?:me|us)\s*([.?!]*)\s*$", r"\1\2"),
        (r"\bhow\s+(?:do|can|could|would|should|might)\s+(?:i|we|you|one)\s+", "how to "),
        (r"\bwhat\s+is\s+(?:the|a)\s+way\s+to\s+", "how to "),
    )
]
_WORD = re.compile(r"[^\W_]+(?:['’.,:][^\W_]+)*|[^\w\s]|_")
_PUNCTUATION = frozenset(".,!?;:")
# Heads that turn a word into its opposite, or into the other of two: import and export, internal and external.
_HEADS_TEXT = (
    "un in im il ir dis non anti de en ex em mis counter over under up down out pre post pro sub super inter intra "
    "micro macro mini maxi hyper hypo fore after mono multi bi uni re"
)
_HEADS = frozenset(_HEADS_TEXT.split())
_TAILS = (("less", "ful"), ("er", "ee"), ("or", "ee"), ("male", "female"), ("man", "woman"), ("men", "women"))
_LEAST_SHARED = 3


def plainly(question: str) -> str:
    """Return a question without what only dresses it: greetings, please, "how can I" for "how do I"."""
    for pattern, plainer in _PLAINER:
        question = pattern.sub(plainer, question)
    return question.strip()


def words_of(question: str) -> list[str]:
    """Return a plain question's words and signs in small letters, without the punctuation of sentences."""
    return [token for token in _WORD.findall(question.lower()) if token not in _PUNCTUATION]


def differences(one: str, other: str) -> Sequence[tuple[str, str]] | None:
    """Return the words that stand in each other's place in two plain questions; None where no embedding may judge.

    That is where a word was added, dropped or moved, where more than a few differ, where a number or sign does, and
    where a word is the other's opposite by its spelling. Nothing at all: they are equal to the word.
    """
    ones, others = words_of(one), words_of(other)
    found: list[tuple[str, str]] = []
    for what, a, b, c, d in SequenceMatcher(None, ones, others, autojunk=False).get_opcodes():
        if what in ("insert", "delete") or b - a != d - c:
            return None
        if what == "replace":
            found += zip(ones[a:b], others[c:d], strict=True)
    moved = any(here in others or there in ones for here, there in found)
    judged = not moved and len(found) <= MOST_DIFFERENCES and all(_may_agree(*pair) for pair in found)
    return found if judged else None


def opposite_in_spelling(one: str, other: str) -> bool:
    """Say whether two words differ by a head or tail that turns one into the other's opposite or counterpart."""
    short, long = sorted((one, other), key=len)
    if len(short) >= _LEAST_SHARED and long.endswith(short) and long[: -len(short)] in _HEADS:
        return True
    for head in _HEADS:
        tail = one.removeprefix(head)
        shared = tail != one and len(tail) >= _LEAST_SHARED and other.endswith(tail)
        if shared and other.removesuffix(tail) in _HEADS - {head}:
            return True
    ends = (*_TAILS, *((second, first) for first, second in _TAILS))
    return any(
        one.endswith(first)
        and other.endswith(second)
        and one.removesuffix(first) == other.removesuffix(second)
        for first, second in ends
    )


def _may_agree(one: str, other: str) -> bool:
    spelt = all(word[0].isalpha() and not any(map(str.isdigit, word)) for word in (one, other))
    return spelt and not opposite_in_spelling(one, other)
