"""How a reply is read: where its final answer stands, and whether it declines to answer.

Every domain ends its reference replies with a line `Answer: X`. Larger models say it in other
ways ("**Answer:** X", "the answer is X", `\\boxed{X}`): those are read as well. What an answer means
is left to the domains.
"""

import re
from collections.abc import Callable

ABSTENTION = "I cannot answer that."
"""The one sentence with which the embedded students decline."""

_ANSWER_LINE = re.compile(
    r"^[ \t*_#>]*(?:(?:the|my)[ \t]+)?(?:final[ \t]+)?answer[ \t*_]*[:=][\s*_]*(\S.*?)[\s*_]*$",
    re.IGNORECASE | re.MULTILINE,
)
_BOXED = re.compile(r"\\boxed\{([^{}]+)\}")
_ANSWER_IS = re.compile(r"\banswer is:?\s+(\S[^\n]*?)(?:\.\s|\.?$)", re.IGNORECASE | re.MULTILINE)
_DECLINES = re.compile(r"\s*(?:sorry,\s*)?i (?:cannot|can't|can not) answer (?:that|this)\b", re.IGNORECASE)
_HEDGES = re.compile(
    r"\b(?:or|either|neither|nor|not|maybe|perhaps)\b|\bis(?:n't|n\u2019t)|\?", re.IGNORECASE
)
_DENIES = re.compile(
    r"\b(?:(?:no|without)(?!\s+(?:a\s+)?doubt\b)|never|cannot|[a-z]+n['\u2019]t|far\s+from|anything\s+but|hardly|barely"
    r"|scarcely|nobody|nothing(?!\s+but\b)|(?:less|more|fewer|greater|other)\s+than|at\s+(?:least|most)|opposite\s+of"
    r"|day\s+(?:before|after))\b|\bnon(?:-|\s+)?(?=\w)",
    re.IGNORECASE,
)
_CLAUSE_ENDS = re.compile(
    r"[,;:.!]\s|\b(?:so|therefore|thus|hence|(?<!anything )(?<!nothing )but)\b", re.IGNORECASE
)
_ASIDE = re.compile(r"\([^()]*\)")
_LATEX_INLINE = re.compile(r"\\[()]")
_WORD = re.compile(r"\w")
_GROUPED_NUMBER = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def final_answer(reply: str) -> str | None:
    """Return the last answer a reply states, as written, or None where it states none."""
    folded = reply.casefold()
    if "answer" not in folded and "\\boxed" not in folded:  # cheaper than to look for each pattern
        return None
    for pattern in (_ANSWER_LINE, _BOXED, _ANSWER_IS):
        found = pattern.findall(reply)
        if found:
            return found[-1].strip()
    return None


def abstains(reply: str) -> bool:
    """Say whether a reply declines to answer."""
    return _DECLINES.match(reply) is not None


def hedges(answer: str) -> bool:
    """Say whether an answer leaves a way out: "104 or 105", "not negative", "Is it 105?"."""
    return _HEDGES.search(answer) is not None


def denies(answer: str, meaning: str, read: Callable[[str], str | None]) -> bool:
    """Say whether an answer denies its meaning, as `read` reads it: "no threat", "cannot be allowed".

    What is denied must hold an answer itself: "7 without remainder" denies a remainder, "no carry, so 7" a carry.
    """
    found = _DENIES.search(answer)
    while found:
        clause_end = _CLAUSE_ENDS.search(answer, found.end())
        part = answer[found.end() : clause_end.start() if clause_end else None].strip()
        read_there = read(part) if part else None
        if read_there is not None:  # a list goes on after the comma
            return meaning in (read_there, read(answer[found.end() :]))
        found = _DENIES.search(answer, clause_end.end()) if clause_end else None
    return False


def without_asides(answer: str) -> str:
    """Return an answer without what stands in parentheses: "90 minutes (an hour and a half)".

    What is all in parentheses, as "(7)", is no aside; nor is LaTeX's mathematics within a line.
    """
    answer = _LATEX_INLINE.sub(" ", answer)
    rest = _ASIDE.sub("", answer)
    return rest if _WORD.search(rest) else answer


def normalise(answer: str) -> str:
    """Return an answer in the form in which equal answers are equal text.

    Case, outer quotes, emphasis and full stops are dropped, white space is collapsed, and a number
    is written plainly: "**1,250.0**" becomes "1250".
    """
    text = " ".join(answer.strip().strip("*_`\"'“”‘’ ").rstrip(".!").split()).casefold()
    if _GROUPED_NUMBER.fullmatch(text):
        text = text.replace(",", "")
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else str(number)
