"""How much a question may deserve, guessed from its words. Pure.

Prompt-only classification is weak: on the answers of six real models, prompt length ranks questions hardly
better than chance (area .59 where .50 is random). So the guess is only a ceiling: asking starts as for a
simple question, and disagreement decides whether it goes on.
"""

import re

from studium.records.answers import Complexity

LONG_WORDS, VERY_LONG_WORDS = 120, 600
_DEEP = re.compile(
    r"\b(prove|derive|design|architect|analy[sz]e|compare|evaluate|critique|trade-?offs?|step by step|explain why|"
    r"implement|refactor|optimi[sz]e)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"```|^\s{4}\S", re.MULTILINE)


def ceiling(question: str, *, recognised: bool, num_parts: int) -> Complexity:
    """Return how far asking may go for a question whose caller did not say.

    `recognised`: a domain knows the question and can compare answers; `num_parts`: questions in the question.
    """
    if recognised:
        return Complexity.MEDIUM
    words = len(question.split())
    signs = (
        (words > LONG_WORDS) + bool(_DEEP.search(question)) + bool(_CODE.search(question)) + (num_parts > 1)
    )
    if words > VERY_LONG_WORDS or signs >= 3:
        return Complexity.EXPERT
    return Complexity.COMPLEX if signs else Complexity.MEDIUM
