"""How questions are worded, and how a question is led back to the task it asks.

A `Phrasebook` holds several templates per task ("What is {a} + {b}?"). `ask` fills one in, now and
then the way people type: in lower case, without punctuation, with a greeting. `read` goes the other
way. Both sides come from the same templates, so a domain recognises whatever it can ask.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from random import Random
from typing import NamedTuple

_GREETING = re.compile(
    r"(?:please|hello|hi|hey|quick question|a question|can you tell me|tell me|i wonder)[\s,:!.]+",
    re.IGNORECASE,
)
_THANKS = re.compile(r"[\s,.!?]+(?:please|thanks|thank you)[\s.!]*$", re.IGNORECASE)
_AROUND_SIGNS = re.compile(r"\s*([-+*/=×−])\s*|(?<=\()\s+|\s+(?=\))")
_SLOT = re.compile(r"\\\{(\w+)\\\}")
_OPENINGS = ("Please: ", "Hello! ", "Hi, ", "Hey, ", "Quick question: ", "Can you tell me: ", "Tell me: ")
_CLOSINGS = (" Thanks!", " Thank you.", " Please.")


class Reading(NamedTuple):
    """A question understood: the task it asks and the text in each slot."""

    task: str
    slots: Mapping[str, str]


class Phrasebook:
    """The templates of one domain. `slots` gives the regular expression each slot must match."""

    def __init__(self, templates: Mapping[str, Sequence[str]], slots: Mapping[str, str]) -> None:
        self.templates = templates
        self._slots = slots

    def ask(self, rng: Random, task: str, **values: object) -> str:
        """Return a question for `task`, in a wording drawn from `rng`."""
        return _as_typed(rng, rng.choice(self.templates[task]).format(**values))

    def read(self, question: str) -> Reading | None:
        """Return what a question asks, or None where no template fits."""
        tidied = tidy(question)
        for task, pattern in self._patterns:
            match = pattern.fullmatch(tidied)
            if match:
                return Reading(task, match.groupdict())
        return None

    @cached_property
    def _patterns(self) -> Sequence[tuple[str, re.Pattern[str]]]:
        return [(task, self._compile(text)) for task, texts in self.templates.items() for text in texts]

    def _compile(self, template: str) -> re.Pattern[str]:
        def slot(match: re.Match[str]) -> str:
            return f"(?P<{match[1]}>{self._slots[match[1]]})"

        return re.compile(_SLOT.sub(slot, re.escape(tidy(template))), re.DOTALL)


def tidy(question: str) -> str:
    """Return a question without what carries no meaning: case, greetings, spacing, closing marks."""
    text = " ".join(question.split())
    while (
        shorter := _THANKS.sub("", _GREETING.sub("", text, count=1) if _GREETING.match(text) else text)
    ) != text:
        text = shorter
    text = _AROUND_SIGNS.sub(lambda match: match[1] or "", text.casefold())
    return text.replace("×", "*").replace("−", "-").strip(" ?.!:=\"'")


def _as_typed(rng: Random, question: str) -> str:
    """Vary a question in a way that changes nothing in what it asks; three in five stay as they are."""
    manner = rng.randrange(15)
    if manner == 0:
        return question.lower()
    if manner == 1:
        return question[0].lower() + question[1:]
    if manner == 2:
        return question.rstrip("?.!")
    if manner == 3:
        return question.lower().rstrip("?.!")
    if manner == 4:
        return rng.choice(_OPENINGS) + question
    if manner == 5:
        return question + rng.choice(_CLOSINGS)
    return question
