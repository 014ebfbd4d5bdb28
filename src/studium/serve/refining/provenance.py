"""Who said what: leads every statement of a final text back to the text it came from. Pure.

Statements are lines and sentences. One that stands in an earlier text as it is was said there; one that
resembles an earlier one was said there and changed by the author of the final text; the rest are the author's own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from studium.records.examples import Claim

# Of the letters two statements share, in order (difflib's ratio): above the first they are one statement,
# above the second one is a changed form of the other.
SAME, CHANGED = 0.95, 0.6
MOST_CLAIMS, LONGEST_CLAIM_CHARACTERS = 200, 2_000
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-ZÀ-Þ0-9\"'(])")


@dataclass(frozen=True, slots=True)
class Said:
    """A text somebody contributed, with what its call cost."""

    by: str
    text: str
    cost_usd: float | None = 0.0
    seconds: float = 0.0


def statements(text: str) -> list[str]:
    """Return the statements of a text in order: its lines, cut into sentences; at most MOST_CLAIMS."""
    found: list[str] = []
    for line in text.splitlines():
        found += [
            part.strip()[:LONGEST_CLAIM_CHARACTERS] for part in _SENTENCE_END.split(line) if part.strip()
        ]
    return found[:MOST_CLAIMS]


def provenance(final: Said, earlier: Sequence[Said]) -> tuple[Claim, ...]:
    """Return every statement of `final` with who said it first; `earlier` in the order in which they spoke."""
    known = [(statement, said) for said in earlier for statement in statements(said.text)]
    return tuple(_claim(statement, final, known) for statement in statements(final.text))


def _claim(statement: str, final: Said, known: Sequence[tuple[str, Said]]) -> Claim:
    best, origin = 0.0, final
    for text, said in known:
        likeness = _likeness(statement, text, at_least=max(best, CHANGED))
        if likeness > best:
            best, origin = likeness, said
    if best >= SAME:
        return Claim(statement, origin.by, (), origin.cost_usd, origin.seconds)
    if best >= CHANGED and origin.by != final.by:
        return Claim(statement, origin.by, (final.by,), final.cost_usd, final.seconds)
    return Claim(statement, final.by, (), final.cost_usd, final.seconds)


def _likeness(one: str, other: str, *, at_least: float) -> float:
    """Return how alike two statements are, 0 to 1; 0 where that is surely below `at_least`."""
    if one.casefold() == other.casefold():
        return 1.0
    matcher = SequenceMatcher(None, one.casefold(), other.casefold(), autojunk=False)
    if matcher.real_quick_ratio() < at_least or matcher.quick_ratio() < at_least:
        return 0.0
    return matcher.ratio()
